#!/usr/bin/python3
"""A disk that takes no more data, of a mirror of three whose third node is off.

Its node is left out, and it has its vote yet: two of three go on, with one copy.
"""

import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until
from lab_attach import clean_up_after
from lab_mirror import check_copies_equal, disk_of, start_exporters, start_mirror, wait_in_sync


def small_filesystem(lab, size):
    """Mounts one in memory; returns its path."""
    folder = lab.path("small")
    os.mkdir(folder)
    clean_up_after(lab)
    mounted = run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder])
    check(mounted.code == 0, f"{mounted}")
    return folder


@test
def two_of_three_go_on_although_the_disk_of_one_is_full(lab: Lab):
    small = small_filesystem(lab, "24M")
    exporters = start_exporters(lab, 2, "64M")
    full_disk = lab.file("small/disk", "64M")
    exporters.append(lab.daemon("full", export=[{"name": "disk", "device": full_disk}]))
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters])
    lab.fio("before", head.uri("vol"), size="2M").wait()
    exporters[1].stop()
    wait_until("the one that is off is left out",
               lambda: head.storage("vol")["nodes"][1]["state"] != "sync", timeout=30)
    with open(os.path.join(small, "rest"), "wb", buffering=0) as rest:
        try:
            while True:
                rest.write(bytes(64 << 10))
        except OSError as error:
            check(error.errno == errno.ENOSPC, f"the filesystem could not be filled: {error}")

    # One after the other: each waits for all that the lease may wait for.
    job = lab.fio("alone", head.uri("vol"), size="2M", offset="8M", iodepth=1).wait(60)
    storage = head.storage("vol")
    check(storage["nodes"][2]["state"] != "sync", f"the full disk was written: {storage}")
    check(storage["state"] == "degraded" and not storage["nodes"][0]["stale"], f"{storage}")
    lab.say(f"{job['write']['total_ios']} writes, at most "
            f"{job['write']['lat_ns']['max'] / 1e6:.0f} ms, {storage['nodes'][2]['reason']}")

    os.unlink(os.path.join(small, "rest"))
    exporters[1].start()
    wait_in_sync(head)
    check_copies_equal([disk_of(lab, exporters[0]), disk_of(lab, exporters[1]), full_disk],
                       head.storage("vol")["size"] * 512)


main()
