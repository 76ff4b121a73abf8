#!/usr/bin/env bash
# An algorithm is built outside this tree against what is installed, loaded into a running daemon,
# used, kept from being unloaded meanwhile, and unloaded afterwards.
set -euo pipefail
: "${DST:?the program}" "${DST_BUILD:?the build directory}" "${DST_SOURCE:?the source directory}"

work=$(mktemp -d)
daemon=
cleanup() {
    if [ -n "$daemon" ]; then kill -KILL "$daemon" 2>/dev/null || true; fi
    # The tree that a killed daemon leaves mounted.
    grep -o "$work/[^ ]*/sysfs" /proc/self/mounts | xargs -r umount --lazy || true
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "FAILED: $*" >&2
    if [ -f "$work/daemon.log" ]; then tail -n 30 "$work/daemon.log" >&2; fi
    exit 1
}

dst() { "$DST" --socket "$work/run/dst.sock" "$@"; }

# refused WORDS COMMAND...: the command must exit with 1 and say one line that has WORDS in it.
refused() {
    local words=$1 status=0 said
    shift
    said=$("$@" 2>&1) || status=$?
    [ "$status" -eq 1 ] || fail "exit $status, expected 1: $*: $said"
    [ "$(wc -l <<<"$said")" -eq 1 ] || fail "more than one line: $*: $said"
    grep -qiF -- "$words" <<<"$said" || fail "'$words' is not in: $said"
    echo "refused as it should be: $said"
}

start_daemon() {
    "$DST" daemon --config "$work/dst.toml" >>"$work/daemon.log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do
        kill -0 "$daemon" 2>/dev/null || fail "the daemon has ended"
        if dst status >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "the daemon does not answer"
}

stop_daemon() {
    kill -TERM "$daemon"
    wait "$daemon" || fail "the daemon ended with $?"
    daemon=
}

# --- outside the tree ----------------------------------------------------------------------------
cmake --install "$DST_BUILD" --prefix "$work/prefix" >/dev/null
cp -r "$DST_SOURCE/examples/stripe" "$work/stripe"
cmake -S "$work/stripe" -B "$work/stripe/build" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/stripe/build" >"$work/build.log" 2>&1 || fail "$(cat "$work/build.log")"
module=$work/stripe/build/stripe.so
# The build that the README gives for those who don't use CMake.
export PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig
read -ra compile <<<"$(pkg-config --variable=compiler dst) $(pkg-config --cflags dst)"
"${compile[@]}" -shared -fPIC -o "$work/by-hand.so" "$work/stripe/stripe.cc"
# The same for another interface, as after an update of dst.
cp -r "$work/prefix/include/dst" "$work/other"
sed -i -E 's/(kModuleAbi) = [0-9]+/\1 = 1000/' "$work/other/algorithm/module.h"
"${compile[0]}" -I"$work/other" "${compile[@]:1}" -shared -fPIC -o "$work/other.so" "$work/stripe/stripe.cc"
echo "not a shared object" >"$work/text.so"
echo "int nothing;" >"$work/nothing.cc"
"${compile[@]}" -shared -fPIC -o "$work/nothing.so" "$work/nothing.cc"

# --- loaded --------------------------------------------------------------------------------------
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/dst.toml" <<END
run_dir = "$work/run"
state_dir = "$work/state"
listen = ["127.0.0.1:$port"]
END
start_daemon
refused "unknown algorithm" dst storage create s --algorithm stripe --node 'L: memory:1M'
refused "no such file" dst algorithm load "$work/missing.so"
refused "can't be loaded" dst algorithm load "$work/text.so"
refused "no symbol" dst algorithm load "$work/nothing.so"
refused "interface 1000" dst algorithm load "$work/other.so"
dst algorithm load "$module"
refused "exists already" dst algorithm load "$work/by-hand.so"
dst algorithm list | grep -q stripe || fail "stripe is not listed"
refused "built in" dst algorithm unload linear

# --- used ----------------------------------------------------------------------------------------
dst storage create s --algorithm stripe --node 'L: memory:64M' --node 'L: memory:64M'
dst export add s --device storage:s
uri=nbd://127.0.0.1:$port/s
[ "$(nbdinfo --size "$uri")" -eq $((128 << 20)) ] || fail "size $(nbdinfo --size "$uri")"
head -c 100M /dev/urandom >"$work/in"
truncate -s 128M "$work/in"
nbdcopy --flush "$work/in" "$uri"
nbdcopy "$uri" "$work/out"
cmp "$work/in" "$work/out" || fail "what was read is not what was written"
refused "1 storage" dst algorithm unload stripe

# --- still there after a restart, for it was loaded at run time ------------------------------------
stop_daemon
start_daemon
dst algorithm list | grep -q stripe || fail "stripe is not loaded after a restart"
[ "$(nbdinfo --size "$uri")" -eq $((128 << 20)) ] || fail "the storage is not back after a restart"

# --- unloaded ------------------------------------------------------------------------------------
dst export remove s
dst storage remove s
grep -q "$module" "/proc/$daemon/maps" || fail "the module is not in memory"
dst algorithm unload stripe
if grep -q "$module" "/proc/$daemon/maps"; then fail "the module is still in memory"; fi
refused "unknown algorithm" dst storage create s --algorithm stripe --node 'L: memory:1M'
dst algorithm load "$work/by-hand.so"
stop_daemon
echo "passed"
