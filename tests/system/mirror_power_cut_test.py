#!/usr/bin/python3
"""Exporters below a mirror lose their unflushed writes, again and again: nothing is lost.

The exporters are the product's, over files with a volatile cache (tests/tools/lossy_exporter.cc).
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test
from lab_load import fault_under_load
from lab_mirror import (ages_in_force, check_copies_equal, start_mirror, wait_detached,
                        wait_in_sync)

KILLS = 24


@test
def power_cuts_of_three_exporters_lose_nothing(lab: Lab):
    disks = [lab.file(f"disk{number}", "32M") for number in range(3)]
    exporters = [lab.lossy_exporter(f"exporter{number}", disk, "disk", latency_us=300)
                 for number, disk in enumerate(disks)]
    head = start_mirror(lab, [exporter.remote() for exporter in exporters], grace="1s",
                        takeover="4s")
    size = head.storage("vol")["size"] * 512

    def cut_one():
        """One, or two at once, some of them for longer than grace."""
        victims = lab.random.sample(exporters, lab.random.choice([1, 1, 2]))
        tallies = [victim.kill() for victim in victims]
        if len(victims) == 1 and lab.random.random() < 0.3:  # (two can't leave: a vote is no majority)
            wait_detached(head, victims[0].remote())
        for victim in victims:
            victim.start()
        if lab.random.random() < 0.6:  # else cut again before, or while, it comes back
            for victim in victims:
                head.wait_connected("vol", victim.remote())
        lost = sum(tally.unflushed_bytes for tally in tallies)
        return lost if any(tally.changes_in_flight for tally in tallies) else None

    losses = fault_under_load(lab, head.uri("vol"), area=8 << 20, areas=2, times=KILLS,
                              fault=cut_one, fio_options=[{}, {"fsync": 500}, {"fsync": 50}])
    wait_in_sync(head)
    lab.say(f"{KILLS} cuts among changes lost {sum(losses) >> 10} KiB; {ages_in_force(head)} ages")
    check(sum(1 for lost in losses if lost) >= KILLS // 2, f"the cuts lost nothing: {losses}")

    # With the head gone nobody can repair anything: all must be on the disks by now.
    head.stop()
    left = [exporter.kill().unflushed_bytes for exporter in exporters]
    check(left == [0, 0, 0], f"{left} bytes are not flushed after the clean stop of the head")
    check_copies_equal(disks, size)


main()
