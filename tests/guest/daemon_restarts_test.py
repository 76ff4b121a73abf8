#!/usr/bin/python3
"""The daemon is killed, and stopped, while its storage is attached: the next one goes on, and nobody
sees an error."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from guest_lab import main, test

SCRIPT = """
exporters
head_daemon
attach
was=$device
make_fs ext4
mount_fs ext4
write_files /mnt
goes_on 20
# a crash
kill_daemon head
daemon head
goes_on 90
say "went on after a crash"
# an upgrade
kill -TERM $(pid_of head)
wait $(pid_of head) || fail "the daemon does not end well"
before=$(written)
daemon head
goes_on 90
say "went on after a restart"
on_head attach --list | grep -q " $was " || fail "it is not attached as $was: $(on_head attach --list)"
end_writing
umount /mnt
check_fs ext4
mount_fs ext4
compare /mnt
umount /mnt
within 5 on_head detach vol
"""


def goes_on(lab, way):
    with lab.guest(SCRIPT, way) as guest:
        guest.finish()


@test
def a_daemon_that_is_killed_or_restarted_fails_nothing_by_ublk(lab):
    goes_on(lab, "ublk")


@test
def a_daemon_that_is_killed_or_restarted_fails_nothing_by_nbd(lab):
    goes_on(lab, "nbd")


main()
