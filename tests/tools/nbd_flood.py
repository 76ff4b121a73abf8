#!/usr/bin/python3
"""Floods an NBD server with writes: many connections, each with many requests at once.

    nbd_flood.py URI CONNECTIONS DEPTH BYTES

Each connection sends DEPTH writes of BYTES and waits for all of their answers. Prints "sent" when
nothing more can be sent for now (the server has stopped reading, or has got everything), and at
last "ANSWERED of TOTAL answered, ERRORS errors". All requests have the same content, so this
process stays small.
"""

import select
import sys

import nbd

QUIET_MS = 1000


class Flood:
    def __init__(self, uri, connections, depth, length):
        self.total = connections * depth
        self.answered = 0
        self.errors = 0
        buffer = nbd.Buffer.from_bytearray(bytearray(b"\x5a" * length))
        self._handles = []
        for number in range(connections):
            handle = nbd.NBD()
            handle.connect_uri(uri)
            places = handle.get_size() // length
            for request in range(depth):
                place = (number * depth + request) % places
                handle.aio_pwrite(buffer, place * length, self._on_answer)
            self._handles.append(handle)

    def _on_answer(self, error):
        self.answered += 1
        self.errors += error.value != 0
        return 1

    def run(self):
        """Serves all connections until everything is answered."""
        is_quiet = False
        while self.answered < self.total:
            poll = select.poll()
            by_fd = {}
            for handle in self._handles:
                direction = handle.aio_get_direction()
                events = 0
                if direction & nbd.AIO_DIRECTION_READ:
                    events |= select.POLLIN
                if direction & nbd.AIO_DIRECTION_WRITE:
                    events |= select.POLLOUT
                by_fd[handle.aio_get_fd()] = handle
                poll.register(handle.aio_get_fd(), events)
            ready = poll.poll(QUIET_MS)
            if not ready and not is_quiet:
                is_quiet = True
                print("sent", flush=True)
            for fd, events in ready:
                if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    by_fd[fd].aio_notify_read()
                elif events & select.POLLOUT:
                    by_fd[fd].aio_notify_write()


def main():
    uri, connections, depth, length = sys.argv[1], *map(int, sys.argv[2:5])
    flood = Flood(uri, connections, depth, length)
    try:
        flood.run()
    finally:
        print(f"{flood.answered} of {flood.total} answered, {flood.errors} errors", flush=True)


main()
