"""An NBD client that sends whatever it is told to, however wrong (proto.md of the NBD project)."""

import collections
import errno
import socket
import struct

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY = 1, 2, 3, 5, 6, 7, 8
REP_ACK = 1
REP_ERR_UNSUP = (1 << 31) + 1
REP_ERR_INVALID = (1 << 31) + 3
REP_ERR_UNKNOWN = (1 << 31) + 6
REP_ERR_TOO_BIG = (1 << 31) + 9

OptionReply = collections.namedtuple("OptionReply", "option type data")


class Closed(ConnectionError):
    """The server has ended the connection."""


class RawClient:
    """A connection to a server on 127.0.0.1. Each wait for an answer is bounded by `timeout`."""

    def __init__(self, port, timeout=10.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.settimeout(timeout)
        self._cookie = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, *pieces):
        """Sends bytes as they are."""
        self.socket.sendall(b"".join(pieces))
        return self

    def receive(self, count):
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed("the server has closed the connection")
            data += piece
        return bytes(data)

    def is_closed_by_server(self):
        """True if nothing but the end comes from the server; waits for it."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def greet(self):
        """The fixed newstyle greeting, both ways."""
        magic, option_magic, _ = struct.unpack(">8sQH", self.receive(18))
        assert (magic, option_magic) == (b"NBDMAGIC", 0x49484156454F5054), magic
        return self.send(struct.pack(">I", 3))  # fixed newstyle, no zeroes

    def option(self, option, data=b"", length=None):
        """Sends an option; `length` is what its header says, if not the truth."""
        return self.send(struct.pack(">8sII", b"IHAVEOPT", option,
                                     len(data) if length is None else length), data)

    def option_reply(self):
        magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == 0x3E889045565A9, hex(magic)
        return OptionReply(option, kind, self.receive(length))

    def go(self, export):
        """Greets and goes into the transmission phase; returns itself."""
        name = export.encode()
        self.greet().option(GO, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))
        while (reply := self.option_reply()).type != REP_ACK:
            assert reply.type < 1 << 31, reply
        return self

    def request(self, command, offset=0, length=0, payload=b"", flags=0, magic=0x25609513):
        """Sends a request; returns its cookie."""
        self._cookie += 1
        self.send(struct.pack(">IHHQQI", magic, flags, command, self._cookie, offset, length),
                  payload)
        return self._cookie

    def reply(self, length=0):
        """Receives a simple reply, with `length` bytes of data if it is no error: the errno."""
        magic, error, _ = struct.unpack(">IIQ", self.receive(16))
        assert magic == 0x67446698, hex(magic)
        if error == 0:
            self.receive(length)
        return error

    def ask(self, command, offset=0, length=0, payload=b"", flags=0):
        """A request and its reply: the name of the errno, or "" for success."""
        self.request(command, offset, length, payload, flags)
        error = self.reply(length if command == READ else 0)
        return errno.errorcode.get(error, str(error)) if error else ""
