#!/usr/bin/python3
"""What the configuration names, and what is on the disks there, come apart: disks are exchanged and
copied, and places are named that are no nodes."""

import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_mirror import (check_copies_equal, disk_of, is_in_sync, mirror_config, start_exporters,
                        start_mirror, wait_detached, wait_in_sync)


def remotes(exporters):
    return [exporter.remote("disk") for exporter in exporters]


def node_types(head):
    return sorted(node["type"] for node in head.storage("vol")["nodes"])


@test
def another_disk_is_put_where_the_old_one_was(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes, grace="500ms")
    size = head.storage("vol")["size"] * 512
    lab.fio("fio", head.uri("vol"), size="8M").wait()
    exporters[1].kill()
    wait_detached(head, nodes[1])
    cookie = head.node("vol", nodes[1])["cookie"]
    os.truncate(disk_of(lab, exporters[1]), 0)
    os.truncate(disk_of(lab, exporters[1]), 64 << 20)
    exporters[1].start()
    wait_until("the other disk is seen", lambda: "restore the disk" in head.node("vol", nodes[1])["reason"]
               or "not the disk" in head.node("vol", nodes[1])["reason"])
    lab.say(head.node("vol", nodes[1])["reason"])
    head.do("node", "replace", "vol", cookie, nodes[1])
    storage = wait_in_sync(head)
    check(len(storage["nodes"]) == 2, f"{storage}")
    check_copies_equal([disk_of(lab, each) for each in exporters], size)
    head.stop()
    head.start()
    check(len(wait_in_sync(head)["nodes"]) == 2, f"{head.storage('vol')}")

    # Seen for the first time by a head that has not seen the old one.
    head.stop()
    exporters[1].stop()
    head.start()
    exporters[0].kill()
    exporters[0].start()
    os.truncate(disk_of(lab, exporters[1]), 0)
    os.truncate(disk_of(lab, exporters[1]), 64 << 20)
    exporters[1].start()
    head.do("storage", "start", "vol", "--force")
    wait_until("it runs", lambda: head.storage("vol")["state"] == "degraded")
    cookie = next(node["cookie"] for node in head.storage("vol")["nodes"] if node["state"] != "sync")
    head.do("node", "replace", "vol", cookie, nodes[1])
    check(len(wait_in_sync(head)["nodes"]) == 2, f"{head.storage('vol')}")
    check_copies_equal([disk_of(lab, each) for each in exporters], size)
    head.stop()
    head.start()
    check(len(wait_in_sync(head)["nodes"]) == 2, f"{head.storage('vol')}")


def put_new_disk(lab, exporter):
    os.remove(disk_of(lab, exporter))
    with open(disk_of(lab, exporter), "wb") as disk:
        disk.truncate(64 << 20)


@test
def the_reason_says_how_a_new_disk_takes_the_place(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes, grace="500ms", quorum="none")
    size = head.storage("vol")["size"] * 512
    lab.fio("fio", head.uri("vol"), size="8M").wait()

    # While the head runs: to its link it is another disk.
    exporters[1].kill()
    wait_detached(head, nodes[1])
    put_new_disk(lab, exporters[1])
    exporters[1].start()
    wait_until("it is refused", lambda: "another disk than before" in head.node("vol", nodes[1])["reason"])
    check("'dst node replace'" in head.node("vol", nodes[1])["reason"], f"{head.node('vol', nodes[1])}")
    head.do("node", "replace", "vol", head.node("vol", nodes[1])["cookie"], nodes[1])
    wait_in_sync(head)
    check_copies_equal([disk_of(lab, each) for each in exporters], size)

    # By a head that has seen no other.
    exporters[1].kill()
    wait_detached(head, nodes[1])
    head.stop()
    put_new_disk(lab, exporters[1])
    exporters[1].start()
    head.start()

    def advice():
        return next((node["reason"] for node in head.storage("vol")["nodes"]
                     if "takes its place" in node["reason"] or "take its place" in node["reason"]), None)
    reason = wait_until("it says what to do", advice)
    lab.say(reason)
    words = reason.partition("dst node replace ")[2].split(" ", 2)
    outcome = head.dst("node", "add", "vol", nodes[1])
    check(outcome.code == 1 and "'dst node replace'" in outcome.stderr, f"{outcome}")
    head.do("node", "replace", words[0], words[1], words[2].strip("'"))
    check(len(wait_in_sync(head)["nodes"]) == 2, f"{head.storage('vol')}")
    check_copies_equal([disk_of(lab, each) for each in exporters], size)
    head.stop()
    head.start()
    check(len(wait_in_sync(head)["nodes"]) == 2, f"{head.storage('vol')}")


@test
def the_same_disk_does_not_replace_itself(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes, grace="500ms")
    exporters[1].kill()
    lab.fio("fio", head.uri("vol"), size="1M").wait()
    wait_detached(head, nodes[1])
    outcome = head.dst("node", "replace", "vol", nodes[1], nodes[1])
    check(outcome.code == 1 and "refused" in outcome.stderr, f"{outcome}")
    exporters[1].start()
    wait_in_sync(head)
    outcome = head.dst("node", "replace", "vol", nodes[1], nodes[1])
    check(outcome.code == 1 and "is in sync" in outcome.stderr, f"{outcome}")


@test
def a_copy_of_a_disk_does_not_take_its_place(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes[:2], quorum="none")
    size = head.storage("vol")["size"] * 512
    lab.fio("fio", head.uri("vol"), size="8M").wait()
    head.stop()
    exporters[2].stop()
    shutil.copy(disk_of(lab, exporters[1]), disk_of(lab, exporters[2]))
    head.config |= mirror_config(nodes, quorum="none")
    head.start()
    wait_until("the mirror runs", lambda: head.storage("vol")["state"] in ("running", "degraded"))
    lab.fio("fio-alone", head.uri("vol"), overwrites=True, size="8M").wait()
    exporters[2].start()

    def is_refused():
        node = head.node("vol", nodes[2])
        return f"which is at {nodes[1]} already" in node["reason"]
    wait_until("the copy is refused", is_refused)
    lab.say(head.node("vol", nodes[2])["reason"])
    lab.fio("fio-beside", head.uri("vol"), overwrites=True, size="8M").wait()
    check(all(is_in_sync(head.node("vol", node)) for node in nodes[:2]), f"{head.storage('vol')}")
    check_copies_equal([disk_of(lab, each) for each in exporters[:2]], size)


@test
def a_place_that_is_named_already_is_added_once(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes[:2], quorum="none")
    head.stop()
    head.config |= mirror_config(nodes, quorum="none")
    head.start()
    wait_until("it is shown", lambda: head.storage("vol")["state"] == "degraded" and
               head.node("vol", nodes[2])["connected"])
    head.do("node", "add", "vol", nodes[2])
    wait_in_sync(head)
    check(node_types(head) == sorted(nodes), f"{node_types(head)}")
    head.do("export", "remove", "vol")
    head.do("storage", "stop", "vol")
    head.do("storage", "start", "vol")
    wait_in_sync(head)
    check(node_types(head) == sorted(nodes), f"{node_types(head)}")


main()
