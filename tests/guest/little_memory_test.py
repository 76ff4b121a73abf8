#!/usr/bin/python3
"""Little memory, and far more dirty pages than buffers: writing to an attached file system goes on.

    little_memory_test.py                     a minute
    GUEST_SECONDS=600 little_memory_test.py   ten, each way
"""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from guest_lab import main, test

SECONDS = int(os.environ.get("GUEST_SECONDS", "60"))

SCRIPT = """
MEMORY=32M
exporters
head_daemon
attach
make_fs ext4
mount_fs ext4
# As much may be dirty as there is memory, and little of that is left.
echo 50 >/proc/sys/vm/dirty_ratio
echo 40 >/proc/sys/vm/dirty_background_ratio
free=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
ballast=$((free / 1024 - FREE_MB))
if [ $ballast -lt 1 ]; then fail "the guest has but $free kB to begin with"; fi
dd if=/dev/zero of=/run/ballast bs=1M count=$ballast 2>/dev/null
say "$(sed -n 's/^MemAvailable: *//p' /proc/meminfo) are left"
dd if=/dev/urandom of=/run/block bs=1M count=1 2>/dev/null
content() { for i in $(seq 48); do cat /run/block || return; done; }
most=0
begun=$(uptime_s)
files=0
restarted=false
(
    while [ ! -e /run/enough ]; do
        dirty=$(sed -n 's/^Dirty: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
        if [ $dirty -gt $(cat /run/dirty 2>/dev/null || echo 0) ]; then echo $dirty >/run/dirty; fi
        usleep 100000
    done
) &
while [ $(($(uptime_s) - begun)) -lt SECONDS ]; do
    name=/mnt/f$((files % 2))
    last=$(uptime_s)
    content >$name || fail "$name was not written"
    if [ $(($(uptime_s) - last)) -gt 40 ]; then fail "a file took $(($(uptime_s) - last)) s"; fi
    files=$((files + 1))
    if ! $restarted && [ $(($(uptime_s) - begun)) -gt $((SECONDS / 3)) ]; then
        restarted=true
        kill_daemon two
        daemon two
    fi
done
touch /run/enough
within 60 sync
say "$files files of 48 MiB; at most $(cat /run/dirty) kB were dirty at a time"
if [ $files -lt 3 ]; then fail "but $files files were written"; fi
rm /run/ballast
echo 3 >/proc/sys/vm/drop_caches
for name in /mnt/f*; do
    if [ "$(md5sum <$name)" != "$(content | md5sum)" ]; then
        fail "$name holds something else"
    fi
done
umount /mnt
check_fs ext4
within 5 on_head detach vol
""".replace("SECONDS", str(SECONDS)).replace("FREE_MB", "120")


def goes_on(lab, way):
    with lab.guest(SCRIPT, way, memory="448M", timeout=SECONDS * 3 + 300) as guest:
        guest.finish()


@test
def writing_by_ublk_goes_on_with_little_memory(lab):
    goes_on(lab, "ublk")


if SECONDS > 60:  # the other ways take their time in the script alone

    @test
    def writing_by_nbd_goes_on_with_little_memory(lab):
        goes_on(lab, "nbd")

    @test
    def writing_by_fuse_goes_on_with_little_memory(lab):
        goes_on(lab, "fuse")


main()
