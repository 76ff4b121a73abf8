#!/usr/bin/env bash
# The demo: examples/demo/demo.sh [DIRECTORY]
#
# Three exporters and a head on this machine become one block device. A file system made of
# DIRECTORY (one below /usr unless said) is copied onto it; in the middle of that an exporter is
# killed and started again; then all of it is read back, compared and checked.
# It works in a temporary folder, on free ports of the loopback, and removes and ends all that it
# made, whatever happens. Exit code 0: everything held. Needs ./build/dst: ./run builds it first.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PATH=$here/build:$PATH:/usr/sbin:/sbin # mke2fs is not in everybody's path
patience=30 # seconds; what takes longer has failed

# --- Saying -----------------------------------------------------------------------------------------

bold='' faint='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' faint=$'\e[2m' plain=$'\e[0m'; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# print_command WORD...: as a user would type it.
print_command() { printf '%s$ %s%s\n' "$faint" "$*" "$plain"; }
# run COMMAND...: prints it, runs it.
run() {
    print_command "$@"
    timeout --foreground "$patience" "$@"
}
fail() {
    printf '\nThe demo failed: %s\n' "$*" >&2
    for log in *.log; do
        if [ -s "$log" ]; then printf -- '--- the end of %s\n%s\n' "$log" "$(tail -n 15 "$log")" >&2; fi
    done
    exit 1
}

# --- Processes: each one started here is ended here, by its id --------------------------------------

declare -A pids=()
work=''

is_running() { [ -n "${pids[$1]:-}" ] && kill -0 "${pids[$1]}" 2>/dev/null; }

# end NAME SIGNAL: its exit code. What does not end in 10 s is killed.
end() {
    local pid=${pids[$1]} code=0 tries=0
    kill -s "$2" "$pid" || true
    while kill -0 "$pid" && [ $((tries += 1)) -le 1000 ]; do sleep 0.01; done
    kill -s KILL "$pid" || true
    wait "$pid" || code=$?
    unset "pids[$1]"
    return $code
} 2>/dev/null # bash would tell of each process that was killed

clean_up() {
    local code=$? name
    trap '' INT TERM HUP
    # Only what was interrupted or failed is still there, and all that it has is thrown away. (The
    # copy is a child of timeout, which passes SIGTERM on.)
    if [ -n "${pids[copy]:-}" ]; then end copy TERM || true; fi
    for name in "${!pids[@]}"; do end "$name" KILL || true; done
    if [ -n "$work" ]; then rm -rf -- "$work"; fi
    exit "$code"
}
interrupted() {
    echo
    echo "Interrupted: ending and removing all that the demo has made."
    exit "$1"
}
trap clean_up EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM HUP

# wait_until WHAT COMMAND...: tries until the command succeeds.
wait_until() {
    local what=$1 deadline=$((SECONDS + patience))
    shift
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then fail "waited $patience s in vain: $what"; fi
        sleep 0.02
    done
}

# start_daemon NAME: returns when it serves.
start_daemon() {
    local name=$1 ready=''
    print_command "dst daemon --config $name.toml &"
    rm -f "$name.ready"
    mkfifo "$name.ready"
    dst daemon --config "$name.toml" --ready-fd 3 3>"$name.ready" </dev/null >>"$name.log" 2>&1 &
    pids[$name]=$!
    read -r -t "$patience" ready <"$name.ready" || true
    if [ "$ready" != ready ]; then fail "$name did not start"; fi
}

# start_server NAME ARG...: nbdkit, in the background, until it has written its pid file.
start_server() {
    local name=$1
    shift
    print_command "nbdkit $* &"
    nbdkit --foreground --exit-with-parent --pidfile "$name.pid" "$@" </dev/null >>"$name.log" 2>&1 &
    pids[$name]=$!
    wait_until "$name starts" serves_or_ended "$name"
    if ! is_running "$name"; then fail "$name did not start"; fi
}
serves_or_ended() { [ -s "$1.pid" ] || ! is_running "$1"; }

# --- What this demo needs ---------------------------------------------------------------------------

status_has() { dst status --json --socket head/dst.sock | grep -qF "$1"; }

# disk2_is_half_full: what is allocated of a sparse file was written.
disk2_is_half_full() {
    if ! is_running copy; then fail "the copy ended too early"; fi
    [ $(($(stat -c '%b * %B' disk2.img))) -ge $((part_mib << 19)) ]
}

# choose_directory [DIRECTORY]: one that is large enough to fill three disks in some seconds, and small
# enough not to fill the temporary folder.
choose_directory() {
    local least=64 most=512
    if [ $# -eq 0 ]; then set -- /usr/include /usr/share/doc /usr/lib/llvm-* /usr/share /usr/lib; fi
    for directory in "$@"; do
        if ! directory=$(realpath -e -- "$directory" 2>/dev/null); then continue; fi
        tree_mib=$(($(du -sk -- "$directory" 2>/dev/null | cut -f1) / 1024 + 1))
        if [ $tree_mib -ge $least ] && [ $tree_mib -le $most ]; then return; fi
    done
    echo "Name a directory of $least to $most MiB, as: ./run /usr/share (none such: $*)" >&2
    exit 2
}

# choose_ports: four ports in a row on which nobody listens, below those that the kernel hands out
# to outgoing connections: exporter 2 must get its port back.
choose_ports() {
    local first try port
    for try in {1..50}; do
        first=$((20000 + RANDOM % 12000))
        for port in $first $((first + 1)) $((first + 2)) $((first + 3)); do
            if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
        done
        ports=("$first" $((first + 1)) $((first + 2)) $((first + 3)))
        return
    done
    fail "found no free ports in $try tries"
}

# write_config NAME PORT TEXT
write_config() {
    cat >"$1.toml" <<END
run_dir = "$work/$1"
state_dir = "$work/$1"
listen = ["127.0.0.1:$2"]
$3
END
}

# ====================================================================================================

if [ ! -x "$here/build/dst" ]; then
    echo "There is no build/dst: build it with tools/build, or call ./run." >&2
    exit 1
fi
choose_directory "$@"
work=$(mktemp -d "${TMPDIR:-/tmp}/dst-demo.XXXXXX")
cd "$work"
choose_ports
volume=nbd://127.0.0.1:${ports[0]}/vol0

# What the tree takes as a file system, and a little more, in three equal parts.
part_mib=$(((tree_mib + tree_mib / 8 + 16 + 2) / 3))
image_mib=$((part_mib * 3))

echo "Everything happens in $work, which is removed at the end."
say "1. Three disks of $part_mib MiB, and a file system of $image_mib MiB made of $directory: only all three together can hold it."
run truncate -s "${part_mib}M" disk1.img disk2.img disk3.img
run mke2fs -q -t ext4 -i 4096 -d "$directory" image.ext4 "${image_mib}M"

say "2. Each disk gets an exporter, a process that shows it to the network. Two are dst; the third is nbdkit, a server that others wrote."
for number in 1 2; do
    write_config "exporter$number" "${ports[$number]}" "
[[export]]
name = \"disk$number\"
device = \"$work/disk$number.img\""
    start_daemon "exporter$number"
done
start_server exporter3 --ipaddr 127.0.0.1 --port "${ports[3]}" --exportname disk3 file disk3.img

say "3. A head joins the three end to end (linear), and exports the sum as vol0."
write_config head "${ports[0]}" "
[[storage]]
name = \"vol0\"
algorithm = \"linear\"
nodes = [\"R: 127.0.0.1:${ports[1]}/disk1\", \"R: 127.0.0.1:${ports[2]}/disk2\", \"R: 127.0.0.1:${ports[3]}/disk3\"]

[[export]]
name = \"vol0\"
device = \"storage:vol0\""
run tail -n 8 head.toml
start_daemon head
wait_until "the storage runs" status_has '"state":"running"'

say "4. Before: all is well. (unprotected: nbdkit can't tell the head what two of ours tell each other.)"
run dst status --socket head/dst.sock

say "5. nbdcopy copies the image in, from a slow disk, so that there is time to break something."
start_server source --unix source.sock --readonly --filter=rate file image.ext4 "rate=${tree_mib}M"
print_command "nbdcopy --connections=1 --flush 'nbd+unix:///?socket=source.sock' $volume &"
timeout --foreground "$patience" nbdcopy --connections=1 --flush \
    'nbd+unix:///?socket=source.sock' "$volume" </dev/null >copy.log 2>&1 &
pids[copy]=$!
wait_until "the copy reaches the middle of disk 2" disk2_is_half_full

say "6. The copy has reached the middle of disk 2. Its exporter dies now."
print_command "kill -9 ${pids[exporter2]}    # exporter2"
end exporter2 KILL || true
run du --block-size=M disk1.img disk2.img disk3.img
wait_until "requests wait for exporter 2" status_has '"state":"holding"'
if ! is_running copy; then fail "the copy ended when the exporter died"; fi

say "   During: what was on its way waits in the head. nbdcopy has seen no error and waits, too."
run dst status --socket head/dst.sock

say "7. Exporter 2 starts again. The head connects, writes again what was not flushed yet, and goes on."
start_daemon exporter2
wait_until "the storage runs again" status_has '"state":"running"'
code=0
wait "${pids[copy]}" || code=$?
unset "pids[copy]"
if [ $code -ne 0 ]; then fail "nbdcopy ended with exit code $code"; fi
echo "nbdcopy ended with exit code 0. What the head logged about exporter 2:"
run grep "${ports[2]}/disk2" head.log

say "   After: all is well again."
run dst status --socket head/dst.sock

say "8. Is it all there? The image is read back through the head, compared, and checked."
run nbdcopy "$volume" readback.ext4 || fail "reading back"
run cmp image.ext4 readback.ext4 || fail "what was read back differs"
run e2fsck -fn readback.ext4 || fail "the file system is damaged"

say "9. Everything stops in order: the head first, which flushes, then the exporters."
for name in head exporter1 exporter2 exporter3 source; do
    print_command "kill ${pids[$name]}    # $name"
    end "$name" TERM || fail "$name ended with exit code $?"
done

say "Everything held: an exporter was killed in the middle of a copy, no request failed, no byte is lost. ($SECONDS s)"
