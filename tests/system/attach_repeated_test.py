#!/usr/bin/python3
"""Attached, detached and resized 200 times under load: nothing is left behind."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_api import Api
from lab_attach import attach, fio, loops_of, mounts_below, parent_of, wait_nothing_left

TIMES = 200
WARM = 40  # so many, until all that is kept for the next time is there
RSS_MAX = 4 << 20


def children(pid):
    """Pids of its children, ended ones too."""
    found = []
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            if parent_of(int(other)) == pid:
                found.append(int(other))
        except OSError:
            continue
    return found


def holdings(lab, pid):
    """What the daemon has now: by name, a number."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        text = status.read()
    return {"descriptors": len(os.listdir(f"/proc/{pid}/fd")), "children": len(children(pid)),
            "threads": int(re.search(r"Threads:\s+(\d+)", text)[1]),
            "mounts": len(mounts_below(lab.folder)), "loop devices": len(loops_of(lab.folder)),
            "memory": int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10}


def size_of(device):
    with open(device, "rb", buffering=0) as file:
        return file.seek(0, os.SEEK_END)


@test
def nothing_leaks(lab: Lab):
    storages = [{"name": name, "algorithm": "linear", "nodes": ["L: memory:16M"]}
                for name in ("grows", "comes")]
    head = lab.daemon("head", storage=storages)
    loaded = attach(lab, head, "grows", "--via", "fuse")
    load = fio(lab, "load", loaded, size="16M", time_based=1, runtime=600, verify=0, rw="randrw", iodepth=8, rate_iops=2000)
    steady = None
    api = Api(head)
    size = 16 << 20
    for number in range(TIMES):
        api.do("POST", "/v1/storages/grows/nodes", {"node": f"L: memory:{64 + number}k"})
        size += (64 + number) << 10
        made = api.do("POST", "/v1/attachments", {"name": "comes", "file": number % 4 == 0,
                                                  "via": "fuse"})
        with open(made["attachments"][0]["device"], "r+b", buffering=0) as device:
            device.write(lab.random.randbytes(256 << 10))
            os.fsync(device.fileno())
        wait_until("the kernel knows the size", lambda wanted=size: size_of(loaded) == wanted)
        api.do("DELETE", "/v1/attachments/comes", {"force": number % 3 == 0})
        if number == WARM:
            steady = holdings(lab, head.pid)
    check(load.is_running(), f"the load ended: {load.log_text()[-1500:]}")
    last = wait_until("it has no more than before", lambda: (lambda now: now if all(
        now[what] <= steady[what] for what in steady if what != "memory") else None)(
            holdings(lab, head.pid)))
    lab.say(f"after {WARM}: {steady}")
    lab.say(f"after {TIMES}: {last}")
    grown = last["memory"] - steady["memory"]
    # What the storage has grown by is memory of the daemon itself, once it is written: it is not.
    check(grown < RSS_MAX, f"the daemon has grown by {grown} bytes")
    load.kill()
    # Its workers end when they see that it is gone: until then the device is open.
    wait_until("it is detached", lambda: head.dst("detach", "grows").code == 0)
    wait_nothing_left(lab)
    check(not children(head.pid), "the daemon has children left")


main()
