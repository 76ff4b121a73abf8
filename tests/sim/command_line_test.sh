#!/usr/bin/env bash
# What dst-sim says and how it ends.
set -uo pipefail
sim=$DST_BUILD/dst-sim
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "$1"
    exit 1
}
# code EXPECTED COMMAND...
code() {
    local expected=$1
    shift
    "$@" >"$folder/out" 2>&1
    local got=$?
    [ "$got" -eq "$expected" ] || fail "$* ended with $got, not $expected: $(cat "$folder/out")"
}

code 0 "$sim" --list
grep -q "^exporter  *A disk behind" "$folder/out" || fail "--list does not name the scenarios"
code 0 "$sim" --scenario exporter --seed 3
code 0 "$sim" --seeds 18446744073709551614..18446744073709551615
grep -q "2 runs: 0 failed" "$folder/out" || fail "the ends of the seeds are not both included"
for words in "--seeds 2..1" "--seed x" "--scenario none" "--dance"; do
    read -r -a options <<<"$words"
    code 2 "$sim" "${options[@]}"
done

# A drawn scenario is a file as any other, and the same run.
"$sim" --seed 12 --print >"$folder/mine.toml"
digest() { "$sim" "$@" | grep -o "digest [0-9a-f]*"; }
[ "$(digest --seed 12)" = "$(digest --scenario "$folder/mine.toml" --seed 12)" ] ||
    fail "the printed scenario of a seed is another run"

# A scenario that asks for the impossible fails, and says how to see it again: nothing protects the
# handshake of a plain client's requests from bits that are turned over.
cat >"$folder/impossible.toml" <<'TOML'
about = "Bits are turned over where nobody can see it."
[[host]]
name = "far"
disks = [{ path = "/disk", size = "256K" }]
[[host]]
name = "near"
[[daemon]]
name = "exporter"
host = "far"
config = '''
[[export]]
name = "disk"
device = "/disk"
'''
[[client]]
name = "app"
kind = "plain"
host = "near"
at = "exporter/disk"
[storm]
faults = 10
permit = [{ faults = ["flipped bits"], of = ["far - near"] }]
TOML
code 1 "$sim" --scenario "$folder/impossible.toml" --seeds 1..50 --until-failure
grep -Eq "^seed [0-9]+ of .*impossible.toml failed:$" "$folder/out" || fail "no seed is named"
grep -Eq "^  replay: dst-sim --scenario .*impossible.toml --seed [0-9]+ --trace$" "$folder/out" ||
    fail "no command replays it"
