#!/usr/bin/python3
"""A mirror of three exporters that are killed, stopped and restarted at random under load.

No request fails, what is read is what was written, and in the end all copies are equal.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test
from lab_mirror import (ages_in_force, check_copies_equal, disk_of, start_exporters, start_mirror,
                        wait_in_sync)

SECONDS = 120
AREA = 16 << 20
AREAS = 3


class Faults:
    """Does something to one of the exporters; each is running, paused or gone."""

    def __init__(self, lab, exporters):
        self._random = lab.random
        self._exporters = exporters
        self._paused = set()
        self.kills = self.pauses = self.outages = 0

    def next(self):
        exporter = self._random.choice(self._exporters)
        if not exporter.process.is_running():
            exporter.start()
        elif exporter in self._paused:
            self._paused.remove(exporter)
            if self._random.random() < 0.3:
                exporter.kill()
                self.kills += 1
            else:
                exporter.resume()
        elif self._random.random() < 0.5:
            exporter.kill()
            self.kills += 1
        else:
            exporter.pause()
            self._paused.add(exporter)
            self.pauses += 1
        if all(self._is_away(each) for each in self._exporters):
            self.outages += 1

    def end(self):
        for exporter in self._exporters:
            if not exporter.process.is_running():
                exporter.start()
            elif exporter in self._paused:
                exporter.resume()
        self._paused.clear()

    def _is_away(self, exporter):
        return exporter in self._paused or not exporter.process.is_running()


@test
def two_minutes_of_kills_and_stops_fail_nothing_and_leave_equal_copies(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    # Short times, so that nodes leave and come back often.
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters],
                        grace="1s", takeover="4s")
    size = head.storage("vol")["size"] * 512
    check(AREA * AREAS <= size, f"the mirror has only {size} bytes")

    faults = Faults(lab, exporters)
    begun = time.monotonic()
    runs = 0
    while time.monotonic() < begun + SECONDS:
        # First all areas as they were made, unwritten; then again and again as overwrites. Some of
        # the runs flush.
        fio = lab.fio(f"fio-{runs}", head.uri("vol"), overwrites=runs >= AREAS, size=AREA,
                      offset=AREA * (runs % AREAS), bsrange="4k-64k",
                      **({"fsync": 50} if runs % 2 else {}))
        while fio.is_running() and time.monotonic() < begun + SECONDS:
            time.sleep(lab.random.uniform(0.05, 1.5))  # no wait for anything: a random moment
            faults.next()
        faults.end()
        fio.wait()
        runs += 1
    storage = wait_in_sync(head)
    ages = ages_in_force(head)
    lab.say(f"{faults.kills} kills, {faults.pauses} pauses, {faults.outages} times nobody was "
            f"there, {ages} ages, {runs} runs of fio of {AREA >> 20} MiB, all clean")
    check(faults.kills >= 10 and faults.pauses >= 10, "the faults were too few")
    check(ages >= 10, f"nodes hardly ever left or came back: {ages} ages")
    check_copies_equal([disk_of(lab, exporter) for exporter in exporters], size)
    check(storage["resync"]["done"] == storage["resync"]["total"], f"{storage}")

    # The teeth of the comparison: a sector of one copy is changed behind everybody's back.
    head.stop()
    with open(disk_of(lab, exporters[2]), "r+b") as disk:
        disk.seek(lab.random.randrange(size))
        byte = disk.read(1)
        disk.seek(-1, 1)
        disk.write(bytes([byte[0] ^ 1]))
    try:
        check_copies_equal([disk_of(lab, exporter) for exporter in exporters], size)
    except Failure:
        return
    raise Failure("a difference of one bit was not found")


main()
