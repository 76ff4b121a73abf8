#!/usr/bin/python3
"""A mirror of servers that others wrote: it works, and says what they can't promise."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test
from lab_mirror import (check_copies_equal, start_exporters, start_mirror, wait_detached,
                        wait_in_sync)


def check_flags(head, node_type, has, lacks=()):
    flags = head.node("vol", node_type)["flags"]
    check(all(flag in flags for flag in has) and not any(flag in flags for flag in lacks),
          f"{node_type} has the flags {flags}, not {has}")


@test
def nbdkit_nodes_serve_leave_and_return(lab: Lab):
    disks = [lab.file(f"disk{number}", "64M") for number in range(2)]
    servers = [lab.nbdkit(f"nbdkit{number}", "file", disk) for number, disk in enumerate(disks)]
    head = start_mirror(lab, [server.remote() for server in servers], grace="1s")
    size = head.storage("vol")["size"] * 512
    for server in servers:
        check_flags(head, server.remote(), ["connected", "unprotected"], ["checksum", "volatile"])
    # The first load makes the regions, the second meets a loss and a return.
    lab.fio("fio-0", head.uri("vol"), size="32M").wait()
    fio = lab.fio("fio-1", head.uri("vol"), overwrites=True, size="32M")
    servers[1].kill()
    wait_detached(head, servers[1].remote())
    check(head.storage("vol")["state"] == "degraded", f"{head.storage('vol')}")
    servers[1].start()
    fio.wait()
    wait_in_sync(head)
    check_copies_equal(disks, size)


@test
def a_head_that_was_killed_takes_its_plain_nodes_again(lab: Lab):
    disks = [lab.file(f"disk{number}", "64M") for number in range(2)]
    servers = [lab.nbdkit(f"nbdkit{number}", "file", disk) for number, disk in enumerate(disks)]
    head = start_mirror(lab, [server.remote() for server in servers])
    size = head.storage("vol")["size"] * 512
    lab.fio("fio-0", head.uri("vol"), size="16M").wait()
    fio = lab.fio("fio-1", head.uri("vol"), overwrites=True, size="16M")
    head.kill()
    fio.process.wait()
    head.start()
    wait_in_sync(head)
    lab.fio("fio-2", head.uri("vol"), overwrites=True, size="16M").wait()
    head.stop()
    check_copies_equal(disks, size)


@test
def a_memory_server_that_was_restarted_is_no_node_any_more(lab: Lab):
    """It has lost everything: it must not be read, and its return must not end the storage."""
    exporters = start_exporters(lab, 1, "64M")
    memory = lab.nbdkit("memory", "memory", "64M")
    head = start_mirror(lab, [exporters[0].remote("disk"), memory.remote()], grace="1s")
    check_flags(head, memory.remote(), ["connected", "unprotected"])
    check_flags(head, exporters[0].remote("disk"), ["connected", "checksum"], ["unprotected"])
    lab.fio("fio-0", head.uri("vol"), size="16M").wait()
    memory.kill()
    memory.start()
    wait_detached(head, memory.remote())
    lab.fio("fio-1", head.uri("vol"), overwrites=True, size="16M").wait()
    node = head.node("vol", memory.remote())
    lab.say(f"status says: {node['reason']}")
    check(node["state"] == "notsync" and "blank" in node["reason"],
          f"the reason does not say that it is blank: {node}")


main()
