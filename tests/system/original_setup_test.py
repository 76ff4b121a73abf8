#!/usr/bin/python3
"""The set-up that the original author tested: storages joined, exported, and joined again.

    20 disks on ten exporters, two on each
      -> ten linear storages of two remotes each, in one head, which exports them
      -> one linear storage of those ten and a disk of another exporter, in a second head
      -> a client that writes and verifies all of it
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until

STORAGES = 10
LEAF_MIB = 4
SECTORS_PER_MIB = 2048


def linear(name, nodes):
    return {"name": name, "algorithm": "linear", "metadata": "none", "nodes": nodes}


class Tower:
    """Exporters, the head in the middle, and the head on top."""

    def __init__(self, lab):
        self.leaves = [
            lab.daemon(f"leaf-{i}", memory="64M", export=[
                {"name": f"disk{j}", "device": lab.file(f"leaf-{i}-disk{j}", f"{LEAF_MIB}M")}
                for j in range(2)])
            for i in range(STORAGES)]
        self.middle = lab.daemon(
            "middle",
            storage=[linear(f"pair{i}", [leaf.remote("disk0"), leaf.remote("disk1")])
                     for i, leaf in enumerate(self.leaves)],
            export=[{"name": f"pair{i}", "device": f"storage:pair{i}"} for i in range(STORAGES)])
        self.another = lab.daemon("another", memory="64M", export=[
            {"name": "disk", "device": lab.file("another-disk", f"{LEAF_MIB}M")}])
        self.top = lab.daemon(
            "top",
            storage=[linear("all", [*(self.middle.remote(f"pair{i}") for i in range(STORAGES)),
                                    self.another.remote("disk")])],
            export=[{"name": "all", "device": "storage:all"}])
        self.mib = (2 * STORAGES + 1) * LEAF_MIB

    def stop(self):
        for daemon in [self.top, self.middle, self.another, *self.leaves]:
            daemon.stop()


@test
def ten_storages_of_two_remotes_joined_again_with_another_exporter_work(lab: Lab):
    tower = Tower(lab)
    status = tower.top.wait_storage("all")
    check(status["size"] == tower.mib * SECTORS_PER_MIB, f"its size is wrong: {status}")
    check([node["start"] for node in status["nodes"]]
          == [i * 2 * LEAF_MIB * SECTORS_PER_MIB for i in range(STORAGES + 1)],
          f"its nodes are at the wrong places: {status}")

    # Requests of 36 KiB cross the edges between nodes at both levels.
    lab.fio("fio", tower.top.uri("all"), size=f"{tower.mib}M", bs="36k").wait()
    for pair in tower.middle.status()["storages"]:
        check(pair["state"] == "running", f"{pair}")

    # What lies on the disks, one after another, is what the top shows.
    tower.top.do("export", "add", "whole", "--device", "storage:all", "--read-only")
    copied = run(["nbdcopy", tower.top.uri("whole"), lab.path("whole")])
    check(copied.code == 0, copied.stderr)
    tower.stop()
    disks = b""
    for name in [*(f"leaf-{i}-disk{j}" for i in range(STORAGES) for j in range(2)),
                 "another-disk"]:
        with open(lab.path(name), "rb") as disk:
            disks += disk.read()
    with open(lab.path("whole"), "rb") as whole:
        check(whole.read() == disks, "the disks, put together, differ from the top's content")


@test
def a_leaf_is_killed_under_load_and_the_top_sees_a_delay_only(lab: Lab):
    tower = Tower(lab)
    tower.top.wait_storage("all")
    victim = lab.random.randrange(STORAGES)
    pair = f"pair{victim}"
    fio = lab.fio("fio", tower.top.uri("all"), size=f"{tower.mib}M")
    wait_until("fio has begun", lambda: tower.top.export("all")["clients"] == 1)
    tower.leaves[victim].kill()
    waiting = wait_until(f"requests wait in the middle for the leaf of {pair}",
                         lambda: tower.middle.waiting_requests(pair))
    others = [storage["state"] for storage in tower.middle.status()["storages"]
              if storage["name"] != pair]
    check(set(others) == {"running"}, f"other storages suffer from the lost leaf: {others}")
    check(fio.is_running(), "fio ended although a leaf is gone")
    lab.say(f"{waiting} requests waited for leaf {victim}")
    tower.leaves[victim].start()
    fio.wait()
    tower.stop()


@test
def the_head_in_the_middle_is_killed_under_load_as_any_other_exporter(lab: Lab):
    tower = Tower(lab)
    tower.top.wait_storage("all")
    fio = lab.fio("fio", tower.top.uri("all"), size=f"{tower.mib}M")
    wait_until("fio has begun", lambda: tower.top.export("all")["clients"] == 1)
    tower.middle.kill()
    wait_until("requests wait in the top", lambda: tower.top.waiting_requests("all"))
    tower.middle.start()
    fio.wait()
    tower.stop()


main()
