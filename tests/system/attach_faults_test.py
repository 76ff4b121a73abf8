#!/usr/bin/python3
"""A file system on an attached mirror while exporters die and stop; and detaching what is held."""

# ctest: serial (loop devices are the host's)
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until
from lab_attach import (Mount, attach, check_filesystem, do, ends_well, fio, keepers, make_filesystem,
                        parent_of, timed, wait_nothing_left)
from lab_mirror import (check_copies_equal, disk_of, fill, start_exporters, start_mirror, wait_detached,
                        wait_in_sync)

FORCE_MAX = 5.0


def mirror(lab, size, **settings):
    exporters = start_exporters(lab, 2, size)
    return exporters, start_mirror(lab, [exporter.remote("disk") for exporter in exporters],
                                   **settings)


def hold(exporters, head):
    """Takes all exporters away: from now on requests wait."""
    for exporter in exporters:
        exporter.kill()
    wait_until("no node is connected",
               lambda: not any(node["connected"] for node in head.storage("vol")["nodes"]))


def survives_faults(lab, kind):
    exporters, head = mirror(lab, "350M", grace="1s", takeover="4s")
    device = attach(lab, head, "vol", "--via", "fuse")
    make_filesystem(kind, device)
    with Mount(lab, device) as mounted:
        load = fio(lab, "fio", mounted.path + "/data", size="48M", time_based=1, runtime=14,
                   fsync=64)
        for exporter in exporters:
            node = exporter.remote("disk")
            exporter.kill()
            wait_detached(head, node)
            exporter.start()
            wait_in_sync(head)
            exporter.pause()
            wait_detached(head, node)
            exporter.resume()
            wait_in_sync(head)
        check(load.is_running(), f"the load ended early: {load.log_text()[-1000:]}")
        ends_well(load)
        mounted.unmount()
    check_filesystem(kind, device)
    head.do("detach", "vol")
    wait_nothing_left(lab)
    wait_in_sync(head)
    size = head.storage("vol")["size"] * 512
    head.stop()
    check_copies_equal([disk_of(lab, exporter) for exporter in exporters], size)


@test
def ext4_survives_each_exporter_killed_and_stopped_under_load(lab: Lab):
    survives_faults(lab, "ext4")


@test
def xfs_survives_each_exporter_killed_and_stopped_under_load(lab: Lab):
    survives_faults(lab, "xfs")


@test
def what_is_held_is_detached_by_force_at_once(lab: Lab):
    exporters, head = mirror(lab, "64M")
    fill(lab, head, head.storage("vol")["size"] * 512)  # who reads what was never written needs nobody
    device = attach(lab, head, "vol", "--via", "fuse")
    hold(exporters, head)
    users = [lab.process(f"dd{i}", ["dd", *words, "bs=64k", "count=8"]) for i, words in enumerate(
        [[f"if={device}", "of=/dev/null", "iflag=direct"],
         [f"if={device}", "of=/dev/null", "skip=100"],
         ["if=/dev/zero", f"of={device}", "oflag=direct", "seek=200"],
         ["if=/dev/zero", f"of={device}", "conv=fsync", "seek=300"]])]
    wait_until("requests wait", lambda: head.waiting_requests("vol") > 0)
    took, outcome = timed(head.dst, "detach", "vol")
    check(outcome.code == 1, f"it was detached: {outcome}")
    check(took < FORCE_MAX, f"a refusal took {took:.1f} s")
    check(all(user.is_running() for user in users), "a refused detach has failed requests")
    took, _ = timed(head.do, "detach", "--force", "vol")
    lab.say(f"detached by force in {took:.2f} s")
    check(took < FORCE_MAX, f"detaching by force took {took:.1f} s")
    for user in users:
        check(user.wait(5) == 1, f"{user.name}: exit code {user.exit_code}: {user.log_text()}")
    check("Input/output error" in users[0].log_text(), users[0].log_text())
    wait_nothing_left(lab)
    # Nothing of it is in the way afterwards.
    for exporter in exporters:
        exporter.start()
    wait_in_sync(head)
    device = attach(lab, head, "vol", "--via", "fuse")
    do("dd", "if=/dev/zero", f"of={device}", "bs=1M", "count=4", "oflag=direct")
    head.do("detach", "vol")
    head.stop()


@test
def a_mounted_file_system_that_is_held_is_detached_by_force(lab: Lab):
    exporters, head = mirror(lab, "64M")
    device = attach(lab, head, "vol", "--via", "fuse")
    make_filesystem("ext4", device)
    with Mount(lab, device) as mounted:
        do("dd", "if=/dev/zero", f"of={mounted.path}/before", "bs=1M", "count=4", "conv=fsync")
        hold(exporters, head)
        writer = lab.process("writer", ["dd", "if=/dev/zero", f"of={mounted.path}/after", "bs=1M",
                                        "count=8", "conv=fsync"])
        wait_until("requests wait", lambda: head.waiting_requests("vol") > 0)
        took, _ = timed(head.do, "detach", "--force", "vol")
        check(took < FORCE_MAX, f"detaching by force took {took:.1f} s")
        check(writer.wait(10) != 0, "fsync succeeded without a disk")
        mounted.unmount()
    wait_nothing_left(lab)
    took, _ = timed(head.stop)
    check(took < 10, f"the head took {took:.1f} s to stop")


@test
def who_waits_for_a_held_file_can_be_killed(lab: Lab):
    exporters, head = mirror(lab, "64M")
    fill(lab, head, head.storage("vol")["size"] * 512)
    path = attach(lab, head, "vol", "--file")
    hold(exporters, head)
    users = [lab.process(f"dd{i}", ["dd", *words, "bs=64k", "count=8"]) for i, words in enumerate(
        [[f"if={path}", "of=/dev/null", "iflag=direct"],
         [f"if={path}", "of=/dev/null", "skip=100"],
         ["if=/dev/zero", f"of={path}", "oflag=direct", "conv=notrunc", "seek=200"],
         ["if=/dev/zero", f"of={path}", "conv=notrunc,fsync", "seek=300"]])]
    wait_until("requests wait", lambda: head.waiting_requests("vol") >= 3)
    # Together: the kernel lets one writer of a file wait for the other.
    for user in users:
        os.kill(user.pid, signal.SIGKILL)
    for user in users:
        check(user.wait(5) == -signal.SIGKILL, f"{user.name} was not killed: {user.log_text()}")
    head.do("detach", "--force", "vol")
    wait_nothing_left(lab)


@test
def a_killed_keeper_is_told_of_and_detached_by_force(lab: Lab):
    _, head = mirror(lab, "32M")
    attach(lab, head, "vol", "--via", "fuse")
    mine = [pid for pid in keepers() if parent_of(pid) == head.pid]
    check(len(mine) == 1, f"the keepers of the head are {mine}")
    os.kill(mine[0], signal.SIGKILL)
    wait_until("the list tells of it", lambda: "has ended" in head.do("attach", "--list"))
    outcome = head.dst("detach", "vol")
    check(outcome.code == 1 and "by force" in outcome.stderr, f"{outcome}")
    head.do("detach", "--force", "vol")
    wait_nothing_left(lab)
    attach(lab, head, "vol", "--via", "fuse")
    head.do("detach", "vol")


@test
def a_daemon_with_something_attached_ends_whatever_holds(lab: Lab):
    exporters, head = mirror(lab, "64M")
    device = attach(lab, head, "vol", "--via", "fuse")
    make_filesystem("ext4", device)
    with Mount(lab, device) as mounted:
        hold(exporters, head)
        writer = lab.process("writer", ["dd", "if=/dev/zero", f"of={mounted.path}/file", "bs=1M",
                                        "count=8", "conv=fsync"])
        wait_until("requests wait", lambda: head.waiting_requests("vol") > 0)
        took, _ = timed(head.stop)
        check(took < 10, f"it took {took:.1f} s to stop")
        check(writer.wait(10) != 0, "fsync succeeded without a disk")
        mounted.unmount()
    wait_nothing_left(lab)
    for exporter in exporters:
        exporter.start()
    head.start()
    wait_until("it is attached again", lambda: head.storage("vol")["attached_as"], 20)
    again = head.storage("vol")["attached_as"][0]
    with Mount(lab, again) as mounted:
        hold(exporters, head)
        writer = lab.process("writer2", ["dd", "if=/dev/zero", f"of={mounted.path}/file", "bs=1M",
                                         "count=8", "conv=fsync"])
        wait_until("requests wait", lambda: head.waiting_requests("vol") > 0)
        head.kill()
        check(writer.wait(10) != 0, "fsync succeeded without a daemon")
        mounted.unmount()
    wait_until("its loop device is gone", lambda: not run(["losetup", again]).stdout)


main()
