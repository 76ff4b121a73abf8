"""An exporter written from docs/protocol.md and proto.md alone: the other side of protocol_peer.py.

Its disk is memory with a volatile cache: `crash` takes what was not flushed. It judges what the
client sends; a test reads `violations`, and may change what is answered.
"""

import contextlib
import errno
import socket
import struct
import threading
import time

import protocol_peer as wire
from protocol_digest import xxh3_128
from protocol_peer import (CHECKSUMS, DIGESTS, RESERVATIONS, SESSION, Frame, Hello, Request,
                           Reservation, Session, Stream, crc32c, demand)

FLAGS = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8  # flush, FUA, trim, zeroes, multi-conn
CHANGES = (wire.WRITE, wire.TRIM, wire.WRITE_ZEROES)


class Connection(Stream):
    """One client. `requests`: all that it sent in the transmission phase, in order."""

    def __init__(self, exporter, connected):
        super().__init__(connected)
        self.socket.settimeout(None)
        self.exporter = exporter
        self.options, self.requests = [], []
        self.session = None
        self.checksums = self.has_hello = self.structured = self.has_ended = False
        self.granted = 0
        self.heard = time.monotonic()
        self.unanswered = self.unanswered_most = 0
        self.sending = threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            self.handshake()
            while True:
                self.serve(*self.receive_request())
        except (ConnectionError, OSError, EOFError):
            pass
        except wire.Violation as violation:
            self.exporter.violations.append(str(violation))
        self.has_ended = True
        self.end()

    def end(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    # Handshake

    def handshake(self):
        self.send(struct.pack(">QQH", wire.NBDMAGIC, wire.IHAVEOPT, 3))
        [flags] = self.unpack(">I")
        demand(flags & 1, "the client does not set fixed newstyle")
        while True:
            magic, option, length = self.unpack(">QII")
            demand(magic == wire.IHAVEOPT, f"magic of an option {magic:#x}")
            data = self.receive(length)
            self.options.append(option)
            if option == wire.OPT_DST_HELLO:
                self.on_hello(data)
            elif option == wire.OPT_GO:
                self.on_go(data)
                return
            elif option == wire.OPT_ABORT:
                self.option_reply(option, wire.REP_ACK)
                raise EOFError
            elif option == wire.OPT_STRUCTURED_REPLY and not data:
                self.structured = True
                self.option_reply(option, wire.REP_ACK)
            else:
                self.option_reply(option, wire.REP_ERR_UNSUP)

    def option_reply(self, option, reply, data=b""):
        self.send(struct.pack(">QIII", wire.OPTION_REPLY_MAGIC, option, reply, len(data)) + data)

    def on_hello(self, data):
        exporter = self.exporter
        version, flags, *owner, length = struct.unpack(">HHQQQQI", data[:40])
        demand(version == 1 and len(data) == 40 + length, f"HELLO {data.hex()}")
        demand(not self.has_hello, "a second HELLO")
        demand(data[40:] == exporter.name.encode(), f"HELLO to {data[40:]}")
        if flags & SESSION:
            self.session = Session(*owner)
        if exporter.refusal:
            reply, text = exporter.refusal
            self.option_reply(wire.OPT_DST_HELLO, reply, text.encode())
            return
        if self.session:
            exporter.close_older(self)
        answer = exporter.answer
        if not flags & CHECKSUMS:
            answer = answer._replace(flags=answer.flags & ~CHECKSUMS)
        if not self.session:
            answer = answer._replace(flags=answer.flags & ~RESERVATIONS)
        self.granted = answer.flags
        self.has_hello, self.checksums = True, bool(answer.flags & CHECKSUMS)
        self.structured |= self.checksums
        self.option_reply(wire.OPT_DST_HELLO, wire.REP_DST_HELLO,
                          exporter.answer_data or struct.pack(">HHQQI", *answer))
        self.option_reply(wire.OPT_DST_HELLO, wire.REP_ACK)

    def on_go(self, data):
        [length] = struct.unpack(">I", data[:4])
        name = data[4:4 + length].decode()
        demand(name == self.exporter.name, f"GO to {name}")
        size = len(self.exporter.disk)
        self.option_reply(wire.OPT_GO, wire.REP_INFO, struct.pack(">HQH", 0, size, FLAGS))
        self.option_reply(wire.OPT_GO, wire.REP_INFO, struct.pack(">HIII", 3, 512, 4096, 1 << 20))
        self.option_reply(wire.OPT_GO, wire.REP_ACK)

    # Transmission

    def receive_request(self):
        header = self.receive(28)
        self.heard = time.monotonic()
        magic, *fields = struct.unpack(">IHHQQI", header)
        request = Request(*fields)
        payload_crc = None
        if self.checksums:
            payload_crc, crc = self.unpack(">4sI")
            demand(crc == crc32c(header + payload_crc), f"checksum of a request {header.hex()}")
        demand(magic == wire.REQUEST_MAGIC, f"magic of a request {magic:#x}")
        payload = self.receive(request.length) if request.command == wire.WRITE else b""
        if self.checksums:
            demand(payload_crc == struct.pack(">I", crc32c(payload)),
                   f"checksum of the payload of {request}")
        return request, payload

    def serve(self, request, payload):
        if request.command == wire.DISC:
            raise EOFError
        if request.command == wire.DST_PING:
            demand(self.has_hello and request.offset == request.length == 0, f"a ping {request}")
        else:
            self.requests.append(request)
        with self.sending:
            self.unanswered += 1
            self.unanswered_most = max(self.unanswered_most, self.unanswered)
        if not self.exporter.on_request(self, request):
            return
        if request.command in (wire.DST_RESERVATION, wire.DST_CLAIM, wire.DST_RELEASE):
            demand(self.granted & RESERVATIONS and self.structured, f"not granted: {request}")
            self.send_chunks(request, self.exporter.rule(self, request))
        elif request.command == wire.DST_DIGEST:
            demand(self.granted & DIGESTS and self.structured, f"not granted: {request}")
            demand(0 < request.length <= 1 << 20, f"the range of {request}")
            read = request._replace(command=wire.READ)
            self.send_chunks(request, [(wire.CHUNK_DIGEST,
                                        xxh3_128(self.exporter.execute(read, b"")))])
        elif request.command in CHANGES and not self.exporter.lets_change(self):
            self.send_chunks(request, [(wire.CHUNK_ERROR, struct.pack(">IH", errno.EPERM, 0))])
        else:
            self.answer(request, self.exporter.execute(request, payload))

    def send_chunks(self, request, chunks):
        """Chunks that make one reply: (type, payload)."""
        frames = b""
        for number, (kind, payload) in enumerate(chunks, 1):
            flags = wire.DONE if number == len(chunks) else 0
            header = wire.chunk_header(kind, request.cookie, len(payload), flags)
            frames += Frame(header, payload, self.checksums).bytes()
        sent = self.exporter.spoil(self, request, frames)
        with self.sending:
            self.unanswered -= 1
            self.send(sent)

    def answer(self, request, data=b""):
        if not self.structured:
            frame = Frame(struct.pack(">IIQ", wire.SIMPLE_REPLY_MAGIC, 0, request.cookie), data,
                          False)
        elif data:
            payload = struct.pack(">Q", request.offset) + data
            frame = Frame(wire.chunk_header(wire.CHUNK_DATA, request.cookie, len(payload)), payload,
                          self.checksums)
        else:
            frame = Frame(wire.chunk_header(wire.CHUNK_NONE, request.cookie), b"", self.checksums)
        sent = self.exporter.spoil(self, request, frame.bytes())
        with self.sending:
            self.unanswered -= 1
            self.send(sent)


class Exporter:
    """Listens on `port` of every loopback address. To be used as a context manager."""

    def __init__(self, port, size, name="disk"):
        self.port, self.name = port, name
        self.disk, self.durable = bytearray(size), bytes(size)
        self.answer = Hello(version=1, flags=CHECKSUMS | RESERVATIONS | DIGESTS, instance=1,
                            identity=77, requests_max=64)
        self.number, self.holder, self.holder_heard = 0, None, 0  # holder: head, incarnation, ms
        self.answer_data = None  # sent instead of `answer`
        self.refusal = None      # (reply, text) instead of any answer
        self.connections, self.violations = [], []
        self.on_request = lambda connection, request: True  # False: not executed, not answered
        self.spoil = lambda connection, request, frame: frame
        self.lock = threading.Lock()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("0.0.0.0", port))
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = Connection(self, self.listener.accept()[0])
                self.connections.append(connection)
                connection.thread.start()

    def drop(self):
        """Ends all connections; what they carried is finished or discarded when it returns."""
        for connection in list(self.connections):
            connection.end()
            connection.thread.join()

    def close_older(self, newer):
        for connection in list(self.connections):
            if connection is newer or not connection.session:
                continue
            ours, theirs = newer.session, connection.session
            if (ours.head, ours.node) == (theirs.head, theirs.node) and \
                    (theirs.incarnation, theirs.session) < (ours.incarnation, ours.session):
                connection.end()
                connection.thread.join()

    # Reservations (1.6)

    def sessions_of_holder(self):
        return [each for each in self.connections if self.holder and each.session and
                (each.session.head, each.session.incarnation) == self.holder[:2]]

    def lets_change(self, connection):
        return not self.holder or connection in self.sessions_of_holder()

    def reservation(self):
        if not self.holder:
            return Reservation(self.number, 0, 0, 0, 0, 0)
        sessions = self.sessions_of_holder()
        gone = int((time.monotonic() -
                    max([self.holder_heard, *(each.heard for each in sessions)])) * 1000)
        is_open = gone < self.holder[2] and any(not each.has_ended for each in sessions)
        return Reservation(self.number, *self.holder, 0 if is_open else gone,
                           wire.HELD | (wire.OPEN if is_open else 0))

    def refusal_of_claim(self, connection, request):
        now, session = self.reservation(), connection.session
        if request.offset != self.number:
            return f"the number is {self.number}"
        own = self.holder and self.holder[0] == session.head and \
            self.holder[1] <= session.incarnation
        if not self.holder or own or request.flags & wire.FLAG_FORCE:
            return None
        gone_for_good = not now.flags & wire.OPEN and now.gone >= self.holder[2]
        return None if gone_for_good else f"head {self.holder[0]:016x} has it"

    def rule(self, connection, request):
        """The chunks that answer a command of reservations. Requests are executed one by one on
        each connection here, so what a displaced one carried is done when its thread is."""
        session, refusal, displaced = connection.session, None, []
        if request.command == wire.DST_RELEASE:
            demand(request.length == 0 and not request.flags, f"{request}")
            if request.offset != self.number or connection not in self.sessions_of_holder():
                refusal = "it is not yours"
            else:
                self.holder = None
        elif request.command == wire.DST_CLAIM:
            demand(request.length > 0 and not request.flags & ~wire.FLAG_FORCE, f"{request}")
            refusal = self.refusal_of_claim(connection, request)
            if not refusal:
                if connection not in self.sessions_of_holder():
                    displaced = self.sessions_of_holder()
                    self.number += 1
                self.holder = (session.head, session.incarnation, request.length)
                self.holder_heard = time.monotonic()
        else:
            demand(request.offset == request.length == request.flags == 0, f"{request}")
        for each in displaced:
            each.end()
            each.thread.join()
        chunks = [(wire.CHUNK_RESERVATION, wire.reservation_payload(self.reservation()))]
        if refusal:
            text = refusal.encode()
            chunks.append((wire.CHUNK_ERROR, struct.pack(">IH", errno.EPERM, len(text)) + text))
        return chunks

    def crash(self):
        """What was not flushed is lost, and it comes back as another instance."""
        self.drop()
        with self.lock:
            self.disk[:] = self.durable
        self.answer = self.answer._replace(instance=self.answer.instance + 1)

    def execute(self, request, payload):
        """Returns the data of a read."""
        end = request.offset + request.length
        with self.lock:
            demand(end <= len(self.disk), f"beyond the end: {request}")
            if request.command == wire.READ:
                return bytes(self.disk[request.offset:end])
            if request.command == wire.WRITE:
                self.disk[request.offset:end] = payload
            elif request.command == wire.WRITE_ZEROES:
                self.disk[request.offset:end] = bytes(request.length)
            elif request.command not in (wire.FLUSH, wire.TRIM, wire.DST_PING):
                raise wire.Violation(f"a command that was not offered: {request}")
            if request.command == wire.FLUSH or request.flags & wire.FLAG_FUA:
                self.durable = bytes(self.disk)
        return b""
