#!/usr/bin/python3
"""A daemon with the least memory there may be: what it takes on it serves, and it takes on no more.

Nobody waits for a buffer that stays with somebody else, however many there are, whatever they do.
"""

# ctest: serial (loop devices are the host's)
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test
from lab_attach import attach, ends_well, fio

MIB = 1 << 20
COUNT = 3  # attached: as many as fit beside what connections need


def linear(name):
    return {"name": name, "algorithm": "linear", "nodes": ["L: memory:16M"], "metadata": "none"}


def export(name):
    return {"name": name, "device": "memory:1M"}


def refused(daemon, *words):
    """In one line, which says what to do."""
    outcome = daemon.dst(*words)
    check(outcome.code == 1 and outcome.stderr.count("\n") == 1 and "memory" in outcome.stderr and
          "is too little" in outcome.stderr, f"{words}: {outcome}")


@test
def all_that_is_attached_goes_on_at_once(lab: Lab):
    names = [f"vol{number}" for number in range(COUNT + 1)]
    head = lab.daemon("head", memory="32M", storage=[linear(name) for name in names])
    files = [attach(lab, head, name, "--file") for name in names[:COUNT]]
    refused(head, "attach", names[COUNT], "--file")
    # Each request of the second kind needs a buffer to change parts of blocks in, beside its own.
    jobs = []
    for number, path in enumerate(files):
        jobs.append(fio(lab, f"verified-{number}", path, size="8M", bsrange="512-1m",
                        blockalign=512, loops=3))
        jobs.append(fio(lab, f"unaligned-{number}", path, offset="8M", size="7M", bs=900001,
                        blockalign=101, verify=0, do_verify=0, norandommap=1, io_size="400M"))
    for job in jobs:
        ends_well(job, timeout=60)
    head.do("detach", names[0])
    attach(lab, head, names[COUNT], "--file")


@test
def what_was_taken_on_is_taken_on_again(lab: Lab):
    head = lab.daemon("head", memory="32M", export=[export("first")])
    last = 0
    while last < 64 and head.dst("export", "add", f"more{last}", "--device", "memory:1M").code == 0:
        last += 1
    check(4 <= last < 16, f"{last} exports fit")
    refused(head, "export", "add", "one-too-many", "--device", "memory:1M")
    head.stop()
    head.start()
    check(len(head.status()["exports"]) == last + 1, "not all are there again")
    refused(head, "export", "add", "one-too-many", "--device", "memory:1M")
    head.do("export", "remove", "first")
    head.do("export", "add", "instead", "--device", "memory:1M")


main()
