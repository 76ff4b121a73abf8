"""A mirror as tests see it: exporters with a disk each, a head, and what the copies hold."""

import re

from lab_metadata import Metadata
from lab_process import Failure, check, run, wait_until

STORAGE = "vol"
_MIB = 1 << 20


def disk_of(lab, exporter):
    """The path of the disk that `start_exporters` gave to it."""
    return lab.path(exporter.name + ".disk")


def start_exporters(lab, count, size):
    """Exporters `exporter0`, `exporter1`, ..., each with an empty disk under the name `disk`."""
    exporters = []
    for number in range(count):
        name = f"exporter{number}"
        disk = lab.file(name + ".disk", size)
        exporters.append(lab.daemon(name, export=[{"name": "disk", "device": disk}]))
    return exporters


def mirror_config(nodes, **settings):
    """The configuration of a head: a mirror `vol` of these nodes, exported under the same name."""
    storage = {"name": STORAGE, "algorithm": "mirror", "nodes": nodes} | settings
    return {"storage": [storage], "export": [{"name": STORAGE, "device": f"storage:{STORAGE}"}]}


def start_mirror(lab, nodes, name="head", **settings):
    """Starts a head; returns it when all nodes of its mirror are in sync."""
    head = lab.daemon(name, **mirror_config(nodes, **settings))
    wait_in_sync(head)
    return head


def fill(lab, head, size, zeroes=0):
    """Writes all of the mirror, so that no region of it is unwritten; so many bytes at its front
    (whole MiB) are zeroes."""
    with open(lab.path("image"), "wb") as image:
        block = lab.random.randbytes(_MIB)
        for at in range(0, size, _MIB):
            piece = bytes(_MIB) if at < zeroes else block
            image.write(piece[:min(_MIB, size - at)])
    copied = run(["nbdcopy", "--flush", "--sparse=0", lab.path("image"), head.uri(STORAGE)], timeout=200)
    check(copied.code == 0, f"{copied}")


def is_in_sync(node):
    return node["connected"] and node["state"] == "sync" and node["stale"] == 0


def wait_in_sync(head, timeout=60.0):
    """Waits until every node has every change; returns the status of the storage."""
    def reached():
        storage = head.storage(STORAGE)
        if storage["state"] == "running" and all(map(is_in_sync, storage["nodes"])):
            return storage
        lacking = [node for node in storage["nodes"] if not is_in_sync(node)]
        raise Failure(f"{storage['state']}: {storage['reason']}; {lacking}")
    return wait_until("all nodes of the mirror are in sync", reached, timeout, 0.02)


def wait_detached(head, node_type, timeout=30.0):
    """Waits until an age is in force without that node; returns its status."""
    def reached():
        node = head.node(STORAGE, node_type)
        if node["state"] == "notsync":
            return node
        raise Failure(node["reason"])
    return wait_until(f"{node_type} is detached", reached, timeout, 0.02)


def check_copies_equal(paths, size_bytes):
    """Compares the fronts of the disks with `cmp`."""
    for path in paths[1:]:
        compared = run(["cmp", f"--bytes={size_bytes}", paths[0], path], timeout=120)
        check(compared.code == 0, f"the copies differ: {compared.stdout}{compared.stderr}")


def wait_settled(disks, timeout=30.0):
    """Waits until no region has intent, as the disks say: nothing was changed for some seconds."""
    for disk in disks:
        wait_until(f"no region of {disk} has intent", lambda: not Metadata(disk).intent(), timeout,
                   0.1)


def ages_in_force(head):
    """How many ages its log tells of."""
    return len(re.findall(r"age [0-9a-f.]+ in force", head.process.log_text()))
