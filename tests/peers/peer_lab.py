"""What the tests with foreign peers share, beside tests/support/lab.py: an NBD client in Python on
top of libnbd, images and their comparison, and foreign servers that the lab does not know.

Nothing here hangs: each command of the client has a deadline, each program a timeout.
"""

import contextlib
import errno
import os
import socket
import sys
import time

import nbd

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
# pylint: disable-next=wrong-import-position
from lab import Failure, Server, check, run, wait_until

SECTOR = 512
MIB = 1 << 20
DEADLINE_S = 20.0


# Programs ----------------------------------------------------------------------------------------

def tool(*argv, timeout=60.0):
    """Runs a program that must succeed; returns its standard output."""
    outcome = run(argv, timeout=timeout)
    check(outcome.code == 0, f"{' '.join(map(str, argv))} ended with {outcome.code}:\n"
                             f"{outcome.stdout[-2000:]}{outcome.stderr[-2000:]}")
    return outcome.stdout


def image(lab, name, size, share=1.0, piece=64 << 10):
    """Writes a file of random bytes; only `share` of its pieces are data, the others are holes."""
    path = lab.file(name, size)
    with open(path, "r+b") as file:
        for at in range(0, size, piece):
            if lab.random.random() < share:
                file.seek(at)
                file.write(lab.random.randbytes(min(piece, size - at)))
    return path


def content(path):
    with open(path, "rb") as file:
        return file.read()


def check_same(one, other, what):
    """Compares two byte strings, or files by path; says where they differ."""
    one, other = (content(side) if isinstance(side, str) else bytes(side) for side in (one, other))
    check(len(one) == len(other), f"{what}: {len(one)} bytes, expected {len(other)}")
    if one != other:
        at = next(i for i in range(0, len(one), SECTOR)
                  if one[i:i + SECTOR] != other[i:i + SECTOR])
        wrong = sum(one[i:i + SECTOR] != other[i:i + SECTOR] for i in range(0, len(one), SECTOR))
        raise Failure(f"{what}: {wrong} sectors differ, the first at byte {at}: "
                      f"{one[at:at + 16].hex()}, expected {other[at:at + 16].hex()}")


def allocated_bytes(path):
    return os.stat(path).st_blocks * 512


# A client ----------------------------------------------------------------------------------------

class Client:
    """One connection. Sends whatever it is told to, right or wrong: the server is to judge."""

    def __init__(self, uri=None, *, name="", source=None, structured=True, allocation=True,
                 handshake_flags=None, options_only=False, port=None):
        """Connects to `uri`, or from the address `source` to the export `name` at `port` of
        127.0.0.1. `options_only`: stays in the handshake."""
        self.handle = nbd.NBD()
        self.handle.set_strict_mode(0)
        self.handle.set_request_structured_replies(structured)
        self.handle.set_full_info(True)
        self.handle.set_opt_mode(options_only)
        if handshake_flags is not None:
            self.handle.set_handshake_flags(handshake_flags)
        if allocation:
            self.handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        if uri is not None:
            self.handle.connect_uri(uri)
        else:
            self.handle.set_export_name(name)
            self.handle.connect_socket(connection_from(source, port).detach())
        self.flags_seen = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(nbd.Error):
            self.handle.shutdown()
        self.handle = None

    @property
    def size(self):
        return self.handle.get_size()

    def block_sizes(self):
        """Minimum, preferred, maximum; 0 where the server says nothing."""
        return tuple(self.handle.get_block_size(which)
                     for which in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM))

    def wait(self, cookie, what="a command", deadline_s=DEADLINE_S):
        deadline = time.monotonic() + deadline_s
        while not self.handle.aio_command_completed(cookie):
            check(time.monotonic() < deadline, f"{what} was not answered within {deadline_s:g} s")
            self.handle.poll(100)

    def start_read(self, offset, length, flags=0):
        """Returns what `wait` needs, and the buffer."""
        buffer = nbd.Buffer(length)
        return self.handle.aio_pread(buffer, offset, flags=flags), buffer

    def start_write(self, offset, data, flags=0):
        return self.handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset,
                                      flags=flags)

    def read(self, offset, length, flags=0, **deadline):
        cookie, buffer = self.start_read(offset, length, flags)
        self.wait(cookie, f"a read of {length} bytes at {offset}", **deadline)
        return bytes(buffer.to_bytearray())

    def read_chunks(self, offset, length, flags=0):
        """The data, and a list of (offset, length, READ_DATA | READ_HOLE | READ_ERROR)."""
        buffer, chunks = nbd.Buffer(length), []

        def on_chunk(part, at, status, _error):
            chunks.append((at, len(part), status))
            return 0
        cookie = self.handle.aio_pread_structured(buffer, offset, on_chunk, flags=flags)
        self.wait(cookie, f"a structured read of {length} bytes at {offset}")
        return bytes(buffer.to_bytearray()), chunks

    def write(self, offset, data, flags=0, **deadline):
        self.wait(self.start_write(offset, data, flags),
                  f"a write of {len(data)} bytes at {offset}", **deadline)

    def zero(self, offset, length, flags=0, **deadline):
        self.wait(self.handle.aio_zero(length, offset, flags=flags),
                  f"zeroing of {length} bytes at {offset}", **deadline)

    def trim(self, offset, length, flags=0, **deadline):
        self.wait(self.handle.aio_trim(length, offset, flags=flags),
                  f"a trim of {length} bytes at {offset}", **deadline)

    def cache(self, offset, length, flags=0):
        self.wait(self.handle.aio_cache(length, offset, flags=flags), "a cache command")

    def flush(self, flags=0, **deadline):
        self.wait(self.handle.aio_flush(flags=flags), "a flush", **deadline)

    def extents(self, offset, length, flags=0):
        """A list of (length, STATE_HOLE | STATE_ZERO), for base:allocation."""
        found = []

        def on_extents(context, _offset, entries, _error):
            check(context == nbd.CONTEXT_BASE_ALLOCATION, f"block status for {context}")
            found.extend(zip(entries[::2], entries[1::2]))
            return 0
        cookie = self.handle.aio_block_status(length, offset, on_extents, flags=flags)
        self.wait(cookie, f"block status of {length} bytes at {offset}")
        return found

    def all_extents(self):
        """Of the whole export, neighbours of the same kind as one: (offset, length, flags)."""
        merged, at = [], 0
        while at < self.size:
            for length, flags in self.extents(at, min(self.size - at, 1 << 30)):
                if merged and merged[-1][2] == flags:
                    merged[-1] = (merged[-1][0], merged[-1][1] + length, flags)
                else:
                    merged.append((at, length, flags))
                at += length
        return merged


def connection_from(source, port, host="127.0.0.1"):
    """A socket connected to `port`, from the address `source` if that is given."""
    connection = socket.socket()
    connection.settimeout(DEADLINE_S)
    if source:
        connection.bind((source, 0))
    connection.connect((host, port))
    connection.settimeout(None)
    return connection


SUCCESS, FAILED = 0, -1


def error_of(function, *args, **keywords):
    """The error number with which the call fails (FAILED if it has none); or SUCCESS."""
    try:
        function(*args, **keywords)
    except nbd.Error as error:
        return error.errnum or FAILED
    return SUCCESS


def name_of(code):
    return {SUCCESS: "success", FAILED: "no error number"}.get(code) or errno.errorcode[code]


def check_fails(code, what, function, *args, **keywords):
    """The call must fail, with `code`."""
    got = error_of(function, *args, **keywords)
    check(got == code, f"{what}: {name_of(got)}, expected {name_of(code)}")


# Work whose result is known ----------------------------------------------------------------------

def exercise(client, lab, model, steps):
    """Random reads and changes of `client`'s whole export against `model`, a bytearray of its size
    and content. Changes `model` too."""
    random, least = lab.random, max(client.block_sizes()[0], SECTOR)
    blocks = len(model) // least
    for step in range(steps):
        count = min(1 + int(random.expovariate(1 / 16)), 512, blocks)
        first = random.randrange(blocks - count + 1)
        offset, length = first * least, count * least
        action = random.choice(("write", "write", "fua", "zero", "no_hole", "read", "flush"))
        if action in ("write", "fua"):
            data = random.randbytes(length)
            client.write(offset, data, nbd.CMD_FLAG_FUA if action == "fua" else 0)
            model[offset:offset + length] = data
        elif action in ("zero", "no_hole"):
            client.zero(offset, length, nbd.CMD_FLAG_NO_HOLE if action == "no_hole" else 0)
            model[offset:offset + length] = bytes(length)
        elif action == "read":
            check_same(client.read(offset, length), model[offset:offset + length],
                       f"step {step}: a read of {length} bytes at {offset}")
        else:
            client.flush()


def read_all(client):
    piece = min(4 * MIB, client.block_sizes()[2] or MIB)
    return b"".join(client.read(at, min(piece, client.size - at))
                    for at in range(0, client.size, piece))


# Exports -----------------------------------------------------------------------------------------

# An export of each kind: a file (direct, and through the page cache), memory, and a linear storage
# with a local, a remote and a memory node.
KINDS = ("direct", "buffered", "memory", "linear")
SIZE = 40 * MIB
# Where the nodes of the linear storage meet.
EDGES = (13 * MIB, 28 * MIB)


def exporter_of_each_kind(lab, **config):
    """A daemon with these exports, all empty, and "linear-ro", the linear one read-only."""
    far = lab.daemon("far", export=[{"name": "disk", "device": "memory:15M"}])
    nodes = ["L: " + lab.file("front", EDGES[0]), far.remote("disk"), "L: memory:12M"]
    storage = {"name": "vol", "algorithm": "linear", "nodes": nodes}
    export = [
        {"name": "direct", "device": lab.file("direct", SIZE), "description": "the first disk"},
        {"name": "buffered", "device": lab.file("buffered", SIZE), "cache": "buffered"},
        {"name": "memory", "device": f"memory:{SIZE}"},
        {"name": "linear", "device": "storage:vol"},
        {"name": "linear-ro", "device": "storage:vol", "read_only": True},
    ]
    daemon = lab.daemon("exporter", storage=[storage], export=export, **config)
    daemon.wait_storage("vol")
    return daemon


# Heads with foreign nodes ------------------------------------------------------------------------

def head_of(lab, *servers, name="head", export="", **storage):
    """A head that joins the servers (or nodes, as text) and exports the sum as "vol"."""
    nodes = [server if isinstance(server, str) else server.remote(export) for server in servers]
    return lab.daemon(name, storage=[{"name": "vol", "algorithm": "linear", "nodes": nodes}
                                     | storage],
                      export=[{"name": "vol", "device": "storage:vol"}])


def running_head_of(lab, *servers, **options):
    head = head_of(lab, *servers, **options)
    head.wait_storage("vol")
    return head


def wait_for_reason(head, words, state):
    """Waits until the status of "vol" has `words` in its reason, and in that of a node; returns it.
    It must be in `state` then."""
    def there():
        storage = head.storage("vol")
        reasons = [node["reason"] for node in storage["nodes"]]
        if words in storage["reason"] and any(words in reason for reason in reasons):
            return storage
        raise Failure(f"{storage['state']}: {storage['reason']}; nodes: {reasons}")
    storage = wait_until(f"the status says '{words}'", there, 15)
    check(storage["state"] == state, f"state {storage['state']}: {storage['reason']}")
    return storage


# Foreign servers ---------------------------------------------------------------------------------

class NbdServer(Server):
    """nbd-server with the `options` that one wants: lines of the export's section."""

    def __init__(self, lab, name, file, export, options=""):
        port = lab.port()
        config = lab.path(name + ".conf")
        with open(config, "w", encoding="ascii") as out:
            out.write(f"[generic]\nport = {port}\nlistenaddr = 127.0.0.1\nallowlist = true\n"
                      f"[{export}]\nexportname = {file}\n{options}")
        super().__init__(name, ["nbd-server", "-C", config, "-p", config + ".pid"],
                         lab.path(name + ".log"), port, takes_socket=False)
        lab.enter(self)


def nbdkit(*options, params=()):
    """What makes a memory disk: `make(lab, name, size)` starts nbdkit with these options (filters)
    and parameters of theirs."""
    return lambda lab, name, size: lab.nbdkit(name, *options, "memory", str(size), *params)


def nbdkit_file(*options, params=()):
    """The same with a file, `name`.disk."""
    return lambda lab, name, size: lab.nbdkit(name, *options, "file",
                                              lab.file(name + ".disk", size), *params)


def qemu_storage_daemon(lab, name, size):
    """The same from qemu, under the name "disk"."""
    return lab.qemu_storage_daemon(name, lab.file(name + ".disk", size), "disk")


def nbd_server(options=""):
    """The same from nbd-server, under the name "disk"; `options` are lines of its configuration."""
    return lambda lab, name, size: NbdServer(lab, name, lab.file(name + ".disk", size), "disk",
                                             options)
