#!/usr/bin/python3
"""Whatever a command changes is there after the daemon was killed: each verb, and the tree.

And a damaged state file is refused with its line and a way back; it is never replaced.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, dst, main, test, wait_until
from lab_mirror import STORAGE, start_exporters, wait_in_sync


def lasting(daemon):
    """What a restart may not change."""
    config = json.loads(daemon.do("config", "show", "--json"))
    status = daemon.status()
    storages = {storage["name"]: (
        storage["algorithm"], storage["size"], storage["state"] == "stopped",
        storage["resync"]["size"], storage["resync"]["timeout"],
        sorted((node["type"], node["cookie"], node["start"], "witness" in node["flags"])
               for node in storage["nodes"]))
        for storage in status["storages"]}
    exports = {share["name"]: (share["device"], share["size"], share["read_only"],
                               share["description"]) for share in status["exports"]}
    algorithms = sorted((each["name"], each["file"]) for each in status["algorithms"])
    return {"in force": config["in_force"], "stopped": config["stopped"],
            "differences": config["differences"], "warnings": sorted(status["warnings"]),
            "storages": storages, "exports": exports, "algorithms": algorithms}


def settled(daemon):
    def reached():
        storages = daemon.status()["storages"]
        return all(storage["state"] in ("running", "stopped") for storage in storages)
    wait_until("all storages are formed", reached, 30)


@test
def each_change_is_there_after_the_daemon_was_killed(lab: Lab):
    exporters = start_exporters(lab, 4, 8 << 20)
    witness = lab.daemon("witness", export=[{"name": "disk", "device": lab.file("votes", "64K")}])
    one, two, three, four = (each.remote("disk") for each in exporters)
    head = lab.daemon("head", storage=[
        {"name": "doomed", "algorithm": "linear", "nodes": ["L: memory:1M"]},
        {"name": "emptied", "algorithm": "linear", "nodes": ["L: memory:1M"]}])
    tree = f"{head.config['run_dir']}/sysfs/devices"
    wanted = lab.path("wanted.toml")
    with open(wanted, "w", encoding="utf-8") as file:
        file.write('[[export]]\nname = "applied"\ndevice = "memory:1M"\n')

    def write(path, text):
        with open(f"{tree}/{path}", "w", encoding="utf-8") as file:
            file.write(text)

    def node_path(name):
        node = head.node(STORAGE, name)
        return f"{STORAGE}/n-{node['start']}-{node['cookie']}"

    changes = {
        "storage create": lambda: head.do("storage", "create", STORAGE, "--algorithm", "mirror",
                                          "--node", one, "--node", two, "--grace", "1s",
                                          "--hold", "9s", "--read-policy", "least-busy"),
        "node add": lambda: head.do("node", "add", STORAGE, three),
        "node add --witness": lambda: head.do("node", "add", STORAGE, witness.remote("disk"),
                                              "--witness"),
        "node remove": lambda: head.do("node", "remove", STORAGE, two),
        "node mark-dirty": lambda: head.do("node", "mark-dirty", STORAGE, three),
        "export add": lambda: head.do("export", "add", "shown", "--device", f"storage:{STORAGE}",
                                      "--access", "10.0.0.0/8=ro", "--description", "a text"),
        "export remove": lambda: head.do("export", "remove", "shown"),
        "tree: resync_size": lambda: write(f"{node_path(one)}/resync_size", "4096"),
        "tree: resync_timout": lambda: write(f"{node_path(one)}/resync_timout", "250"),
        "tree: dirty": lambda: write(f"{node_path(three)}/dirty", "1"),
        "tree: remove_all_nodes": lambda: write("emptied/remove_all_nodes", "1"),
        "apply": lambda: head.do("apply", wanted, "--yes"),
        "storage remove": lambda: head.do("storage", "remove", "doomed"),
        "storage stop": lambda: head.do("storage", "stop", STORAGE),
        "storage start": lambda: head.do("storage", "start", STORAGE),
        "forget it": lambda: head.do("storage", "remove", STORAGE),
        "storage assemble": lambda: head.do("storage", "assemble", STORAGE, "--node", one,
                                            "--node", three, "--witness",
                                            witness.remote("disk")),
    }
    for name, change in changes.items():
        begun = time.monotonic()
        before = lasting(head)
        if name.startswith("node") or name.startswith("tree: dirty"):
            wait_in_sync(head)
        change()
        settled(head)
        if STORAGE in head.do("storage", "list") and name != "storage stop":
            wait_in_sync(head)
        after = lasting(head)
        if name not in ("node mark-dirty", "tree: dirty"):
            check(after != before, f"{name} has changed nothing")
        head.kill()
        head.start()
        settled(head)
        found = lasting(head)
        check(found == after, f"{name} did not survive:\n{after}\nbecame\n{found}")
        lab.say(f"{time.monotonic() - begun:5.1f} s  {name}")
    # A node that is replaced has to be out of sync first.
    exporters[2].kill()
    wait_until("its node is out of sync",
               lambda: head.node(STORAGE, three)["state"] == "notsync", 20)
    head.do("node", "replace", STORAGE, three, four)
    wait_in_sync(head)
    after = lasting(head)
    head.kill()
    head.start()
    wait_in_sync(head)
    check(lasting(head) == after, "node replace did not survive")


@test
def a_damaged_state_file_is_refused_with_its_line_and_a_way_back(lab: Lab):
    disk = lab.file("disk", "1M")
    head = lab.daemon("head")
    head.do("export", "add", "disk", "--device", disk)
    head.do("storage", "create", "vol", "--algorithm", "linear", "--node", "L: memory:1M")
    head.stop()
    path = f"{head.config['state_dir']}/runtime.toml"
    with open(path, encoding="utf-8") as file:
        good = file.read()
    lines = good.splitlines()
    damages = {
        "cut off": good[:len(good) // 2].rstrip()[:-1],
        "empty": "",
        "binary": good.replace("vol", "v\0l"),
        "unknown key": good + "nonsense = 1\n",
        "unknown table": good + "[[volume]]\nname = \"x\"\n",
        "twice": good + "\n" + good.split("\n\n", 1)[1],
        "wrong type": good.replace('name = "vol"', "name = 7"),
        "another version": good.replace("version = 1", "version = 2"),
        "bad name": good.replace('"vol"', '"../vol"'),
        "no algorithm": "\n".join(line for line in lines if not line.startswith("algorithm")),
    }
    for name, text in damages.items():
        check(text != good, f"{name}: no damage")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        refused = dst("daemon", "--config", head.config_path)
        check(refused.code == 1, f"{name}: it started: {refused}")
        said = refused.stderr.strip().splitlines()[-1]
        check(f"{path}:" in said and "move" in said and "away" in said,
              f"{name}: no line and no way back: {said}")
        doctor = dst("doctor", "--config", head.config_path, "--socket", head.socket_path)
        check(doctor.code == 1 and "runtime.toml" in doctor.stdout, f"{name}: {doctor}")
        with open(path, encoding="utf-8") as file:
            check(file.read() == text, f"{name}: the file was replaced")
    os.rename(path, path + ".damaged")
    head.start()
    check(head.status()["exports"] == [] == head.status()["storages"], f"{head.status()}")
    head.stop()
    with open(path, "w", encoding="utf-8") as file:
        file.write(good)
    head.start()
    head.wait_storage("vol")
    check(head.export("disk")["size"] == 2048, f"{head.status()}")


main()
