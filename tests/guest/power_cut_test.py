#!/usr/bin/python3
"""The head's power is cut, exporters and all: what was fsynced is there after the next start.

The guest is killed while it writes. The host has noted what the guest said was durable.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from guest_lab import main, test

# What daemons keep lies on a disk of its own; the device is the fourth of the host's files.
COMMON = """
STATE=/state
mkdir -p /state
"""

FIRST = COMMON + """
mkfs.ext4 -q /dev/vdd
mount -t ext4 /dev/vdd /state
exporters
head_daemon
attach
make_fs $FS
mount_fs $FS
mkdir /mnt/files
sync
number=0
while true; do
    dd if=/dev/urandom of=/run/content bs=16k count=$((number % 4 + 1)) 2>/dev/null
    dd if=/run/content of=/mnt/files/f$number bs=16k conv=fsync 2>/dev/null || fail "write"
    sync /mnt/files
    echo "durable: f$number $(md5sum </run/content)"
    # and what nobody waits for
    dd if=/run/content of=/mnt/files/lost bs=16k 2>/dev/null
    number=$((number + 1))
done
"""

SECOND = COMMON + """
mount -t ext4 /dev/vdd /state
exporters
head_daemon
attached_again
mount_fs $FS
umount /mnt
check_fs $FS
mount_fs $FS
while read -r name sum; do
    is=$(md5sum </mnt/files/$name)
    if [ "${is%% *}" != $sum ]; then fail "$name holds $is instead of $sum"; fi
done <<END
EXPECTED
END
say compared
dd if=/dev/urandom of=/mnt/files/more bs=64k count=4 conv=fsync || fail "write after it"
umount /mnt
within 5 on_head detach vol
"""

FILES = 25


def survives(lab, way, file_system):
    durable = []
    with lab.guest(f"FS={file_system}\n" + FIRST, way) as guest:
        while len(durable) < FILES:
            durable.append(guest.wait_for("durable: ").split()[1:3])
        guest.cut_power()
    expected = "\n".join(" ".join(one) for one in durable)
    with lab.guest(f"FS={file_system}\n" + SECOND.replace("EXPECTED", expected), way) as guest:
        guest.finish()


@test
def what_was_fsynced_on_ext4_by_ublk_survives_a_power_cut(lab):
    survives(lab, "ublk", "ext4")


@test
def what_was_fsynced_on_xfs_by_nbd_survives_a_power_cut(lab):
    survives(lab, "nbd", "xfs")


@test
def what_was_fsynced_on_ext4_by_fuse_survives_a_power_cut(lab):
    survives(lab, "fuse", "ext4")


main()
