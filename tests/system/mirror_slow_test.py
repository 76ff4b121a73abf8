#!/usr/bin/python3
"""A node of a mirror is slow, and alive: its exporter answers pings in time, and requests late. It
is left out after `slow`, as long as a write waits once, and comes back when it is quick again.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_history import History, Writer
from lab_metadata import Metadata
from lab_mirror import (check_copies_equal, disk_of, start_exporters, start_mirror, wait_detached,
                        wait_in_sync, wait_settled)
from lab_raw_nbd import WRITE, RawClient

SLOW = 1.0
# Of each request to its disk: so long that it is not back, only to be left out again, before all is
# measured.
DELAY = 12.0
LATE = [f"rdelay={DELAY * 1000:.0f}ms", f"wdelay={DELAY * 1000:.0f}ms"]
# What takes longer has been held up, on a busy machine, too.
LONG = 0.5
MEASURED = 4.0
BLOCKS = 2048


class SlowNode:
    """An exporter of ours in front of a disk that can be made slow while it runs."""

    def __init__(self, lab, size):
        self.path = lab.file("slow.disk", size)
        self._disk = lab.nbdkit("disk", "file", self.path)
        self._exporter = lab.daemon(
            "slow", export=[{"name": "disk", "device": "storage:disk"}],
            storage=[{"name": "disk", "algorithm": "linear", "metadata": "none",
                      "nodes": [self._disk.remote()]}])
        self._exporter.wait_storage("disk")
        self.remote = self._exporter.remote("disk")

    def become_late(self):
        self._exchange("--filter=delay", "file", self.path, *LATE)

    def become_quick(self):
        self._exchange("file", self.path)

    def hang(self):
        """It answers nothing any more. What is under way stays so."""
        self._disk.pause()

    def go_on(self):
        self._disk.resume()

    def _exchange(self, *args):
        """The exporter waits for it meanwhile, and finds it as it was but for that."""
        self._disk.kill()
        self._disk.start_with(*args)
        self._exporter.wait_connected("disk", self._disk.remote())


def rate(times, begin, end):
    return sum(1 for each in times if begin <= each.answered < end) / (end - begin)


def writes(lab, history, head):
    return Writer(history, head.port, "vol", lab.random, depth=4, fua_each=1 << 30, flush_each=0)


@test
def a_node_that_answers_late_is_left_out_until_it_is_quick(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    slow = SlowNode(lab, "64M")
    head = start_mirror(lab, [*(exporter.remote("disk") for exporter in exporters), slow.remote],
                        grace="1s", takeover="4s", slow=f"{SLOW:g}s")
    disks = [*(disk_of(lab, exporter) for exporter in exporters), slow.path]
    history = History(BLOCKS)
    with writes(lab, history, head) as writer:
        wait_until("most regions are written", lambda: len(writer.times) >= 2 * BLOCKS, 30)
        begin = time.monotonic()
        wait_until("the load was measured with three quick nodes",
                   lambda: time.monotonic() > begin + MEASURED)
        before = rate(writer.times, begin, begin + MEASURED)
        writer.stop()
    # Nothing is to be replayed to a disk that takes its time for each of it.
    wait_settled(disks)
    slow.become_late()

    with writes(lab, history, head) as writer:
        begin = time.monotonic()
        node = wait_detached(head, slow.remote, SLOW + 5)
        check(node["reason"].startswith("slow: "), f"the reason does not say so: {node}")
        out = time.monotonic()
        lab.say(f"left out {out - begin:.2f} s after the load began: {node['reason']}")
        check(out - begin >= SLOW, f"left out after {out - begin:.2f} s, with slow {SLOW:g} s")
        wait_until("the load was measured without it", lambda: time.monotonic() > out + MEASURED)
        after = rate(writer.times, out, out + MEASURED)
        node = head.node("vol", slow.remote)
        check(node["state"] == "notsync" and node["reason"].startswith("slow: "), f"{node}")
        held = [each for each in writer.times if each.answered - each.sent > LONG]
        longest = max((each.answered - each.sent for each in held), default=0.0)
        lab.say(f"{len(held)} writes were held up, the longest for {longest:.2f} s; "
                f"{before:.0f} a second before, {after:.0f} without it")
        check(held and all(each.sent < out for each in held),
              f"held up at {[each.sent - out for each in held]} s after it was left out")
        check(SLOW <= longest <= SLOW + 1.5, f"a write waited {longest:.2f} s")
        # With it each write takes SLOW: a tenth would tell, and this machine stops now and then.
        check(after >= 0.2 * before, f"{after:.0f} writes a second, and {before:.0f} before")
        lines = [line for line in head.process.log_text().splitlines() if "has to leave" in line]
        check(len(lines) == 1 and slow.remote in lines[0] and "slow: " in lines[0]
              and f"{SLOW:g} s" in lines[0], f"{lines}")

        stale = head.node("vol", slow.remote)["stale"] * 512
        check(stale > 0, "it lacks nothing, though it was written to without it")
        slow.become_quick()
        wait_in_sync(head)
        lab.say(f"{stale >> 10} KiB were stale; in sync again")
        enough = len(writer.times) + 1000
        wait_until("writes go on", lambda: len(writer.times) >= enough)
        writer.stop()
    history.check(head.port, "vol")
    wait_in_sync(head)
    check_copies_equal(disks, head.storage("vol")["size"] * 512)


@test
def a_disk_that_hangs_while_it_is_copied_to_holds_nobody_up_for_long(lab: Lab):
    """What is being copied is locked, and whoever writes there waits: for this long, not for ever."""
    exporters = start_exporters(lab, 1, "256M")
    slow = SlowNode(lab, "256M")
    head = start_mirror(lab, [exporters[0].remote("disk"), slow.remote], init="assume-clean",
                        grace="1s", takeover="4s", slow=f"{SLOW:g}s",
                        resync_size="64K")  # one region after the other
    region = Metadata(slow.path).region_size
    head.do("node", "mark-dirty", "vol", slow.remote)

    def copied():
        return head.storage("vol")["resync"]["done"] * 512
    wait_until("some of it is copied", lambda: copied() >= 4 << 20, 30, 0.002)
    slow.hang()
    # The first region that is not is the one that is locked.
    done = [copied()]
    wait_until("nothing is copied any more",
               lambda: done.append(copied()) or done[-1] == done[-2], 10, 0.3)
    node = head.node("vol", slow.remote)
    check("resync" in node["flags"], f"it was all copied before it hung: {node}")
    with RawClient(head.port, timeout=2 * SLOW + 8) as client:
        client.go("vol")
        begin = time.monotonic()
        error = client.ask(WRITE, done[-1] // region * region, 4096, bytes(4096))
        took = time.monotonic() - begin
    check(error == "", f"it failed: {error}")
    node = wait_detached(head, slow.remote)
    lab.say(f"a write took {took:.2f} s: {node['reason']}")
    check(node["reason"].startswith("slow: ") and "resync" not in node["flags"], f"{node}")
    slow.go_on()
    storage = wait_in_sync(head)
    check_copies_equal([disk_of(lab, exporters[0]), slow.path], storage["size"] * 512)


main()
