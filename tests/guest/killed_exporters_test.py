#!/usr/bin/python3
"""ext4 and xfs on an attached mirror: exporters are killed and stopped under load, nobody
notices."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from guest_lab import main, test

SCRIPT = """
exporters
head_daemon
for type in ext4 xfs; do
    attach
    say "$type on $device"
    make_fs $type
    mount_fs $type
    write_files /mnt
    goes_on 20
    for name in one two three; do
        kill_daemon $name
        goes_on 30
        say "goes on without $name"
        daemon $name
        wait_until 60 "$name is back" storage_is running
        goes_on 20
    done
    kill -STOP $(pid_of two)
    goes_on 30
    say "goes on while two is stopped"
    kill -CONT $(pid_of two)
    wait_until 60 "two is back" storage_is running
    goes_on 20
    end_writing
    fstrim /mnt || fail fstrim
    umount /mnt
    check_fs $type
    mount_fs $type
    compare /mnt
    # in use: refused, and nothing has changed
    if on_head detach vol 2>/run/refused; then fail "it was detached although it is mounted"; fi
    say "$(cat /run/refused)"
    compare /mnt
    umount /mnt
    within 5 on_head detach vol
    if [ -e $device ] && [ $WAY != fuse ] && [ "$(blockdev --getsize64 $device)" != 0 ]; then
        fail "$device is there still"
    fi
    attach
    mount_fs $type
    compare /mnt
    umount /mnt
    within 5 on_head detach vol
done
"""


def survives(lab, way):
    with lab.guest(SCRIPT, way) as guest:
        guest.finish()


@test
def file_systems_by_ublk_survive_killed_exporters(lab):
    survives(lab, "ublk")


@test
def file_systems_by_nbd_survive_killed_exporters(lab):
    survives(lab, "nbd")


@test
def file_systems_by_fuse_survive_killed_exporters(lab):
    survives(lab, "fuse")


main()
