#!/usr/bin/python3
"""A mirror grows when all of its nodes have: under load, over a killed head, and not before."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until
from lab_daemon import DST
from lab_mirror import (check_copies_equal, disk_of, fill, start_exporters, start_mirror,
                        wait_detached, wait_in_sync)

MIB = 1 << 20
AREA = 16 * MIB


def refusal(head):
    outcome = head.dst("storage", "grow", "vol")
    check(outcome.code == 1 and len(outcome.stderr.splitlines()) == 1, f"{outcome}")
    return outcome.stderr.strip()


def size_of(head):
    return head.storage("vol")["size"] * 512


def seen_size(head):
    """By a client of the export that comes now."""
    done = run(["nbdinfo", "--size", head.uri("vol")], timeout=30)
    check(done.code == 0, f"{done}")
    return int(done.stdout)


def read_at(head, offset, length):
    done = run(["qemu-io", "-f", "raw", "-r", head.uri("vol"),
                "-c", f"read -P 0 {offset} {length}"], timeout=60)
    return done.code == 0 and "failed" not in done.stdout


@test
def it_grows_under_load_when_all_nodes_have(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    local = lab.file("local.disk", "80M")
    nodes = [exporter.remote("disk") for exporter in exporters] + [f"L: {local}"]
    disks = [disk_of(lab, exporter) for exporter in exporters] + [local]
    head = start_mirror(lab, nodes, grace="1s", takeover="4s")
    before = size_of(head)
    fill(lab, head, before)  # so that no old region counts as unwritten

    line = refusal(head)
    lab.say(f"nothing has grown: {line}")
    check(nodes[0] in line and "let it grow first" in line, line)
    os.truncate(disks[0], 96 * MIB)
    line = refusal(head)
    check(nodes[1] in line and "let it grow first" in line, line)
    os.truncate(disks[1], 128 * MIB)
    exporters[1].kill()
    wait_detached(head, nodes[1])
    line = refusal(head)
    lab.say(f"one is away: {line}")
    check(nodes[1] in line and "away" in line and size_of(head) == before, line)
    exporters[1].start()
    wait_in_sync(head)

    # The local one takes the data of 80 MiB at first, and all of 96 later.
    fio = lab.fio("fio", head.uri("vol"), overwrites=True, size=AREA)
    wait_until("fio writes", lambda: head.export("vol")["clients"] > 0)
    head.do("storage", "grow", "vol")
    check(fio.is_running(), "fio had ended before it grew")
    middle = size_of(head)
    check(before + 15 * MIB < middle < before + 17 * MIB, f"{before} has grown to {middle}")
    check(seen_size(head) == middle, f"clients see {seen_size(head)} bytes of {middle}")
    os.truncate(local, 96 * MIB)
    head.do("storage", "grow", "vol")
    fio.wait()
    after = size_of(head)
    check(middle + 15 * MIB < after < middle + 17 * MIB, f"{middle} has grown to {after}")
    wait_in_sync(head)
    check(read_at(head, before, after - before), "what is new is not zero")
    check(not read_at(head, before - MIB, MIB), "what was there is gone")
    lab.fio("fio-new", head.uri("vol"), size=AREA, offset=after - AREA).wait()

    # All of that outlives the head, and what each disk says is the new size.
    head.stop()
    for disk, exporter in zip(disks[:2], exporters):
        exporter.stop()
    inspected = [run([DST, "node", "inspect", disk], timeout=30) for disk in disks]
    check(all(f"{after // MIB}." in one.stdout for one in inspected), f"{inspected}")
    for exporter in exporters:
        exporter.start()
    head.start()
    wait_in_sync(head)
    check(size_of(head) == after, f"{size_of(head)} bytes of {after} are left")
    # Raw disks differ where nothing was written yet: that reads as zeroes, whatever is there.
    check_copies_equal(disks, before)
    compared = head.dst("storage", "verify", "vol")
    check(compared.code == 0, f"{compared}")


class GrownMeanwhile:
    """A mirror that was written to, and whose disks then grow while nobody has them."""

    def __init__(self, lab):
        self._lab = lab
        self._exporters = start_exporters(lab, 2, "64M")
        self.nodes = [exporter.remote("disk") for exporter in self._exporters]
        self.head = start_mirror(lab, self.nodes)
        self._before = size_of(self.head)
        lab.fio("fio", self.head.uri("vol"), size=AREA).wait()
        self._cookie = self.head.node("vol", self.nodes[0])["cookie"]

    def grow(self, end):
        """`end`: ends an exporter, in order or not."""
        for exporter in self._exporters:
            end(exporter)
            os.truncate(disk_of(self._lab, exporter), 96 * MIB)
            exporter.start()

    def check_known(self, head):
        """It is the same mirror, has its size, and takes the new one when it is told."""
        wait_in_sync(head)
        check(head.node("vol", self.nodes[0])["cookie"] == self._cookie,
              "another storage was made of the nodes")
        check(size_of(head) == self._before, f"{size_of(head)}, was {self._before}")
        head.do("storage", "grow", "vol")
        wait_in_sync(head)
        check(size_of(head) > self._before + 30 * MIB, f"{size_of(head)}")
        check_copies_equal([disk_of(self._lab, each) for each in self._exporters], self._before)


@test
def disks_that_grew_behind_the_back_of_a_head_are_known_again(lab: Lab):
    """Nothing at their ends says so: the head remembers where they ended."""
    grown = GrownMeanwhile(lab)
    grown.head.kill()
    grown.grow(lambda exporter: exporter.kill())
    grown.head.start()
    grown.check_known(grown.head)


@test
def disks_that_grew_are_known_to_a_head_that_never_saw_them(lab: Lab):
    """It remembers nothing, and the head that had them has left in order: their exporters remember."""
    grown = GrownMeanwhile(lab)
    grown.head.stop()
    grown.grow(lambda exporter: exporter.stop())
    grown.check_known(start_mirror(lab, grown.nodes, name="other"))


main()
