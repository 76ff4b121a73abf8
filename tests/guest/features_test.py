#!/usr/bin/python3
"""What a kernel asks of a disk beside reads and writes, and an end that leaves nothing behind.

    features_test.py                     attached and detached 24 times, each way
    GUEST_ROUNDS=200 features_test.py    as often as is asked
"""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from guest_lab import main, test

SCRIPT = """
mkdir -p /run/one /run/head
cat >/run/one/dst.toml <<END
run_dir = "/run/one/run"
state_dir = "/run/one/state"
listen = ["127.0.0.1:10801"]
memory = "32M"
[[export]]
name = "disk"
device = "memory:24M"
[[export]]
name = "more"
device = "memory:24M"
END
cat >/run/head/dst.toml <<END
run_dir = "/run/head/run"
state_dir = "/run/head/state"
listen = ["127.0.0.1:10800"]
memory = "32M"
[[storage]]
name = "vol"
algorithm = "linear"
nodes = ["R: 127.0.0.1:10801/disk"]
END
daemon one
daemon head
wait_until 30 "vol runs" storage_is running
attach
disk=${device##*/}
is() { if [ "$(cat "/sys/block/$disk/$1")" != "$2" ]; then fail "$1 is $(cat "/sys/block/$disk/$1")"; fi; }

is queue/logical_block_size 512
is queue/write_cache "write back"
is queue/fua 1
is ro 0
size=$(blockdev --getsize64 $device)

# zeroes where it was discarded or zeroed, and nowhere else
dd if=/dev/urandom of=/run/content bs=1M count=4 2>/dev/null
dd if=/run/content of=$device bs=64k oflag=direct 2>/dev/null || fail write
blkdiscard -o 1M -l 1M $device || fail blkdiscard
/bin/fallocate -z -o 2M -l 1M $device || fail "fallocate -z"
dd if=$device of=/run/read bs=1M count=4 iflag=direct 2>/dev/null || fail read
dd if=/dev/zero of=/run/content bs=1M seek=2 count=1 conv=notrunc 2>/dev/null
part() { dd if=$1 bs=1M skip=$2 count=1 2>/dev/null | md5sum; }
for at in 0 2 3; do
    if [ "$(part /run/read $at)" != "$(part /run/content $at)" ]; then fail "MiB $at differs"; fi
done
say "zeroes are where they should be"

# of all sizes, SIZE in all
verify() {
    fio --name=verify --filename=$device --size=$1 --bsrange=512-64k --bs_unaligned=0 \\
        --blockalign=512 --rw=randwrite --iodepth=16 --ioengine=libaio --direct=1 --fsync=50 \\
        --verify=crc32c --verify_fatal=1 >/run/fio 2>&1 || { cat /run/fio && fail fio; }
}
verify 12M
say "fio found what it wrote"

# it grows
on_head node add vol "R: 127.0.0.1:10801/more" || fail "node add"
has_grown() { [ "$(blockdev --getsize64 $device)" -gt "$size" ]; }
if [ $WAY = ublk ]; then  # not on this kernel, and it says so
    says_so() { on_head attach --list | grep -q "keeps its size"; }
    wait_until 10 "it says that it keeps its size" says_so
    within 5 on_head detach vol
    attach
fi
wait_until 10 "$device has grown" has_grown
within 5 on_head detach vol
say "it has grown"

# read only
on_head attach vol --via $WAY --read-only >/run/attached || fail "attach --read-only"
device=$(sed -n '$s/.* //p' /run/attached)
disk=${device##*/}
is ro 1
if dd if=/run/content of=$device bs=4k count=1 conv=fsync 2>/dev/null; then fail "it was written"; fi
dd if=$device of=/dev/null bs=1M count=1 2>/dev/null || fail "read-only can't be read"
within 5 on_head detach vol

# again and again, under load, in order and by force: nothing stays
descriptors() { ls /proc/$(pid_of head)/fd | wc -l; }
threads() { ls /proc/$(pid_of head)/task | wc -l; }
before=
for round in $(seq ROUNDS); do
    attach
    if [ $((round % 4)) = 0 ]; then verify 4M; fi
    dd if=/run/content of=$device bs=64k conv=fsync 2>/dev/null &
    if [ $((round % 3)) = 0 ]; then
        within 5 on_head detach vol --force
        wait $! || true
    else
        wait $! || fail "writing failed in round $round"
        within 5 on_head detach vol
    fi
    if [ $round = 6 ]; then before=$(descriptors); fi
done
are_as_before() { [ "$(descriptors)" = "$before" ]; }
wait_until 10 "descriptors are as they were: $before" are_as_before
say "after ROUNDS rounds: $(descriptors) descriptors, $(threads) threads"
# helpers of each way are started as they are needed, four at most
if [ "$(threads)" -gt 20 ]; then fail "there are $(threads) threads"; fi
ls /dev/ublkb* 2>/dev/null && fail "disks are left"
kill -TERM $(pid_of head)
wait $(pid_of head) || fail "the daemon does not end well"
""".replace("ROUNDS", os.environ.get("GUEST_ROUNDS", "24"))


def has_features(lab, way):
    with lab.guest(SCRIPT, way, may_say=["I/O error, dev", "Buffer I/O error"]) as guest:
        guest.finish()


@test
def a_disk_by_ublk_discards_zeroes_flushes_and_leaves_nothing(lab):
    has_features(lab, "ublk")


@test
def a_disk_by_nbd_discards_zeroes_flushes_grows_and_leaves_nothing(lab):
    has_features(lab, "nbd")


main()
