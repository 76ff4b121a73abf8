#!/usr/bin/python3
# ctest: serial
"""A storage that is stuck takes its share of the head's memory and no more.

64 clients have 64 writes of 1 MiB each (4 GiB) under way to a storage whose exporter is paused. The
head stays under its `memory`, and another storage of the same head keeps its speed.
"""

import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import SOURCE, Lab, check, main, test, wait_until

MEMORY_MIB = 128
CLIENTS, DEPTH, LENGTH = 64, 64, 1 << 20
ROUNDS = 5
SPEED_KEPT_MIN = 0.6


def linear(name, node):
    return {"name": name, "algorithm": "linear", "metadata": "none", "nodes": [node]}


def speeds(lab, uri, when):
    """Bytes a second of several short runs of writes."""
    runs = []
    for number in range(ROUNDS):
        with lab.fio(f"fio-{when}-{number}", uri, rw="write", bs="64k", iodepth=16, size="64M",
                     time_based=1, runtime=1, verify=0, do_verify=0) as fio:
            runs.append(fio.wait()["write"]["bw_bytes"])
    return runs


@test
def a_stuck_storage_neither_fills_the_memory_nor_slows_another(lab: Lab):
    stuck = lab.daemon("stuck", memory="128M", export=[{"name": "disk", "device": "memory:64M"}])
    free = lab.daemon("free", memory="128M", export=[{"name": "disk", "device": "memory:64M"}])
    head = lab.daemon(
        "head", memory=f"{MEMORY_MIB}M",
        storage=[linear("stuck", stuck.remote("disk")), linear("free", free.remote("disk"))],
        export=[{"name": "stuck", "device": "storage:stuck"},
                {"name": "free", "device": "storage:free"}])
    head.wait_storage("stuck")
    head.wait_storage("free")
    before = speeds(lab, head.uri("free"), "before")

    stuck.pause()
    flood = lab.process("flood", [f"{SOURCE}/tests/tools/nbd_flood.py", head.uri("stuck"),
                                  CLIENTS, DEPTH, LENGTH])
    wait_until("the clients can send no more", lambda: "sent" in flood.log_text(), 60)
    check(head.export("stuck")["clients"] == CLIENTS, f"{head.export('stuck')}")
    wait_until("requests wait in the head", lambda: head.waiting_requests("stuck"))
    waiting = head.waiting_requests("stuck")
    during = speeds(lab, head.uri("free"), "during")
    check("answered" not in flood.log_text(), f"the flood has ended:\n{flood.log_text()}")
    rss_stuck = head.process.rss_bytes()

    stuck.resume()
    wait_until("the flood is over", lambda: not flood.is_running(), 90)
    total = CLIENTS * DEPTH
    check(f"{total} of {total} answered, 0 errors" in flood.log_text(),
          f"requests were lost:\n{flood.log_text()[-1000:]}")

    peak = head.process.rss_peak_bytes()
    ratio = statistics.median(during) / statistics.median(before)
    lab.say(f"memory: {rss_stuck >> 20} MiB with {waiting} requests waiting inside, "
            f"{peak >> 20} MiB at most")
    lab.say("free storage, MB/s: " + " | ".join(
        f"{when} {', '.join(f'{run / 1e6:.0f}' for run in runs)}"
        for when, runs in (("before", before), ("during", during))) + f" | ratio {ratio:.2f}")
    check(peak <= MEMORY_MIB << 20, f"the head took {peak >> 20} MiB, more than {MEMORY_MIB}")
    check(ratio >= SPEED_KEPT_MIN, f"the free storage kept {ratio:.2f} of its speed only")


main()
