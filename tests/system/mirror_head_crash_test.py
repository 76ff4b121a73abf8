#!/usr/bin/python3
"""The head of a mirror is killed under load and started again.

Within a second of its nodes being reachable the storage serves; what had intent is copied and
nothing else; what was durable is there.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_history import BLOCK, History, Writer
from lab_metadata import Metadata
from lab_mirror import (check_copies_equal, disk_of, fill, start_exporters, start_mirror,
                        wait_in_sync)
from lab_raw_nbd import READ, RawClient

ROUNDS = 6
BLOCKS = 8192  # 32 MiB of 4 KiB


def first_answer_s(head, begun):
    """When a read through the export is answered, in seconds after `begun`."""
    with RawClient(head.port, timeout=30) as client:
        error = client.go("vol").ask(READ, 0, BLOCK)
    check(error == "", f"the first read failed: {error}")
    return time.monotonic() - begun


def regions_with_intent(disks):
    """What may differ from node to node, by what lies on the disks. Exporters may run."""
    metadata = [Metadata(disk) for disk in disks]
    return set().union(*(each.intent() for each in metadata)), metadata[0].region_size


@test
def a_killed_head_is_back_in_a_second_and_copies_what_had_intent(lab: Lab):
    exporters = start_exporters(lab, 3, "128M")
    disks = [disk_of(lab, exporter) for exporter in exporters]
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters])
    size = head.storage("vol")["size"] * 512
    # Else most of it would be unwritten, and never copied.
    fill(lab, head, size, zeroes=BLOCKS * BLOCK)
    history = History(BLOCKS)
    for number in range(ROUNDS):
        with Writer(history, head.port, "vol", lab.random, depth=16) as writer:
            deadline = time.monotonic() + lab.random.uniform(0.5, 2)
            while time.monotonic() < deadline or not writer.times:
                time.sleep(0.01)  # load, until a random moment
            head.kill()
            writer.until_cut_off()
        intent, region = regions_with_intent(disks)
        check(intent, "no region had intent under load")

        begun = time.monotonic()
        head.start()
        took = first_answer_s(head, begun)
        check(took <= 1, f"the first answer came {took:.2f} s after the head was started")
        storage = wait_in_sync(head)
        # One goes on as it is, two have copied to them what had intent.
        copied, most = storage["resync"]["total"] * 512, 2 * len(intent) * region
        lab.say(f"round {number}: {len(writer.times)} writes; first answer after {took:.3f} s; "
                f"{len(intent)} of {-(-size // region)} regions had intent, "
                f"{copied >> 10} KiB of at most {most >> 10} resynced")
        check(0 < copied <= most, f"{copied} bytes were resynced, not at most {most}")
        history.check(head.port, "vol")
        check_copies_equal(disks, size)


@test
def a_head_and_all_exporters_are_killed_together(lab: Lab):
    """As a power cut of a rack. The head is up first and waits for the others."""
    exporters = start_exporters(lab, 3, "64M")
    disks = [disk_of(lab, exporter) for exporter in exporters]
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters])
    size = head.storage("vol")["size"] * 512
    history = History(BLOCKS // 2)
    for number in range(3):
        with Writer(history, head.port, "vol", lab.random, depth=16) as writer:
            deadline = time.monotonic() + lab.random.uniform(0.5, 1.5)
            while time.monotonic() < deadline or not writer.times:
                time.sleep(0.01)  # load, until a random moment
            for daemon in lab.random.sample([head, *exporters], 4):
                daemon.kill()
            writer.until_cut_off()
        head.start()
        wait_until("it waits for all of them", lambda: all(
            exporter.remote("disk") in head.storage("vol")["reason"] for exporter in exporters))
        check(head.storage("vol")["state"] == "waiting", f"{head.storage('vol')}")
        for exporter in exporters:
            exporter.start()
        begun = time.monotonic()
        took = first_answer_s(head, begun)
        lab.say(f"round {number}: {len(writer.times)} writes, first answer {took:.2f} s after the "
                f"last exporter was there")
        check(took <= 1, f"it took {took:.2f} s")
        wait_in_sync(head)
        history.check(head.port, "vol")
        check_copies_equal(disks, size)


main()
