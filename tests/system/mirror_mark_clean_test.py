#!/usr/bin/python3
"""`dst node mark-clean`: refused while a better copy can be had, and what it does where it may."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_mirror import (check_copies_equal, disk_of, start_exporters, start_mirror, wait_detached,
                        wait_in_sync)
from lab_raw_nbd import READ, WRITE, RawClient

LENGTH = 1 << 20
FUA = 1
OLD, NEW = 0x11, 0x22


def write(head, value):
    with RawClient(head.port, timeout=30) as client:
        error = client.go("vol").ask(WRITE, 0, LENGTH, bytes([value]) * LENGTH, FUA)
    check(error == "", f"writing {value:#x} failed: {error}")


def check_content(head, value):
    with RawClient(head.port, timeout=30) as client:
        client.go("vol").request(READ, 0, LENGTH)
        head_of_reply = client.receive(16)
        check(head_of_reply[4:8] == bytes(4), f"reading failed: {head_of_reply.hex()}")
        data = client.receive(LENGTH)
    check(data == bytes([value]) * LENGTH, f"it holds {sorted(set(data))}, not {value:#x} alone")


def check_on_disks(lab, head, exporters, value):
    disks = [disk_of(lab, exporter) for exporter in exporters]
    check_copies_equal(disks, head.storage("vol")["size"] * 512)
    with open(disks[0], "rb") as disk:
        check(disk.read(LENGTH) == bytes([value]) * LENGTH, f"the disks do not hold {value:#x}")


def refused(lab, head, node, *more):
    """Its one line; fails unless nothing has changed."""
    def seen():
        storage = head.storage("vol")
        return [(node["type"], node["state"], node["stale"]) for node in storage["nodes"]]
    before = seen()
    outcome = head.dst("node", "mark-clean", "vol", node, *more)
    check(outcome.code == 1 and outcome.stdout == "" and len(outcome.stderr.splitlines()) == 1,
          f"mark-clean of {node}: {outcome}")
    line = outcome.stderr.strip()
    lab.say(line)
    check(line.startswith("dst: ") and len(line) <= 400, line)
    check(seen() == before, f"a refused command has changed {before} to {seen()}")
    return line


class Split:
    """A mirror of two: the first node has OLD, the second one went on alone with NEW."""

    def __init__(self, lab, **settings):
        self.exporters = start_exporters(lab, 2, "64M")
        self.behind, self.ahead = self.exporters
        self.nodes = [exporter.remote("disk") for exporter in self.exporters]
        self.head = start_mirror(lab, self.nodes, grace="500ms", takeover="4s", **settings)
        write(self.head, OLD)
        self.behind.kill()
        wait_detached(self.head, self.nodes[0])
        write(self.head, NEW)
        stale = self.head.node("vol", self.nodes[0])["stale"] * 512
        check(stale >= LENGTH, f"only {stale} bytes are stale")


@test
def a_stale_node_is_refused_while_the_others_have_what_it_lacks(lab: Lab):
    split = Split(lab)
    head = split.head
    line = refused(lab, head, split.nodes[0])
    for word in (split.nodes[0], "lacks changes", "other nodes have them", "copied to it"):
        check(word in line, f"the line does not say {word!r}: {line}")
    check("declared to be the right one" not in head.process.log_text(), "it was declared right")
    check_content(head, NEW)

    # While it is copied to: paused, so that it is not done before the command is there.
    split.behind.start()
    wait_in_sync(head)
    split.behind.pause()
    head.do("node", "mark-dirty", "vol", split.nodes[0])
    refused(lab, head, split.nodes[0])
    split.behind.resume()
    wait_in_sync(head)
    # In sync it is what it is said to be.
    head.do("node", "mark-clean", "vol", split.nodes[0])
    check_content(head, NEW)
    check_on_disks(lab, head, split.exporters, NEW)


@test
def a_witness_and_who_is_no_node_are_refused(lab: Lab):
    witness = lab.daemon("witness", export=[{"name": "disk", "device": lab.file("votes", "64K")}])
    split = Split(lab, witnesses=[witness.remote("disk")])
    check("witness" in refused(lab, split.head, witness.remote("disk")), "the line says no reason")
    check("no node" in refused(lab, split.head, "R: 127.0.0.1:1/disk"), "the line says no reason")


@test
def the_other_copy_is_gone_and_what_a_stale_one_lacks_is_lost(lab: Lab):
    """Requests wait for the node that has all; they go on from the other one."""
    split = Split(lab)
    head = split.head
    split.ahead.kill()
    with RawClient(head.port, timeout=60) as waiting:
        waiting.go("vol").request(READ, 0, 4096)
        head.wait_storage("vol", "holding")
        split.behind.start()
        head.wait_connected("vol", split.nodes[0])
        check(head.storage("vol")["state"] == "holding", f"{head.storage('vol')}")
        head.do("node", "mark-clean", "vol", split.nodes[0])
        head.wait_storage("vol", "degraded")
        check(head.node("vol", split.nodes[0])["state"] == "sync", f"{head.storage('vol')}")
    cookie = head.node("vol", split.nodes[0])["cookie"]
    check(f"the copy of node {cookie} is declared to be the right one" in head.process.log_text(),
          "the log does not say what was done")
    check_content(head, OLD)

    # Who had all of it comes back, and is one that lacks changes.
    split.ahead.start()
    wait_in_sync(head)
    check_content(head, OLD)
    check_on_disks(lab, head, split.exporters, OLD)
    head.stop()
    head.start()
    wait_in_sync(head)
    check_content(head, OLD)


@test
def a_head_that_waits_for_the_other_copy_is_told_to_go_on_without_it(lab: Lab):
    split = Split(lab)
    head = split.head
    head.stop()
    split.ahead.kill()
    split.behind.start()
    head.start()
    wait_until("it waits for the node that has all", lambda: (
        (storage := head.storage("vol"))["state"] == "waiting"
        and split.nodes[1] in storage["reason"]))
    wait_until("the other one is known", lambda: int(head.node("vol", split.nodes[0])["cookie"], 16))
    head.do("node", "mark-clean", "vol", split.nodes[0])
    head.wait_storage("vol", "degraded")
    check_content(head, OLD)
    split.ahead.start()
    # What that one had meanwhile is known to nobody here: it is kept until a person gives it up.
    def diverged():
        reason = head.node("vol", split.nodes[1])["reason"]
        check("it has diverged" in reason, reason)
        return reason
    reason = wait_until("the other one is refused", diverged)
    lab.say(reason)
    check("'dst node remove' and 'dst node add --force'" in reason, reason)
    with open(disk_of(lab, split.ahead), "rb") as disk:
        check(disk.read(LENGTH) == bytes([NEW]) * LENGTH, "it was overwritten")
    head.do("node", "remove", "vol", split.nodes[1])
    head.do("node", "add", "vol", split.nodes[1], "--force")
    wait_in_sync(head)
    check_on_disks(lab, head, split.exporters, OLD)


@test
def by_force_what_the_others_have_is_lost(lab: Lab):
    split = Split(lab)
    head = split.head
    # The one that has all of it is there, and so is the other one, as good as not copied to.
    split.behind.start()
    wait_in_sync(head)
    write(head, OLD)
    split.behind.pause()
    head.do("node", "mark-dirty", "vol", split.nodes[0])
    write(head, NEW)
    refused(lab, head, split.nodes[0])
    head.do("node", "mark-clean", "vol", split.nodes[0], "--force")
    split.behind.resume()
    wait_in_sync(head)
    check_content(head, OLD)
    check_on_disks(lab, head, split.exporters, OLD)


main()
