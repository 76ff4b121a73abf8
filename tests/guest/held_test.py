#!/usr/bin/python3
"""A storage that holds: who waits for it can be freed, and the machine can be shut down."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from guest_lab import main, test

SCRIPT = """
exporters
head_daemon
attach
make_fs ext4
mount_fs ext4
write_files /mnt
goes_on 20
for name in one two three; do kill_daemon $name; done
wait_until 20 "the storage holds" storage_is holding
if [ -e /run/write_failed ]; then fail "writing failed although the storage holds"; fi
if on_head detach vol; then fail "it was detached although it is in use"; fi
within 5 on_head detach vol --force
wait_until 20 "who wrote is told" [ -e /run/write_failed ]
wait $writer || true
within 10 umount /mnt
# what was freed can be attached again, once there is somebody
for name in one two three; do daemon $name; done
wait_until 60 "vol runs" storage_is running
attach
within 5 on_head detach vol --force
# and a daemon whose storage holds ends in time, whatever is attached
attach
for name in one two three; do kill_daemon $name; done
dd if=/dev/urandom of=$device bs=4k count=1 seek=5 conv=fsync 2>/dev/null &
wait_until 20 "the storage holds" storage_is holding
kill -TERM $(pid_of head)
begun=$(uptime_s)
wait $(pid_of head) || true
if [ $(($(uptime_s) - begun)) -gt 11 ]; then fail "ending took $(($(uptime_s) - begun)) s"; fi
say "the daemon ended in $(($(uptime_s) - begun)) s"
"""

# The kernel's own words for what the test brings about.
MAY_SAY = ["I/O error, dev", "Buffer I/O error"]


def can_be_freed(lab, way):
    with lab.guest(SCRIPT, way, may_say=MAY_SAY) as guest:
        guest.finish()


@test
def who_waits_for_a_storage_by_ublk_can_be_freed(lab):
    can_be_freed(lab, "ublk")


@test
def who_waits_for_a_storage_by_nbd_can_be_freed(lab):
    can_be_freed(lab, "nbd")


@test
def who_waits_for_a_storage_by_fuse_can_be_freed(lab):
    can_be_freed(lab, "fuse")


main()
