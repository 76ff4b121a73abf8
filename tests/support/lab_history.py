"""A client that writes numbered blocks and remembers what it may expect to read.

Every sector of a block holds the block's number and a version, one more with each write of the
block. A write that was answered and then made durable (FUA, or a flush that began later) must be
there whatever crashes; one that was sent may be there. So each sector must hold a version between
the two.
"""

import collections
import struct
import threading
import time

from lab_process import check
from lab_raw_nbd import FLUSH, READ, WRITE, Closed, RawClient

BLOCK = 4096
FUA = 1
_SECTOR = 512

# Times of one request, of the monotonic clock, in seconds.
Times = collections.namedtuple("Times", "sent answered")


def content(block, version):
    """The bytes of a block; version 0 is what was never written."""
    if version == 0:
        return bytes(BLOCK)
    return struct.pack("<QQ", block + 1, version) * (BLOCK // 16)


class History:
    """What was written to the first `blocks` blocks of an export, over any number of connections."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.sent = [0] * blocks
        self.answered = [0] * blocks
        self.durable = [0] * blocks

    def check(self, port, export):
        """Reads all of it, while nobody writes. What is there is durable: a later check finds it or
        something newer. (Nodes are flushed before a head that was started answers anything.)"""
        with RawClient(port, timeout=60) as client:
            client.go(export)
            for block in range(self.blocks):
                client.request(READ, block * BLOCK, BLOCK)
                error, _, data = _reply(client, BLOCK)
                check(error == 0, f"reading block {block} failed with error {error}")
                self.durable[block] = self._check_block(block, data)
        self.answered = list(self.durable)

    def _check_block(self, block, data):
        """Returns the oldest version in it: sectors of a write that was not answered may differ."""
        oldest = self.sent[block]
        for at in range(0, BLOCK, _SECTOR):
            number, version = struct.unpack_from("<QQ", data, at)
            is_whole = (data[at:at + _SECTOR] ==
                        (struct.pack("<QQ", number, version) * (_SECTOR // 16)))
            is_in_place = number == (block + 1 if version else 0)
            check(is_whole and is_in_place,
                  f"block {block}, byte {at}, holds what nobody wrote: {data[at:at + 16].hex()}")
            check(self.durable[block] <= version <= self.sent[block],
                  f"block {block}, byte {at}, holds version {version}, not one of "
                  f"{self.durable[block]} (durable) to {self.sent[block]} (sent)")
            oldest = min(oldest, version)
        return oldest


class Writer:
    """Writes at random from a thread of its own until it is stopped, or its connection ends.

    One write in `fua_each` is durable by itself, and a flush follows each `flush_each` writes (0:
    never). `times` has those of all writes, in the order of their answers.
    """

    def __init__(self, history, port, export, random, depth=8, fua_each=8, flush_each=64,
                 timeout=60.0):
        self.history = history
        self.times = []
        self._random = random
        self._depth = depth
        self._fua_each = fua_each
        self._flush_each = flush_each
        self._client = RawClient(port, timeout).go(export)
        self._in_flight = {}  # cookie: what it is
        self._busy = set()    # blocks
        self._is_stopping = False
        self.failure = None
        self.is_cut_off = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._is_stopping = True
        self._thread.join(90)
        self._client.close()

    def stop(self):
        """Waits for what is in flight; fails if a request did."""
        self._is_stopping = True
        self._end()
        check(not self.is_cut_off, "the connection was closed under load")

    def until_cut_off(self):
        """Writes on until the connection ends, as it does by itself; fails if a request did."""
        self._end()
        check(self.is_cut_off, "the connection did not end")

    def _end(self):
        self._thread.join(90)
        check(not self._thread.is_alive(), "the writer waits for answers for 90 s")
        check(self.failure is None, f"a request failed: {self.failure}")

    def _run(self):
        try:
            written = 0
            while self._in_flight or not self._is_stopping:
                while not self._is_stopping and len(self._in_flight) < self._depth:
                    if self._flush_each and written % self._flush_each == self._flush_each - 1:
                        self._send_flush()
                    else:
                        self._send_write()
                    written += 1
                self._take_answer()
        except (Closed, ConnectionError):
            self.is_cut_off = True
        except Exception as error:  # pylint: disable=broad-except
            self.failure = repr(error)

    def _send_write(self):
        block = self._random.randrange(self.history.blocks)
        while block in self._busy:
            block = self._random.randrange(self.history.blocks)
        self._busy.add(block)
        self.history.sent[block] += 1
        version = self.history.sent[block]
        is_durable = self._random.randrange(self._fua_each) == 0
        # Noted before it is sent: an answer that never comes says nothing about what was done.
        cookie = self._client.request(WRITE, block * BLOCK, BLOCK, content(block, version),
                                      FUA if is_durable else 0)
        self._in_flight[cookie] = ("write", block, version, is_durable, time.monotonic())

    def _send_flush(self):
        cookie = self._client.request(FLUSH)
        self._in_flight[cookie] = ("flush", list(self.history.answered))

    def _take_answer(self):
        error, cookie, _ = _reply(self._client, 0)
        if error:
            raise RuntimeError(f"error {error} for {self._in_flight.get(cookie, cookie)[:3]}")
        what = self._in_flight.pop(cookie)
        history = self.history
        if what[0] == "flush":
            history.durable = list(map(max, history.durable, what[1]))
            return
        _, block, version, is_durable, sent = what
        self.times.append(Times(sent, time.monotonic()))
        self._busy.discard(block)
        history.answered[block] = version
        if is_durable:
            history.durable[block] = version


def _reply(client, length):
    """Receives a simple reply: (errno, cookie, data)."""
    magic, error, cookie = struct.unpack(">IIQ", client.receive(16))
    assert magic == 0x67446698, hex(magic)
    return error, cookie, client.receive(length) if length and not error else b""
