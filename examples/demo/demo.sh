#!/usr/bin/env bash
# The demo: examples/demo/demo.sh [DIRECTORY]
#
# Three exporters and a head on this machine become a mirror. A file system made of DIRECTORY (one
# below /usr unless said) is copied onto it, and another one over it; in the middle of that an
# exporter is killed; it comes back, gets what it missed, and the copies are compared. Then the same without copies: two disks end
# to end, whose users wait while one is gone. In the end the mirror becomes a disk of this machine, with
# a file system on it (as root, where there are FUSE and loop devices).
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
print_command() {
    local word line='$'
    for word in "$@"; do
        if [[ $# -gt 1 && $word != '&' && $word =~ [^a-zA-Z0-9_./:=,+-] ]]; then word="'$word'"; fi
        line+=" $word"
    done
    printf '%s%s%s\n' "$faint" "$line" "$plain"
}
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
    # Only what was interrupted or failed is still there, and all that it has is thrown away. (Jobs
    # are children of timeout, which passes SIGTERM on. Nobody is to wait for an attached device.)
    if [ -n "$work" ]; then
        grep -o "$work/[^ ]*/disk/[^ ]*" /proc/self/mounts | xargs -r umount --force --lazy || true
    fi
    for name in copy bench files; do
        if [ -n "${pids[$name]:-}" ]; then end "$name" TERM || true; fi
    done
    for name in "${!pids[@]}"; do end "$name" KILL || true; done
    if [ -n "$work" ]; then
        # The trees that killed daemons leave mounted, and the file system of the end.
        grep -oE "$work/([^ ]*/sysfs|files)" /proc/self/mounts | xargs -r umount --lazy || true
        rm -rf -- "$work"
    fi
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
    print_command nbdkit "$@" "&"
    nbdkit --foreground --exit-with-parent --pidfile "$name.pid" "$@" </dev/null >>"$name.log" 2>&1 &
    pids[$name]=$!
    wait_until "$name starts" serves_or_ended "$name"
    if ! is_running "$name"; then fail "$name did not start"; fi
}
serves_or_ended() { [ -s "$1.pid" ] || ! is_running "$1"; }

# start_job NAME COMMAND...: in the background; `finish_job NAME` waits for its end.
start_job() {
    local name=$1
    shift
    print_command "$@" "&"
    timeout --foreground "$patience" "$@" </dev/null >"$name.log" 2>&1 &
    pids[$name]=$!
}
finish_job() {
    local code=0
    wait "${pids[$1]}" || code=$?
    unset "pids[$1]"
    if [ $code -ne 0 ]; then fail "$1 ended with exit code $code"; fi
}

# --- What this demo needs ---------------------------------------------------------------------------

# status_has STORAGE STATE
status_has() { dst storage list --socket head/dst.sock | grep -q "^$1 .* $2 "; }

disk2_has_half() {
    if ! is_running copy; then fail "the copy ended too early"; fi
    cmp --silent --bytes="$((small_mib << 19))" small.ext4 disk2.img
}

# watch_resync: a line each time that something has moved, until the mirror runs.
watch_resync() {
    local deadline=$((SECONDS + patience)) line='' before=''
    print_command "dst status --socket head/dst.sock | grep ^resync    # again and again"
    until status_has mirror0 running; do
        if [ $SECONDS -ge $deadline ]; then fail "the resync does not end"; fi
        line=$(dst status --socket head/dst.sock | grep ^resync || true)
        if [ -n "$line" ] && [ "$line" != "$before" ]; then printf '%s\n' "$line"; fi
        before=$line
        sleep 0.05
    done
}

# grows FILE: something was written to this sparse file.
grows() { [ "$(stat -c %b "$1")" -gt 0 ]; }

# choose_directory [DIRECTORY]: one that is large enough to be copied for some seconds, and small
# enough that three copies don't fill the temporary folder.
choose_directory() {
    local least=48 most=512
    if [ $# -eq 0 ]; then set -- /usr/include /usr/share/doc /usr/lib/llvm-* /usr/share /usr/lib; fi
    for directory in "$@"; do
        if ! directory=$(realpath -e -- "$directory" 2>/dev/null); then continue; fi
        tree_mib=$(($(du -sk -- "$directory" 2>/dev/null | cut -f1) / 1024 + 1))
        if [ $tree_mib -ge $least ] && [ $tree_mib -le $most ]; then return; fi
    done
    echo "Name a directory of $least to $most MiB, as: ./run /usr/share (none such: $*)" >&2
    exit 2
}

# choose_ports: five ports in a row on which nobody listens, below those that the kernel hands out
# to outgoing connections: exporters must get their ports back.
choose_ports() {
    local first try port
    for try in {1..50}; do
        first=$((20000 + RANDOM % 12000))
        for port in $first $((first + 1)) $((first + 2)) $((first + 3)) $((first + 4)); do
            if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
        done
        ports=("$first" $((first + 1)) $((first + 2)) $((first + 3)) $((first + 4)))
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
mirror=nbd://127.0.0.1:${ports[0]}/mirror0
linear=nbd://127.0.0.1:${ports[0]}/linear0

# What the tree takes as a file system, and a little more; a disk has its metadata behind that.
image_mib=$((tree_mib + tree_mib / 8 + 16))
disk_mib=$((image_mib + 8))
small_mib=40

echo "Everything happens in $work, which is removed at the end."
echo "In short: a mirror of three disks loses one in the middle of a copy. The copy goes on, the disk comes"
echo "back and gets what it missed, and in the end all three are the same."

say "1. Three disks of $disk_mib MiB. Each has an exporter, a process that shows it to the network; think of three machines."
run truncate -s "${disk_mib}M" disk1.img disk2.img disk3.img
for number in 1 2 3; do
    write_config "exporter$number" "${ports[$number]}" "
[[export]]
name = \"disk$number\"
device = \"$work/disk$number.img\""
    start_daemon "exporter$number"
done

say "2. A head makes a mirror of the three, and exports it as mirror0. It is ready at once: new disks need no copying."
write_config head "${ports[0]}" "
[[storage]]
name = \"mirror0\"
algorithm = \"mirror\"
nodes = [\"R: 127.0.0.1:${ports[1]}/disk1\", \"R: 127.0.0.1:${ports[2]}/disk2\", \"R: 127.0.0.1:${ports[3]}/disk3\"]
grace = \"1s\"      # how long writes wait for a disk that is silent

[[export]]
name = \"mirror0\"
device = \"storage:mirror0\""
run tail -n 9 head.toml
start_daemon head
wait_until "the mirror runs" status_has mirror0 running
run dst status --socket head/dst.sock

say "3. A file system of $image_mib MiB, made of $directory, is copied onto it. It is on all three disks then."
run mke2fs -q -t ext4 -i 4096 -d "$directory" image.ext4 "${image_mib}M"
run nbdcopy --flush image.ext4 "$mirror" || fail "copying"

say "4. Some days later a smaller one is copied over its front, slowly, so that there is time to break something."
run mke2fs -q -t ext4 -d "$here/src" small.ext4 "${small_mib}M"
start_server source --unix source.sock --readonly --filter=noextents --filter=rate file small.ext4 \
    "rate=$((small_mib * 2))M"
start_job copy nbdcopy --connections=1 --flush 'nbd+unix:///?socket=source.sock' "$mirror"
wait_until "half of the copy is on disk 2" disk2_has_half

say "5. Half of it is there. Exporter 2 dies now."
print_command "kill -9 ${pids[exporter2]}    # exporter2"
end exporter2 KILL || true
wait_until "the mirror goes on without disk 2" status_has mirror0 degraded
if ! is_running copy; then fail "the copy ended when the exporter died"; fi
finish_job copy
echo "After a second of grace the mirror went on with two disks. nbdcopy ended with exit code 0, as if nothing"
echo "had happened. STALE is what disk 2 may have missed:"
run dst status --socket head/dst.sock

say "6. Exporter 2 comes back. What it missed is copied to it, and not more."
start_daemon exporter2
watch_resync
echo "The head has logged who was in the mirror, from one age to the next:"
run grep -E "to be copied|in force" head.log
run dst status --socket head/dst.sock

say "7. Are the three the same? And is each of them a whole file system by itself, without dst?"
size=$(dst storage list --json --socket head/dst.sock | sed 's/.*"size":\([0-9]*\),"state".*/\1/')
bytes=$((size * 512)) # without the metadata, which stands at the end of each disk
run cmp --bytes="$bytes" disk1.img disk2.img || fail "disk 2 differs"
run cmp --bytes="$bytes" disk1.img disk3.img || fail "disk 3 differs"
run cmp --bytes="$((small_mib << 20))" small.ext4 disk2.img || fail "disk 2 is not what was copied"
run e2fsck -fn disk2.img || fail "the file system on disk 2 is damaged"

say "8. Without copies: two more disks, end to end (linear); the second is shown by nbdkit, a server that others wrote. It dies for two seconds, and whoever needs it waits."
run truncate -s 64M disk4.img disk5.img
start_server nbdkit --ipaddr 127.0.0.1 --port "${ports[4]}" --exportname disk5 file disk5.img
run dst storage create linear0 --algorithm linear --node 'L: disk4.img' \
    --node "R: 127.0.0.1:${ports[4]}/disk5" --socket head/dst.sock
run dst export add linear0 --device storage:linear0 --socket head/dst.sock
start_job bench dst bench "$linear" --op write --size 64k --depth 16 --seconds 3 --verify
wait_until "the bench writes" grows disk5.img
print_command "kill -9 ${pids[nbdkit]}    # nbdkit"
end nbdkit KILL || true
rm nbdkit.pid
wait_until "requests wait for the disk" status_has linear0 holding
run dst storage list --socket head/dst.sock
sleep 2 # it is gone for a while
start_server nbdkit --ipaddr 127.0.0.1 --port "${ports[4]}" --exportname disk5 file disk5.img
finish_job bench
echo "The bench has seen slow requests (max), no error, and no wrong byte:"
run cat bench.log

can_attach() { [ "$(id -u)" -eq 0 ] && [ -w /dev/fuse ] && [ -w /dev/loop-control ]; }

if can_attach; then
    say "9. The real thing: the mirror becomes a disk of this machine, with a name in /dev and a file system on it."
    print_command dst attach mirror0 --via fuse --socket head/dst.sock
    attached=$(timeout --foreground "$patience" dst attach mirror0 --via fuse --socket head/dst.sock) || fail "attaching"
    printf '%s\n' "$attached"
    device=${attached##* } # the last word
    run mkfs.ext4 -q -F "$device"
    mkdir files
    run mount "$device" files
    start_job files sh -c "for i in 1 2 3 4 5 6; do cp -r \"$here/src\" files/\$i && sync -f files || exit 1; done"
    wait_until "files are being written" test -e files/2
    print_command "kill -9 ${pids[exporter1]}    # exporter1, in the middle of it"
    end exporter1 KILL || true
    wait_until "the mirror goes on without disk 1" status_has mirror0 degraded
    start_daemon exporter1
    watch_resync
    finish_job files
    echo "The copying has seen a pause of a second, and no error. Disk 1 has what it missed."
    for copy in 1 2 3 4 5 6; do
        run diff -r "$here/src" "files/$copy" || fail "the files differ"
    done
    run umount files
    run e2fsck -fn "$device" || fail "the file system is damaged"
    run dst detach mirror0 --socket head/dst.sock
    run cmp --bytes="$bytes" disk1.img disk3.img || fail "disk 1 differs"
    echo "With real disks it is the same: start 'dst daemon' on each machine, with device = \"/dev/sdb\" in its [[export]], and"
    echo "listen and access set for your network; name them as nodes, R: HOST/NAME; attach, mkfs, mount, and use it."
else
    say "9. (To give the mirror a name in /dev, and a file system, takes root, /dev/fuse and loop devices.)"
fi

say "10. Everything stops in order: the head first, which flushes, then the others."
for name in head exporter1 exporter2 exporter3 nbdkit source; do
    print_command "kill ${pids[$name]}    # $name"
    end "$name" TERM || fail "$name ended with exit code $?"
done

say "Everything held: disks were lost and came back in the middle of the work, no request failed, and no byte is lost. ($SECONDS s)"
