#!/usr/bin/python3
"""Nodes of a mirror are added, replaced, removed and marked while fio writes and verifies."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test, wait_until
from lab_metadata import Metadata
from lab_mirror import (check_copies_equal, disk_of, start_exporters, start_mirror,
                        wait_detached, wait_in_sync)

AREA = 16 << 20


def remotes(exporters):
    return [exporter.remote("disk") for exporter in exporters]


def under_load(lab, head, name, change):
    """Calls `change()` while fio runs, as often as it takes to have it in the middle of a run."""
    fio = lab.fio(name, head.uri("vol"), overwrites=True, size=AREA)
    wait_until("fio writes", lambda: head.export("vol")["clients"] > 0)
    change()
    was_running = fio.is_running()
    fio.wait()
    return was_running


def refusal(head, *args):
    outcome = head.dst(*args)
    check(outcome.code == 1 and len(outcome.stderr.splitlines()) == 1, f"{args}: {outcome}")
    return outcome.stderr.strip()


@test
def nodes_come_and_go_under_load(lab: Lab):
    exporters = start_exporters(lab, 4, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes[:2], grace="1s", takeover="4s")
    size = head.storage("vol")["size"] * 512

    check(under_load(lab, head, "fio-add", lambda: head.do("node", "add", "vol", nodes[2])),
          "fio had ended before the node was added")
    check(len(wait_in_sync(head)["nodes"]) == 3, f"{head.storage('vol')}")
    check_copies_equal([disk_of(lab, each) for each in exporters[:3]], size)

    # A disk dies for good, and another one takes its place.
    exporters[0].kill()
    wait_detached(head, nodes[0])
    under_load(lab, head, "fio-replace",
               lambda: head.do("node", "replace", "vol", nodes[0], nodes[3]))
    check({node["type"] for node in wait_in_sync(head)["nodes"]} == set(nodes[1:]),
          f"{head.storage('vol')}")
    check_copies_equal([disk_of(lab, each) for each in exporters[1:]], size)

    under_load(lab, head, "fio-dirty", lambda: head.do("node", "mark-dirty", "vol", nodes[1]))
    wait_in_sync(head)
    under_load(lab, head, "fio-remove", lambda: head.do("node", "remove", "vol", nodes[2]))
    check({node["type"] for node in wait_in_sync(head)["nodes"]} == {nodes[1], nodes[3]},
          f"{head.storage('vol')}")

    # All of that outlives the head.
    head.stop()
    head.start()
    check({node["type"] for node in wait_in_sync(head)["nodes"]} == {nodes[1], nodes[3]},
          f"{head.storage('vol')}")
    check_copies_equal([disk_of(lab, exporters[1]), disk_of(lab, exporters[3])], size)


@test
def the_last_clean_copy_stays(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes, grace="500ms")
    lab.fio("fio", head.uri("vol"), size="4M").wait()
    exporters[0].kill()
    wait_detached(head, nodes[0])
    lab.fio("fio-more", head.uri("vol"), overwrites=True, size="4M").wait()
    for verb in ("remove", "mark-dirty"):
        line = refusal(head, "node", verb, "vol", nodes[1])
        lab.say(f"{verb}: {line}")
        check("no other node has all of the data" in line and nodes[1] in line, line)
    line = refusal(head, "node", "remove", "vol", nodes[1], "--force")
    check("no other copy can be had to go on from" in line, line)
    check(head.node("vol", nodes[1])["state"] == "sync", f"{head.storage('vol')}")


@test
def the_last_clean_copy_goes_by_force(lab: Lab):
    """Who forces it loses what the other copy lacks, and no more than that."""
    exporters = start_exporters(lab, 3, "256M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes[:2], init="assume-clean")
    size = head.storage("vol")["size"] * 512
    disks = [disk_of(lab, each) for each in exporters]
    for verb, gone in (("mark-dirty", 1), ("remove", 0)):
        other = 1 - gone
        # All of it has to be copied: by then the next command is long there.
        head.do("node", "mark-dirty", "vol", nodes[other])
        check(head.node("vol", nodes[other])["state"] == "notsync", f"{head.storage('vol')}")
        head.do("node", verb, "vol", nodes[gone], "--force")
        check(f"the copy of node {head.node('vol', nodes[other])['cookie']} is declared" in
              head.process.log_text(), "nothing had to be forced")
        lab.fio(f"fio-{verb}", head.uri("vol"), size=AREA).wait()
        storage = wait_in_sync(head)
        check(len(storage["nodes"]) == (2 if verb == "mark-dirty" else 1), f"{storage}")
        if verb == "mark-dirty":
            check_copies_equal(disks[:2], size)


def verify_under_load(lab, head, name, **where):
    """Compares the copies in the middle of a run of fio; returns the exit code and what was found.
    What is in flight is no difference."""
    for turn in range(4):  # slower each time: it is to go on for longer than the comparison
        fio = lab.fio(f"{name}-{turn}", head.uri("vol"), overwrites=True, rate_iops=1600 >> turn, **where)
        wait_until("fio writes", lambda: head.export("vol")["clients"] > 0)
        outcome = head.dst("storage", "verify", "vol")
        found = head.storage("vol")["verify"]
        was_running = fio.is_running()
        fio.wait()
        if was_running:
            lab.say(f"verify: {outcome.stdout.strip()} {outcome.stderr.strip()}")
            check(found["done"] == found["total"] and found["skipped"] == 0,
                  f"not all was compared: {found}")
            return outcome.code, found
    raise Failure("fio has always ended before the comparison")


@test
def a_difference_between_the_copies_is_found_and_mended(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    head = start_mirror(lab, remotes(exporters))
    size = head.storage("vol")["size"] * 512
    lab.fio("fio", head.uri("vol"), size=AREA).wait()
    disks = [disk_of(lab, exporter) for exporter in exporters]
    # Everywhere where it compares something.
    code, found = verify_under_load(lab, head, "fio-equal", size=AREA)
    check(code == 0 and found["different"] == 0, f"equal copies differ: {found}")

    place = lab.random.randrange(AREA)
    with open(disks[2], "r+b") as disk:
        disk.seek(place)
        byte = disk.read(1)
        disk.seek(-1, 1)
        disk.write(bytes([byte[0] ^ 0x10]))
    beside = {"size": AREA, "offset": AREA}
    code, found = verify_under_load(lab, head, "fio-beside", **beside)
    # Counted are sectors, in regions: of those the byte is in one.
    region = Metadata(disks[0]).region_size // 512
    check(code == 1 and 0 < found["different"] <= region,
          f"byte {place} differs, in a region of {region} sectors, and verify says {found}")
    first = place // 512 // region * region
    lines = [line for line in head.process.log_text().splitlines() if "copies differ" in line]
    check(len(lines) == 1 and f"within sectors {first}+" in lines[0], f"{lines}")
    fio = lab.fio("fio-repair", head.uri("vol"), overwrites=True, **beside)
    head.do("storage", "verify", "vol", "--repair")
    fio.wait()
    found = head.storage("vol")["verify"]
    check(0 < found["different"] <= region and found["repaired"] == found["different"], f"{found}")
    code, found = verify_under_load(lab, head, "fio-again", **beside)
    check(code == 0 and found["different"] == 0, f"{found}")
    check_copies_equal(disks, size)


@test
def what_the_reason_names_can_be_overruled(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    head = start_mirror(lab, remotes(exporters))
    lab.fio("fio", head.uri("vol"), size="4M").wait()
    head.stop()
    for exporter in exporters[1:]:
        exporter.stop()
    head.start()

    def waits():
        reason = head.storage("vol")["reason"]
        if "majority" not in reason:
            raise Failure(reason)
        return reason
    lab.say(f"one of three: {wait_until('it waits for a majority', waits)}")
    head.do("storage", "start", "vol", "--force")
    head.wait_storage("vol", "degraded")
    lab.fio("fio-alone", head.uri("vol"), overwrites=True, size="4M").wait()
    for exporter in exporters[1:]:
        exporter.start()
    wait_in_sync(head)
    check_copies_equal([disk_of(lab, exporter) for exporter in exporters],
                       head.storage("vol")["size"] * 512)


@test
def sides_that_went_on_apart_are_told_apart_by_a_person(lab: Lab):
    """Each of two nodes serves alone, the other one being away; then both are there."""
    exporters = start_exporters(lab, 2, "64M")
    nodes = remotes(exporters)
    head = start_mirror(lab, nodes, grace="500ms")
    head.stop()
    for alone, away in ((0, 1), (1, 0)):
        exporters[away].stop()
        head.start()
        wait_until("it waits", lambda: "--force" in head.storage("vol")["reason"])
        head.do("storage", "start", "vol", "--force")
        head.wait_storage("vol", "degraded")
        lab.fio(f"fio-{alone}", head.uri("vol"), overwrites=True, size="4M").wait()
        cookie = head.node("vol", nodes[alone])["cookie"]
        head.stop()
        exporters[away].start()
    head.start()
    line = wait_until("it is refused", lambda: "diverged" in (
        reason := head.storage("vol")["reason"]) and reason)
    lab.say(f"diverged: {line}")
    with open(disk_of(lab, exporters[1]), "rb") as disk:
        kept = disk.read(4 << 20)
    head.do("storage", "resolve", "vol", "--keep", cookie)
    wait_in_sync(head)
    check_copies_equal([disk_of(lab, exporter) for exporter in exporters],
                       head.storage("vol")["size"] * 512)
    with open(disk_of(lab, exporters[0]), "rb") as disk:
        check(disk.read(4 << 20) == kept, "the wrong side was kept")


main()
