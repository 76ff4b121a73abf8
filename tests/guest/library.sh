# What the scripts of tests in a guest share; sh of busybox. Everything that waits has a bound.

# say WORDS: tells the host, and how many seconds the guest has run.
say() { echo "say: $(cut -d' ' -f1 /proc/uptime) s: $*"; }
fail() {
    echo "fail: $*"
    for log in /run/*/log; do
        if [ -f "$log" ]; then echo "--- $log" && tail -n 30 "$log"; fi
    done
    exit 1
}

# tell_state: what a test that hangs leaves to look at: requests that wait in the kernel and in the
# daemons, and what each process does.
tell_state() {
    local disk folder task
    set +e
    for disk in /sys/block/*; do
        if grep -q "[1-9]" "$disk/inflight"; then
            echo "--- ${disk##*/}: reads, writes in flight: $(cat "$disk/inflight")"
        fi
    done
    for folder in /run/*/run; do
        echo "--- $folder"
        timeout 10 dst status --json --socket "$folder/dst.sock"
    done
    for task in /proc/[0-9]*/task/*; do
        if [ "$(wc -c <"${task%/task/*}/cmdline")" != 0 ]; then  # no thread of the kernel
            echo "--- $task $(cat "$task/comm"): $(sed -n 's/^State:.//p' "$task/status")"
            cat "$task/stack"
        fi
    done
    echo "--- the kernel's last words"
    dmesg | tail -n 40
    echo "--- that was all"
}

# wait_until SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_until() {
    local most=$1 what=$2 begun
    shift 2
    begun=$(uptime_s)
    until "$@"; do
        if [ $(($(uptime_s) - begun)) -ge "$most" ]; then fail "waited $most s in vain: $what"; fi
        usleep 50000
    done
}
uptime_s() { cut -d. -f1 /proc/uptime; }

# within SECONDS COMMAND...: fails the test unless it ends well in that time.
within() {
    local most=$1
    shift
    rm -f /run/within
    (code=0 && "$@" || code=$? && echo $code >/run/within.new && mv /run/within.new /run/within) &
    wait_until "$most" "'$*' ends" [ -e /run/within ]
    if [ "$(cat /run/within)" != 0 ]; then fail "'$*' failed"; fi
}

# daemon NAME: starts the one that /run/NAME/dst.toml configures; returns when it serves. Its pid is
# in /run/NAME/pid.
daemon() {
    local folder=/run/$1 said=
    if [ ! -p "$folder/ready" ]; then mkfifo "$folder/ready"; fi
    dst daemon --config "$folder/dst.toml" --ready-fd 3 3>"$folder/ready" 2>>"$folder/log" &
    echo $! >"$folder/pid"
    read -r said <"$folder/ready" || true
    if [ "$said" != ready ]; then fail "daemon $1 does not become ready"; fi
}
pid_of() { cat "/run/$1/pid"; }

# kill_daemon NAME: SIGKILL; returns when it is gone.
kill_daemon() {
    local pid
    pid=$(pid_of "$1")
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
}

# exporter NAME PORT DEVICE: one whose export is called `disk`.
exporter() {
    mkdir -p "/run/$1"
    cat >"/run/$1/dst.toml" <<END
run_dir = "/run/$1/run"
state_dir = "${STATE:-/run}/$1/state"
listen = ["127.0.0.1:$2"]
memory = "32M"
[[export]]
name = "disk"
device = "$3"
END
    daemon "$1"
}

# exporters: three of them, on the first three disks.
exporters() {
    exporter one 10801 /dev/vda
    exporter two 10802 /dev/vdb
    exporter three 10803 /dev/vdc
}

# head_daemon: one with the mirror `vol` of the three; SETTINGS are lines of its [[storage]].
head_daemon() {
    mkdir -p /run/head
    cat >/run/head/dst.toml <<END
run_dir = "/run/head/run"
state_dir = "${STATE:-/run}/head/state"
listen = ["127.0.0.1:10800"]
memory = "${MEMORY:-48M}"
[[storage]]
name = "vol"
algorithm = "mirror"
nodes = ["R: 127.0.0.1:10801/disk", "R: 127.0.0.1:10802/disk", "R: 127.0.0.1:10803/disk"]
grace = "1s"
${SETTINGS:-}
END
    daemon head
    wait_until 30 "vol runs" storage_is running
}
on_head() { dst "$@" --socket /run/head/run/dst.sock; }
storage_is() { on_head status --json | tr -d ' \n' | grep -q "\"name\":\"vol\".*\"state\":\"$1\""; }

# attach: attaches `vol` by WAY; its name is in $device.
attach() {
    on_head attach vol --via "$WAY" >/run/attached || fail "attaching by $WAY"
    device=$(sed -n '$s/.* //p' /run/attached)
    if [ ! -b "$device" ]; then fail "'$device' is no block device"; fi
}

# attached_again: waits until a new daemon has attached what its last life had; name in $device.
attached_again() { wait_until 30 "vol is attached again" has_device; }
has_device() {
    device=$(on_head status --json | tr -d ' \n' | sed -n 's/.*"device":"\([^"]*\)".*/\1/p')
    [ -b "$device" ]
}

# make_fs TYPE, check_fs TYPE: on $device, which is not mounted.
make_fs() {
    case $1 in
        ext4) mkfs.ext4 -q -F "$device" ;;
        xfs) mkfs.xfs -q -f "$device" ;;
    esac || fail "mkfs.$1 $device"
}
check_fs() {
    case $1 in
        ext4) e2fsck -fn "$device" >/run/fsck 2>&1 ;;
        xfs) xfs_repair -n "$device" >/run/fsck 2>&1 ;;
    esac || { cat /run/fsck && fail "$1 on $device is damaged"; }
}
mount_fs() { mount -t "$1" "$device" /mnt || fail "mount $device"; }

# write_files FOLDER: in the background, writes files of random content there, each with fsync, until
# `end_writing`. What a file must hold is noted once it is durable, in /run/sums.
write_files() {
    rm -rf /run/enough /run/write_failed /run/sums /run/written && mkdir /run/sums
    (
        number=0
        while [ ! -e /run/enough ]; do
            name=f$((number % 12))
            dd if=/dev/urandom of=/run/content bs=64k count=$((number % 5 + 1)) 2>/dev/null
            if ! dd if=/run/content of="$1/$name" bs=64k conv=fsync 2>/run/dd; then
                cat /run/dd >/run/write_failed
                break
            fi
            md5sum </run/content >"/run/sums/$name"
            number=$((number + 1))
            echo $number >/run/written
        done
    ) &
    writer=$!
}
written() { cat /run/written 2>/dev/null || echo 0; }
has_written() { [ "$(written)" -ge "$1" ] || [ -e /run/write_failed ]; }

# goes_on SECONDS: fails unless the writer writes three more files by then.
goes_on() {
    wait_until "$1" "files are written" has_written $(($(written) + 3))
    if [ -e /run/write_failed ]; then fail "writing failed: $(cat /run/write_failed)"; fi
}
end_writing() {
    touch /run/enough
    wait "$writer"
    if [ -e /run/write_failed ]; then fail "writing failed: $(cat /run/write_failed)"; fi
    say "$(written) files were written"
}

# compare FOLDER: its files hold what was noted.
compare() {
    local sum count=0
    for sum in /run/sums/*; do
        md5sum <"$1/${sum##*/}" | cmp -s - "$sum" || fail "$1/${sum##*/} holds something else"
        count=$((count + 1))
    done
    if [ $count -eq 0 ]; then fail "nothing was compared"; fi
    say "$count files hold what they should"
}
