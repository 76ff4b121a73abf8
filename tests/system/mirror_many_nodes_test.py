#!/usr/bin/python3
"""A mirror of 200 remote nodes and a local one, as the original ran; half of them go and come back.

ctest: serial
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test
from lab_history import History, Writer
from lab_mirror import check_copies_equal, mirror_config, wait_in_sync

REMOTE = 200
# Metadata for 255 nodes takes 1 MiB of each.
SIZE = "4M"


@test
def a_majority_of_201_nodes_goes_on_and_the_others_come_back(lab: Lab):
    disks = [lab.file(f"disk{number}", SIZE) for number in range(REMOTE + 1)]
    half = REMOTE // 2
    exporters = [
        lab.daemon(f"exporter{part}", memory="1G",
                   export=[{"name": f"disk{number}", "device": disks[part * half + number]}
                           for number in range(half)])
        for part in range(2)]
    nodes = [exporter.remote(f"disk{number}") for exporter in exporters for number in range(half)]
    begin = time.monotonic()
    head = lab.daemon("head", memory="1G", **mirror_config(
        nodes + [f"L: {disks[REMOTE]}"], replay_window="1M", grace="2s", takeover="20s"))
    status = wait_in_sync(head, 120)
    check(len(status["nodes"]) == REMOTE + 1, f"{len(status['nodes'])} nodes")
    lab.say(f"made of {REMOTE + 1} nodes within {time.monotonic() - begin:.1f} s")

    history = History(512)
    with Writer(history, head.port, "vol", lab.random, depth=4) as writer:
        time.sleep(2)  # load, with everybody there
        before = len(writer.times)
        exporters[0].kill()
        killed = time.monotonic()
        head.wait_storage("vol", "degraded", 60)
        time.sleep(2)  # load, with 101 of 201 votes
        goes_on = len(writer.times)
        check(goes_on > before, "nothing was written while 100 nodes were away")
        lab.say(f"{goes_on - before} writes in {time.monotonic() - killed:.1f} s without 100 nodes")
        exporters[0].start()
        back = time.monotonic()
        wait_in_sync(head, 120)
        lab.say(f"100 nodes in sync again after {time.monotonic() - back:.1f} s")
        writer.stop()
    history.check(head.port, "vol")
    size = head.storage("vol")["size"] * 512
    head.stop()
    check_copies_equal(disks, size)


main()
