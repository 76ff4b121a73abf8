"""A peer written from docs/protocol.md and proto.md alone: raw sockets, and nothing of ours.

`Peer` is a client; `Frame` and the functions beside it build and read what travels, so that a test
can spoil it. Sections in comments are those of docs/protocol.md.
"""

import collections
import socket
import struct

# proto.md
NBDMAGIC, IHAVEOPT, OPTION_REPLY_MAGIC = 0x4e42444d41474943, 0x49484156454f5054, 0x3e889045565a9
REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668e33ef
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT = 8, 10
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_UNKNOWN, REP_ERR_SHUTDOWN, \
    REP_ERR_TOO_BIG = ((1 << 31) + number for number in (1, 2, 3, 6, 7, 9))
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF = 1, 2, 4
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_BLOCK_STATUS = 0, 1, 2, 5
CHUNK_ERROR, CHUNK_ERROR_OFFSET = (1 << 15) + 1, (1 << 15) + 2
DONE = 1

# 1.2, 1.5 to 1.7
OPT_DST_HELLO = REP_DST_HELLO = 0x64737401
DST_PING, DST_RESERVATION, DST_CLAIM, DST_RELEASE, DST_DIGEST = range(0x6401, 0x6406)
CHECKSUMS, SESSION = 1, 2                      # of HELLO
RESERVATIONS, DIGESTS = 2, 4                   # of its answer, beside CHECKSUMS
FLAG_FORCE = 1 << 15
CHUNK_RESERVATION, CHUNK_DIGEST = 0x6401, 0x6402
HELD, OPEN = 1, 2

TIMEOUT_S = 10.0

Session = collections.namedtuple("Session", "head incarnation session node")
Hello = collections.namedtuple("Hello", "version flags instance identity requests_max")
Export = collections.namedtuple("Export", "size flags block_min block_preferred payload_max")
Request = collections.namedtuple("Request", "flags command cookie offset length")
Chunk = collections.namedtuple("Chunk", "flags type cookie payload")
Reservation = collections.namedtuple("Reservation", "number head incarnation takeover gone flags")


class Violation(AssertionError):
    """The other side does what the document does not allow."""


def demand(condition, what):
    if not condition:
        raise Violation(what)


class Refused(Exception):
    """An error reply to an option."""

    def __init__(self, reply, text):
        super().__init__(f"{reply - (1 << 31)}: {text}")
        self.reply = reply
        self.text = text


# CRC32C (1.3) ------------------------------------------------------------------------------------

def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def crc32c(data):
    crc, table = 0xffffffff, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


# Frames ------------------------------------------------------------------------------------------

class Frame:
    """What is sent, in parts that may be spoiled before `bytes`."""

    def __init__(self, header, payload=b"", checksums=True):
        self.header, self.payload = bytearray(header), bytearray(payload)
        self.payload_crc = struct.pack(">I", crc32c(payload)) if checksums else b""
        self.checksums = checksums

    def seal(self):
        """The checksum of all before."""
        return struct.pack(">I", crc32c(self.header + self.payload_crc)) if self.checksums else b""

    def bytes(self):
        return bytes(self.header + self.payload_crc + self.seal() + self.payload)


def request_header(command, cookie, offset=0, length=0, flags=0):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset, length)


def chunk_header(chunk_type, cookie, length=0, flags=DONE):
    return struct.pack(">IHHQI", CHUNK_MAGIC, flags, chunk_type, cookie, length)


def hello_data(export, version=1, flags=CHECKSUMS, session=None, name_length=None):
    """The option's data (1.2)."""
    name = export.encode() if isinstance(export, str) else export
    if session:
        flags |= SESSION
    owner = session or Session(0, 0, 0, 0)
    return struct.pack(">HHQQQQI", version, flags, owner.head, owner.incarnation, owner.session,
                       owner.node, len(name) if name_length is None else name_length) + name


def reservation_payload(reservation):
    """1.6"""
    return struct.pack(">QQQIII", *reservation)


def parse_reservation(payload):
    sizes = payload[36:]
    demand(len(payload) >= 36 and len(sizes) % 8 == 0 and len(sizes) <= 64,
           f"a reservation of {len(payload)} bytes")
    demand(all(size and size % 512 == 0 for size, in struct.iter_unpack(">Q", sizes)),
           f"sizes of a reservation: {sizes.hex(' ')}")
    told = Reservation(*struct.unpack(">QQQIII", payload[:36]))
    demand(not told.flags & ~(HELD | OPEN), f"flags of {told}")
    if told.flags & HELD:
        demand(told.takeover > 0, f"the takeover of {told}")
        demand(not (told.flags & OPEN and told.gone), f"open and gone: {told}")
    else:
        demand(told[1:] == (0, 0, 0, 0, 0), f"nobody holds {told}")
    return told


class Stream:
    """A socket that is read in exact sizes, with a timeout."""

    def __init__(self, connected):
        self.socket = connected
        self.socket.settimeout(TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionError(f"ended after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def unpack(self, form):
        return struct.unpack(form, self.receive(struct.calcsize(form)))

    def is_closed(self, within_s=TIMEOUT_S):
        """True once the other side has closed it; whatever it sent before counts as a violation."""
        self.socket.settimeout(within_s)
        try:
            said = self.socket.recv(4096)
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_S)
        demand(not said, f"it says something before it closes: {said[:64].hex()}")
        return True

    def close(self):
        self.socket.close()


# A client ----------------------------------------------------------------------------------------

class Peer(Stream):
    """One connection, up to the client flags."""

    def __init__(self, port, source=None):
        connecting = socket.socket()
        if source:
            connecting.bind((source, 0))
        connecting.settimeout(TIMEOUT_S)
        connecting.connect(("127.0.0.1", port))
        super().__init__(connecting)
        self.checksums = self.structured = False
        self.cookie = 0
        self.pending = {}  # chunks of replies that nobody asked for yet, by cookie
        self.greeting_due = True
        self.send(struct.pack(">I", 3))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Handshake

    def send_option(self, option, data=b""):
        self.send(struct.pack(">QII", IHAVEOPT, option, len(data)) + data)

    def option_replies(self, option):
        """What comes before the ACK; raises Refused."""
        if self.greeting_due:
            self.greeting_due = False
            magic, style, flags = self.unpack(">QQH")
            demand((magic, style) == (NBDMAGIC, IHAVEOPT) and flags & 3 == 3, "the greeting")
        replies = []
        while True:
            magic, answered, reply, length = self.unpack(">QIII")
            data = self.receive(length)
            demand(magic == OPTION_REPLY_MAGIC and answered == option, f"a reply to {option}")
            if reply == REP_ACK:
                demand(not data, "an ACK with data")
                return replies
            if reply >> 31:
                raise Refused(reply, data.decode())
            replies.append((reply, data))

    def option(self, option, data=b""):
        self.send_option(option, data)
        return self.option_replies(option)

    def hello_answer(self):
        [(reply, data)] = self.option_replies(OPT_DST_HELLO)
        demand(reply == REP_DST_HELLO and len(data) == 24, f"the answer {reply}: {data.hex()}")
        answer = Hello(*struct.unpack(">HHQQI", data))
        self.checksums = bool(answer.flags & CHECKSUMS)
        self.structured |= self.checksums
        return answer

    def hello(self, export, **fields):
        self.send_option(OPT_DST_HELLO, hello_data(export, **fields))
        return self.hello_answer()

    def go(self, export, option=OPT_GO):
        name = export.encode()
        data = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, INFO_BLOCK_SIZE)
        size = flags = None
        blocks = (512, 4096, 32 << 20)
        for reply, info in self.option(option, data):
            demand(reply == REP_INFO, f"reply {reply}")
            kind = struct.unpack(">H", info[:2])[0]
            if kind == INFO_EXPORT:
                size, flags = struct.unpack(">QH", info[2:])
            elif kind == INFO_BLOCK_SIZE:
                blocks = struct.unpack(">III", info[2:])
        demand(size is not None, "GO without NBD_INFO_EXPORT")
        return Export(size, flags, *blocks)

    def select_allocation(self, export):
        """Selects base:allocation; its id."""
        name, query = export.encode(), b"base:allocation"
        data = (struct.pack(">I", len(name)) + name + struct.pack(">II", 1, len(query)) + query)
        [(reply, answer)] = self.option(OPT_SET_META_CONTEXT, data)
        demand(reply == REP_META_CONTEXT and answer[4:] == query, f"the answer {answer}")
        return struct.unpack(">I", answer[:4])[0]

    def structured_replies(self):
        self.option(OPT_STRUCTURED_REPLY)
        self.structured = True

    # Transmission

    def frame(self, command, offset=0, length=None, flags=0, payload=b"", cookie=None):
        """The next request, not sent yet. Returns its cookie and its Frame."""
        self.cookie += 1
        cookie = self.cookie if cookie is None else cookie
        header = request_header(command, cookie, offset,
                                len(payload) if length is None else length, flags)
        return cookie, Frame(header, payload, self.checksums)

    def request(self, *arguments, **keywords):
        """Sends one; returns its cookie."""
        cookie, frame = self.frame(*arguments, **keywords)
        self.send(frame.bytes())
        return cookie

    def receive_chunk(self):
        """The next chunk; a simple reply (without data) as a chunk."""
        if not self.structured:
            magic, error, cookie = self.unpack(">IIQ")
            demand(magic == SIMPLE_REPLY_MAGIC, f"magic {magic:#x} of a simple reply")
            error_payload = struct.pack(">IH", error, 0) if error else b""
            return Chunk(DONE, CHUNK_ERROR if error else CHUNK_NONE, cookie, error_payload)
        header = self.receive(20)
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", header)
        if self.checksums:
            payload_crc, crc = self.unpack(">4sI")
            demand(crc == crc32c(header + payload_crc), f"checksum of the header {header.hex()}")
        demand(magic == CHUNK_MAGIC, f"magic {magic:#x} of a chunk")
        payload = self.receive(length)
        if self.checksums:
            demand(struct.unpack(">I", payload_crc)[0] == crc32c(payload), "checksum of a payload")
        return Chunk(flags, kind, cookie, payload)

    def reply(self, cookie):
        """All chunks of the reply to `cookie`; those of others are kept."""
        while True:
            chunks = self.pending.get(cookie, [])
            if chunks and chunks[-1].flags & DONE:
                return self.pending.pop(cookie)
            chunk = self.receive_chunk()
            self.pending.setdefault(chunk.cookie, []).append(chunk)

    def error(self, cookie):
        """The error number of the reply to `cookie`, or 0."""
        for chunk in self.reply(cookie):
            if chunk.type in (CHUNK_ERROR, CHUNK_ERROR_OFFSET):
                return struct.unpack(">I", chunk.payload[:4])[0]
        return 0

    def error_of(self, *arguments, **keywords):
        return self.error(self.request(*arguments, **keywords))

    def write(self, offset, data, flags=0):
        code = self.error_of(WRITE, offset, flags=flags, payload=data)
        demand(code == 0, f"a write fails with {code}")

    def data(self, cookie, offset, length):
        """The data of a structured reply to a read."""
        data, told = bytearray(length), 0
        for chunk in self.reply(cookie):
            if chunk.type == CHUNK_DATA:
                at, part = struct.unpack(">Q", chunk.payload[:8])[0] - offset, chunk.payload[8:]
                data[at:at + len(part)] = part
                told += len(part)
            elif chunk.type == CHUNK_HOLE:
                told += struct.unpack(">QI", chunk.payload)[1]
            else:
                demand(chunk.type == CHUNK_NONE, f"a chunk of type {chunk.type}: {chunk.payload}")
        demand(told == length and len(data) == length, f"{told} of {length} bytes are told")
        return bytes(data)

    def read(self, offset, length):
        return self.data(self.request(READ, offset, length), offset, length)

    def ruling(self, cookie):
        """What became of a command of reservations: what holds now, error number or 0, text."""
        told, *behind = self.reply(cookie)
        if told.type == CHUNK_ERROR:
            return None, struct.unpack(">I", told.payload[:4])[0], told.payload[6:].decode()
        demand(told.type == CHUNK_RESERVATION, f"a chunk of type {told.type:#x}")
        now = parse_reservation(told.payload)
        if not behind:
            return now, 0, ""
        [error] = behind
        demand(error.type == CHUNK_ERROR, f"a chunk of type {error.type:#x}")
        code, length = struct.unpack(">IH", error.payload[:6])
        text = error.payload[6:6 + length].decode()
        demand(code and text, f"an error without number or text: {error}")
        return now, code, text

    def reservation(self):
        now, code, text = self.ruling(self.request(DST_RESERVATION))
        demand(code == 0, f"a reservation can't be read: {code}, {text}")
        return now

    def claim(self, expected, takeover=10_000, flags=0):
        return self.ruling(self.request(DST_CLAIM, expected, takeover, flags))

    def release(self, number):
        return self.ruling(self.request(DST_RELEASE, number))

    def digest(self, offset, length):
        [chunk] = self.reply(self.request(DST_DIGEST, offset, length))
        demand(chunk.type == CHUNK_DIGEST and len(chunk.payload) == 16, f"the digest {chunk}")
        return chunk.payload


def checked(port, export, session=None, source=None):
    """A connection in transmission, checksummed; what HELLO and GO said is `.answer`, `.export`."""
    peer = Peer(port, source)
    peer.answer = peer.hello(export, session=session)
    demand(peer.checksums, "checksums are not granted")
    peer.export = peer.go(export)
    return peer
