#!/usr/bin/python3
"""Who may go on: two heads of one mirror of which the first is stopped in the middle of its writes,
and a mirror of two with a witness that loses one vote after the other.
"""

import errno
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test, wait_until
from lab_history import BLOCK, FUA, History, Writer, content
from lab_mirror import (check_copies_equal, disk_of, mirror_config, start_exporters, start_mirror,
                        wait_detached, wait_in_sync)
from lab_raw_nbd import READ, WRITE, Closed, RawClient

TAKEOVER = 4.0
TIMES = {"grace": "1s", "takeover": f"{TAKEOVER:g}s"}
BLOCKS = 256
# A version that no writer gets to: what must never be on a disk.
NEVER = 1 << 40


def durable_writer(lab, history, head):
    """Each of its writes is FUA: what was answered is to be there for ever."""
    return Writer(history, head.port, "vol", lab.random, depth=4, fua_each=1, flush_each=0)


def wait_answers(writer, more):
    """Waits until so many more writes were answered."""
    enough = len(writer.times) + more
    wait_until(f"{more} more writes are answered", lambda: (
        check(writer.failure is None, f"a write failed: {writer.failure}")
        or len(writer.times) >= enough), timeout=30)


class Standby:
    """A client of a head that is stopped: it asks, and remembers what it is told."""

    def __init__(self, port):
        self._client = RawClient(port).go("vol")
        self._asked = {}  # cookie: what
        self.failed = []
        self.written = []
        self.read = {}    # block: what was answered

    def ask(self):
        """Reads of everything, and a write that must not be done."""
        for block in range(BLOCKS):
            self._asked[self._client.request(READ, block * BLOCK, BLOCK)] = block
        for block in range(0, BLOCKS, 16):
            cookie = self._client.request(WRITE, block * BLOCK, BLOCK, content(block, NEVER), FUA)
            self._asked[cookie] = None

    def listen(self, seconds):
        """Takes what is answered until all is, or nothing comes for so long, or it is cut off."""
        self._client.socket.settimeout(seconds)
        try:
            while self._asked:
                head = self._client.receive(16)
                error, cookie = (int.from_bytes(head[4:8], "big"),
                                 int.from_bytes(head[8:16], "big"))
                block = self._asked.pop(cookie)
                if error:
                    self.failed.append(errno.errorcode.get(error, error))
                elif block is None:
                    self.written.append(cookie)
                else:
                    self.read[block] = self._client.receive(BLOCK)
        except (Closed, ConnectionError, TimeoutError):
            pass

    @property
    def unanswered(self):
        return len(self._asked)

    def close(self):
        self._client.close()


def wait_formed(head, timeout):
    """Waits until it serves, be it without somebody; returns its status."""
    def reached():
        storage = head.storage("vol")
        if storage["state"] in ("running", "degraded"):
            return storage
        raise Failure(f"{storage['state']}: {storage['reason']}")
    return wait_until(f"{head.name} has taken over", reached, timeout)


def contents(disk):
    with open(disk, "rb") as file:
        return file.read(BLOCKS * BLOCK)


@test
def a_head_that_was_stopped_for_too_long_is_fenced(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    disks = [disk_of(lab, exporter) for exporter in exporters]
    remotes = [exporter.remote("disk") for exporter in exporters]
    first = start_mirror(lab, remotes, "first", **TIMES)
    size = first.storage("vol")["size"] * 512
    second = lab.daemon("second", **mirror_config(remotes, **TIMES))
    wait_until("the second head waits for the first",
               lambda: "is connected" in second.storage("vol")["reason"])

    history = History(BLOCKS)
    writer = lab.enter(durable_writer(lab, history, first))
    asking = Standby(first.port)
    lab.at_end(asking.close)
    wait_answers(writer, 4 * BLOCKS)
    first.pause()
    stopped = time.monotonic()
    wait_formed(second, TAKEOVER + 10)
    took = time.monotonic() - stopped
    answered = len(writer.times)
    lab.say(f"taken over {took:.1f} s after the first head was stopped, with takeover "
            f"{TAKEOVER:g} s; {answered} writes were answered by then")
    check(TAKEOVER / 2 <= took <= TAKEOVER + 6, f"taken over after {took:.1f} s")

    # All that was answered is there, and what the second head writes is newer.
    history.check(second.port, "vol")
    with durable_writer(lab, history, second) as newer:
        wait_answers(newer, 4 * BLOCKS)
        newer.stop()
    wait_in_sync(second)
    asking.ask()
    first.resume()

    def fenced():
        storage = first.storage("vol")
        check(storage["state"] == "fenced", f"{storage['state']}: {storage['reason']}")
        return storage["reason"]
    lab.say(f"fenced: {wait_until('the first head is fenced', fenced, 15)}")
    asking.listen(2)
    lab.say(f"asked while it was stopped: {len(asking.failed)} failed {set(asking.failed)}, "
            f"{len(asking.read)} reads and {len(asking.written)} writes were answered, "
            f"{asking.unanswered} were not")
    check(not asking.read and not asking.written, "a fenced head has answered")
    check(len(writer.times) == answered,
          f"{len(writer.times) - answered} writes were acknowledged after the takeover")
    lines = [line for line in first.process.log_text().splitlines()
             if "error: storage vol: fenced:" in line]
    lab.say(f"log: {lines}")
    check(len(lines) == 1 and any(remote in lines[0] for remote in remotes), f"{lines}")

    # It has changed nothing, and goes on by itself when it may.
    history.check(second.port, "vol")
    check(second.storage("vol")["state"] == "running", f"{second.storage('vol')}")
    check_copies_equal(disks, size)
    kept = contents(disks[0])
    second.stop()
    wait_in_sync(first)
    history.check(first.port, "vol")
    check_copies_equal(disks, size)
    check(contents(disks[0]) == kept, "what the second head wrote is not there")
    asking.listen(1)
    check(not asking.written, "a write that had failed was done")
    for block, data in asking.read.items():
        check(data == kept[block * BLOCK:][:BLOCK], f"block {block} was read as it was before")
    with durable_writer(lab, history, first) as again:
        wait_answers(again, BLOCKS)
        again.stop()
    history.check(first.port, "vol")


@test
def two_nodes_and_a_witness_go_on_as_long_as_two_of_them_are_there(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    witness = lab.daemon("witness", export=[{"name": "disk", "device": lab.file("votes", "64K")}])
    disks = [disk_of(lab, exporter) for exporter in exporters]
    away = exporters[0]
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters],
                        witnesses=[witness.remote("disk")], **TIMES)
    size = head.storage("vol")["size"] * 512
    history = History(BLOCKS)
    with durable_writer(lab, history, head) as writer:
        for back in ([witness, away], [away, witness]):
            wait_answers(writer, BLOCKS)
            away.kill()
            wait_detached(head, away.remote("disk"))
            wait_answers(writer, BLOCKS)

            witness.kill()
            lost = time.monotonic()

            def holds():
                storage = head.storage("vol")
                check(storage["state"] == "holding", f"{storage['state']}: {storage['reason']}")
                check("1 of 3 votes" in storage["reason"], storage["reason"])
                return storage["reason"]
            reason = wait_until("it holds", holds, 15)
            lab.say(f"holds: {reason}")
            for name in (away, witness):
                check(name.remote("disk") in reason, f"{name.name} is missing: {reason}")
            # As long as a majority answered a ping less than takeover/2 ago, so long may it answer.
            wait_until("it has held for a while",
                       lambda: time.monotonic() > lost + TAKEOVER / 2 + 2, TAKEOVER + 2)
            late = [each.answered - lost for each in writer.times
                    if each.answered > lost + TAKEOVER / 2 + 1]
            check(not late, f"with one vote of three it has answered after {late} s")
            held = len(writer.times)
            check(holds(), "it does not hold any more")

            back[0].start()
            wait_answers(writer, BLOCKS)
            lab.say(f"{back[0].name} is back: {len(writer.times) - held} writes since")
            state = head.storage("vol")["state"]
            check(state == "degraded", f"{state}: {head.storage('vol')['reason']}")
            back[1].start()
            wait_in_sync(head)
        wait_answers(writer, BLOCKS)
        writer.stop()
    history.check(head.port, "vol")
    check_copies_equal(disks, size)


main()
