#!/usr/bin/python3
"""A storage with a name in /dev: file systems on it, what a kernel asks a disk for, its end."""

# ctest: serial (loop devices are the host's)
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until
from lab_attach import (Mount, attach, check_filesystem, clean_up_after, do, ends_well, fio,
                        loops_of, make_filesystem, mounts_below, timed, wait_nothing_left)
from lab_mirror import disk_of, fill, start_exporters, start_mirror, wait_in_sync

SIZE = "300M"


def mirror(lab, size=SIZE, **settings):
    exporters = start_exporters(lab, 2, size)
    return exporters, start_mirror(lab, [exporter.remote("disk") for exporter in exporters],
                                   **settings)


def used_bytes(path):
    return os.stat(path).st_blocks * 512


def use_filesystem(lab, kind):
    exporters, head = mirror(lab, "400M")
    device = attach(lab, head, "vol", "--via", "fuse")
    check(device.startswith("/dev/loop"), f"it is {device}")
    make_filesystem(kind, device)
    with Mount(lab, device) as mounted:
        ends_well(fio(lab, "fio", mounted.path + "/data", size="64M"))
        os.unlink(mounted.path + "/data")
        do("sync", "-f", mounted.path)
        used = [used_bytes(disk_of(lab, exporter)) for exporter in exporters]
        do("fstrim", "-v", mounted.path)
        freed = [before - used_bytes(disk_of(lab, exporter))
                 for before, exporter in zip(used, exporters)]
        check(min(freed) >= 60 << 20, f"trimming has freed {freed} bytes of the disks")
        with open(mounted.path + "/kept", "wb") as file:
            kept = lab.random.randbytes(1 << 20)
            file.write(kept)
            os.fsync(file.fileno())
        outcome = head.dst("detach", "vol")
        check(outcome.code == 1 and "in use" in outcome.stderr,
              f"a mounted device was detached: {outcome}")
        mounted.unmount()
    check_filesystem(kind, device)
    head.do("detach", "vol")
    wait_nothing_left(lab)
    # Once more, and it is all still there.
    device = attach(lab, head, "vol", "--via", "fuse", "--read-only")
    with Mount(lab, device) as mounted:
        with open(mounted.path + "/kept", "rb") as file:
            check(file.read() == kept, "what was written is not what is read")
        mounted.unmount()
    head.do("detach", "vol")
    wait_nothing_left(lab)


@test
def ext4_is_made_used_trimmed_and_checked(lab: Lab):
    use_filesystem(lab, "ext4")


@test
def xfs_is_made_used_trimmed_and_checked(lab: Lab):
    use_filesystem(lab, "xfs")


@test
def what_is_attached_is_told_and_nothing_else_may_happen_to_it(lab: Lab):
    _, head = mirror(lab, "32M")
    check(head.do("attach", "--list").strip() == "", "something is attached")
    printed = head.do("attach", "vol").strip()
    device = printed.split()[-1]
    told = re.fullmatch(r"(not by \w+: .+\n)*vol is attached by (\w+) as /dev/\w+", printed)
    check(told, f"it printed {printed!r}")
    way = told[2]  # the best that this machine has
    check(printed.count("not by") == ["ublk", "nbd", "fuse"].index(way), f"it printed {printed!r}")
    clean_up_after(lab)
    listed = json.loads(head.do("attach", "--list", "--json"))["attachments"]
    sectors = head.storage("vol")["size"]
    check([(each["name"], each["via"], each["device"], each["size"]) for each in listed] ==
          [("vol", way, device, sectors)], f"listed is {listed}")
    check(head.storage("vol")["attached_as"] == [device], "the status does not tell")
    check(int(do("blockdev", "--getsz", device)) == sectors, "its size is another")
    for words in (["attach", "vol"], ["storage", "stop", "vol"], ["storage", "remove", "vol"],
                  ["attach", "none"], ["detach", "none"], ["attach", "vol", "--via", "fuse"]):
        outcome = head.dst(*words)
        check(outcome.code == 1 and outcome.stderr.count("\n") == 1, f"{words}: {outcome}")
    for words in (["attach"], ["attach", "vol", "--list"], ["attach", "vol", "--via", "usb"],
                  ["attach", "vol", "--file", "--via", "nbd"], ["detach"]):
        check(head.dst(*words).code == 2, f"{words} is no wrong usage")
    head.do("detach", "vol")
    told = lambda: [(event["event"], event.get("from"), event.get("to")) for event in
                    map(json.loads, head.do("events").splitlines()) if "tached" in event["event"]]
    wait_until("events tell of both", lambda: len(told()) == 2)
    check(told() == [("attached", None, device), ("detached", device, None)], f"told is {told()}")
    wait_nothing_left(lab)


@test
def read_only_is_read_only_and_a_file_is_a_file(lab: Lab):
    _, head = mirror(lab, "32M")
    size = head.storage("vol")["size"] * 512
    fill(lab, head, size)
    device = attach(lab, head, "vol", "--via", "fuse", "--read-only")
    check(do("blockdev", "--getro", device).strip() == "1", "the kernel may write")
    check(run(["dd", "if=/dev/zero", f"of={device}", "bs=4k", "count=1"]).code != 0, "dd wrote")
    do("cmp", f"--bytes={size}", device, lab.path("image"))
    head.do("detach", "vol")
    path = attach(lab, head, "vol", "--file")
    check(os.stat(path).st_size == size and os.path.isfile(path), f"{path} is no such file")
    check(mounts_below(lab.folder)[-1] == path and not loops_of(lab.folder), "there is a device")
    do("cmp", f"--bytes={size}", path, lab.path("image"))
    # As of a disk: nothing is cached from one use to the next.
    fill(lab, head, size)
    do("cmp", f"--bytes={size}", path, lab.path("image"))
    with open(path, "r+b", buffering=0) as file:
        outcome = head.dst("detach", "vol")
        check(outcome.code == 1 and "open" in outcome.stderr, f"it is open, and: {outcome}")
        file.seek(777)
        check(file.write(b"not on whole blocks") == 19, "a short write")
        file.seek(size - 5)
        check(file.write(b"0123456789") == 5, "a write went over the end")
        try:
            file.write(b"x")
            check(False, "a write behind the end succeeded")
        except OSError as error:
            check(error.errno == 28, f"{error}")
    with open(path, "wb") as file:  # it is no file that could be emptied
        check(os.fstat(file.fileno()).st_size == size, "it was emptied")
    head.do("detach", "vol")
    copied = run(["nbdcopy", head.uri("vol"), lab.path("copy")])
    check(copied.code == 0, f"{copied}")
    with open(lab.path("copy"), "rb") as copy, open(lab.path("image"), "rb") as image:
        expected = bytearray(image.read(size))
        expected[777:796] = b"not on whole blocks"
        expected[size - 5:] = b"01234"
        check(copy.read() == expected, "what was written by the file is not what is exported")


@test
def a_restarted_daemon_attaches_again_under_the_same_name(lab: Lab):
    _, head = mirror(lab, "32M")
    device = attach(lab, head, "vol", "--via", "fuse")
    do("dd", "if=/dev/urandom", f"of={device}", "bs=1M", "count=8", "oflag=direct")
    head.stop()
    wait_nothing_left(lab)
    for end in ("in order", "by SIGKILL"):
        head.start()
        wait_in_sync(head)
        wait_until(f"it is attached again after an end {end}",
                   lambda: head.storage("vol")["attached_as"] == [device])
        do("dd", f"if={device}", "of=/dev/null", "bs=1M", "iflag=direct")
        head.kill()
    head.start()
    wait_in_sync(head)
    wait_until("it is attached again", lambda: head.storage("vol")["attached_as"] == [device])
    head.do("detach", "vol")
    head.stop()
    head.start()
    check(head.storage("vol")["attached_as"] == [], "what was detached is attached again")
    head.stop()
    wait_nothing_left(lab)


@test
def what_a_storage_grows_by_the_kernel_learns_at_once(lab: Lab):
    disks = [lab.file(f"disk{i}", "32M") for i in range(2)]
    head = lab.daemon("head", storage=[{"name": "vol", "algorithm": "linear",
                                        "nodes": [f"L: {disks[0]}"]}])
    device = attach(lab, head, "vol", "--via", "fuse")
    make_filesystem("ext4", device)
    head.do("node", "add", "vol", f"L: {disks[1]}")
    wait_until("the device has grown",
               lambda: int(do("blockdev", "--getsize64", device)) == 64 << 20)
    do("e2fsck", "-f", "-p", device)
    do("resize2fs", device)
    with Mount(lab, device) as mounted:
        ends_well(fio(lab, "fio", mounted.path + "/data", size="40M"))
        mounted.unmount()
    check_filesystem("ext4", device)
    took, _ = timed(head.do, "detach", "vol")
    check(took < 5, f"detaching took {took:.1f} s")


main()
