#!/usr/bin/python3
"""A node of a mirror can't read a part of its disk: who reads gets it from another node, and it is
written there again.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_api import Api
from lab_mirror import (check_copies_equal, disk_of, start_exporters, start_mirror, wait_in_sync)
from lab_raw_nbd import READ, WRITE, RawClient

SIZE = "16M"
FILLED = 2 << 20
PIECE = 64 << 10
# As on a disk: some sectors, not where a request or a region ends.
BAD_FIRST, BAD_COUNT = 3 * PIECE + 5 * 512, 8 * 512
FUA = 1

# Reads that touch the bytes in the file `bad` fail until they have been written: a disk has spare
# sectors for them. Those who were written over are told in `written`.
_DISK = r"""
overlaps() {
    [ -e "$BAD" ] && [ "$2" -lt $((BAD_FIRST + BAD_COUNT)) ] && [ $(($2 + $1)) -gt "$BAD_FIRST" ]
}
case "$1" in
    get_size) stat -c %s "$DISK" ;;
    thread_model) echo parallel ;;
    can_write | can_flush) exit 0 ;;
    can_fua) echo native ;;
    flush) exit 0 ;;
    pread)
        if overlaps "$3" "$4"; then echo "EIO a bad sector" >&2; exit 1; fi
        dd status=none if="$DISK" iflag=skip_bytes,count_bytes,fullblock skip="$4" count="$3" bs=64k
        ;;
    pwrite)
        dd status=none of="$DISK" oflag=seek_bytes iflag=fullblock seek="$4" bs=64k conv=notrunc
        if overlaps "$3" "$4"; then echo "$4 $3" >>"$DISK.written"; rm -f "$BAD"; fi
        ;;
    *) exit 2 ;;
esac
"""


class FailingDisk:
    """A plain NBD server with a disk of which a part can go bad."""

    def __init__(self, lab):
        self.path = lab.file("failing.disk", SIZE)
        self._bad = lab.path("bad")
        script = lab.path("disk.sh")
        with open(script, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\nDISK={self.path} BAD={self._bad} BAD_FIRST={BAD_FIRST} "
                       f"BAD_COUNT={BAD_COUNT}\n{_DISK}")
        os.chmod(script, 0o700)
        self.server = lab.nbdkit("failing", "sh", script)

    def go_bad(self):
        with open(self._bad, "w", encoding="ascii"):
            pass

    def is_bad(self):
        return os.path.exists(self._bad)

    def written_again(self):
        """What was written over bad sectors, as (first byte, count of bytes)."""
        try:
            with open(self.path + ".written", encoding="ascii") as file:
                return [tuple(map(int, line.split())) for line in file]
        except FileNotFoundError:
            return []


def as_plain_node(lab, disk):
    del lab
    return disk.server.remote()


def behind_an_exporter(lab, disk):
    exporter = lab.daemon("failing-exporter", export=[{"name": "disk", "device": "storage:disk"}],
                          storage=[{"name": "disk", "algorithm": "linear", "metadata": "none",
                                    "nodes": [disk.server.remote()]}])
    exporter.wait_storage("disk")
    return exporter.remote("disk")


def check_counted(head, node, failed):
    """The status and the metrics count reads that failed, and what was written again after them:
    of that node, and of no other one."""
    metrics = Api(head).metrics()
    for each in head.storage("vol")["nodes"]:
        want = failed if each["type"] == node else 0
        check((each["read_errors"], each["rewritten"]) == (want, want), f"{want} failed: {each}")
        for name in ("dst_node_read_errors_total", "dst_node_rewritten_total"):
            found = [value for (metric, labels), value in metrics.items()
                     if metric == name and ("type", each["type"]) in labels]
            check(found == [want], f"{name} of {each['type']} is {found}, not {want}")


def read_all(head, expected):
    """Every piece in its turn; returns nothing, for no read may fail or bring something else."""
    with RawClient(head.port, timeout=30) as client:
        client.go("vol")
        for at in range(0, FILLED, PIECE):
            client.request(READ, at, PIECE)
            reply = client.receive(16)
            check(reply[4:8] == bytes(4), f"reading byte {at} failed: {reply[4:8].hex()}")
            check(client.receive(PIECE) == expected[at:at + PIECE], f"wrong data at byte {at}")


def check_read_errors_are_mended(lab, make_node):
    disk = FailingDisk(lab)
    node = make_node(lab, disk)
    exporters = start_exporters(lab, 1, SIZE)
    head = start_mirror(lab, [node, exporters[0].remote("disk")])
    content = lab.random.randbytes(FILLED)
    with RawClient(head.port, timeout=30) as client:
        client.go("vol")
        for at in range(0, FILLED, PIECE):
            error = client.ask(WRITE, at, PIECE, content[at:at + PIECE], FUA)
            check(error == "", f"writing byte {at} failed: {error}")
    read_all(head, content)

    for turn in range(2):
        disk.go_bad()
        # All of a pass comes from the node that is nearest to its begin: one of them, or the other.
        for _ in range(3):
            read_all(head, content)
            if head.process.log_text().count("reading sectors") > turn:
                break
        wait_until("what could not be read is written again", lambda: not disk.is_bad())
        read_all(head, content)
        ranges = disk.written_again()
        check(len(ranges) == turn + 1, f"written over bad sectors: {ranges}")
        first, count = ranges[-1]
        check(first <= BAD_FIRST and first + count >= BAD_FIRST + BAD_COUNT
              and count <= 2 * PIECE, f"{count} bytes at {first} were written again")

        def told(count=turn + 1):
            log = head.process.log_text()
            failed = [line for line in log.splitlines()
                      if "warning: storage vol: reading sectors" in line]
            again = [line for line in log.splitlines() if "were written again" in line]
            check(failed and len(again) >= count, f"{failed}, {again}")
            check(all(node in line for line in failed + again), f"{failed}, {again}")
            return failed, again
        failed, again = wait_until("the log says so", told)
        check(len(failed) == len(again) == turn + 1, f"{failed}, {again}")
    lab.say(f"{failed[-1].partition('storage ')[2]}")
    lab.say(f"{again[-1].partition('storage ')[2]}")
    check_counted(head, node, len(failed))
    storage = wait_in_sync(head)
    check("has to leave" not in head.process.log_text(), "a node was left out")
    check_copies_equal([disk.path, disk_of(lab, exporters[0])], storage["size"] * 512)


@test
def a_plain_node_with_bad_sectors_gets_them_from_the_other_one(lab: Lab):
    check_read_errors_are_mended(lab, as_plain_node)


@test
def an_exporter_with_bad_sectors_gets_them_from_the_other_one(lab: Lab):
    check_read_errors_are_mended(lab, behind_an_exporter)


main()
