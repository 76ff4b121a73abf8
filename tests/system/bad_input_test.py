#!/usr/bin/python3
"""Bad input from the network: whatever one client does, the daemon lives, serves others at once,
and holds on to nothing of it."""

import contextlib
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import lab_raw_nbd as raw
from lab import Failure, Lab, check, main, test, wait_until
from lab_net import unread_bytes
from lab_raw_nbd import RawClient

DISK = 16 << 20
MEMORY = 128 << 20
AT_ONCE_S = 2.0


class Victim:
    """A daemon under attack. `still_fine` is the check of all tests here."""

    def __init__(self, lab):
        self.daemon = lab.daemon("daemon", memory="128M", export=[
            {"name": "disk", "device": lab.file("disk", DISK)},
            {"name": "vol", "device": "storage:vol"}], storage=[
            {"name": "vol", "algorithm": "linear", "metadata": "none",
             "nodes": [f"L: {lab.file('node', DISK)}"]}])
        self.daemon.wait_storage("vol")
        self.port = self.daemon.port
        self.serves_others("the first of all")
        self.descriptors = self.daemon.process.descriptors()

    def client(self, export="disk"):
        """In the transmission phase."""
        return RawClient(self.port).go(export)

    def serves_others(self, after, exports=("disk", "vol")):
        """Another client gets its answers at once."""
        begin = time.monotonic()
        for export in exports:
            try:
                with RawClient(self.port, timeout=AT_ONCE_S) as other:
                    data = os.urandom(4096)
                    other.go(export)
                    check(other.ask(raw.WRITE, 8192, len(data), data) == "",
                          f"{after}: a write of another client failed")
                    other.request(raw.READ, 8192, len(data))
                    other.receive(16)
                    check(other.receive(len(data)) == data, f"{after}: others read wrong data")
            except TimeoutError as error:
                raise Failure(f"{after}: another client of {export} got no answer within "
                              f"{AT_ONCE_S:g} s") from error
        took = time.monotonic() - begin
        check(took < AT_ONCE_S, f"{after}: others waited {took:.1f} s")

    def still_fine(self, after):
        """Alive, serving, within its memory, and without a descriptor too many."""
        check(self.daemon.process.is_running(), f"{after}: the daemon is dead")
        self.serves_others(after)
        wait_until(f"after {after} the daemon has its {self.descriptors} descriptors back",
                   lambda: self.daemon.process.descriptors() <= self.descriptors)
        peak = self.daemon.process.rss_peak_bytes()
        check(peak <= MEMORY, f"{after}: the daemon took {peak >> 20} MiB of memory")


@test
def garbage_instead_of_a_handshake_ends_that_connection_only(lab: Lab):
    victim = Victim(lab)
    garbage = {
        "random bytes": lab.random.randbytes(100_000),
        "zeroes": bytes(100_000),
        "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(64),
        "a TLS hello": bytes.fromhex("1603010200010001fc0303") + lab.random.randbytes(512),
        "unknown client flags": struct.pack(">I", 0xFFFFFFFF) + bytes(64),
        "a wrong option magic": struct.pack(">I8sII", 3, b"IHAVENOT", raw.GO, 0) + bytes(64),
        "the greeting of a server": b"NBDMAGICIHAVEOPT\0\3" + bytes(64),
        "a transmission request": struct.pack(">IIHHQQI", 3, 0x25609513, 0, 0, 1, 0, 512),
    }
    for name, data in garbage.items():
        with RawClient(victim.port) as client:
            with contextlib.suppress(ConnectionError):  # it may close before it got all
                client.send(data)
            check(client.is_closed_by_server(), f"{name}: the connection stays open")
        victim.still_fine(name)
    for count in range(1, 18):  # hangs up within the greeting's answer and the first option
        with RawClient(victim.port) as client:
            client.send(struct.pack(">I8sII", 3, b"IHAVEOPT", raw.GO, 6)[:count])
    victim.still_fine("hanging up in a handshake")


@test
def bad_options_are_refused_and_the_handshake_goes_on(lab: Lab):
    victim = Victim(lab)
    with RawClient(victim.port).greet() as client:
        def refused(what, kinds, *args, **keywords):
            reply = client.option(*args, **keywords).option_reply()
            check(reply.type in kinds, f"{what} was answered with {reply}")
        invalid = [raw.REP_ERR_INVALID]
        refused("an unknown option", [raw.REP_ERR_UNSUP], 4711, b"abc")
        refused("STARTTLS", [raw.REP_ERR_UNSUP], raw.STARTTLS)
        refused("a GO without data", invalid, raw.GO)
        refused("a GO whose name is longer than its data", invalid, raw.GO,
                struct.pack(">I", 1000) + b"disk" + bytes(2))
        refused("a GO whose name is nearly 2^32 long", invalid, raw.GO,
                struct.pack(">I", 0xFFFFFFFF) + b"disk" + bytes(2))
        refused("a GO with fewer requests than it says", invalid, raw.GO,
                struct.pack(">I4sHH", 4, b"disk", 3, 0))
        refused("a LIST with data", invalid, raw.LIST, b"data")
        refused("an unknown name", [raw.REP_ERR_UNKNOWN], raw.GO,
                struct.pack(">I4sH", 4, b"diks", 0))
        refused("a name that is no UTF-8", [raw.REP_ERR_UNKNOWN, *invalid], raw.GO,
                struct.pack(">I4sH", 4, b"\xff\xfe\0\n", 0))
        refused("an option of 65 KiB", [raw.REP_ERR_TOO_BIG, *invalid], raw.INFO, bytes(65 << 10))
        refused("an unknown option of 1 MiB", [raw.REP_ERR_TOO_BIG, raw.REP_ERR_UNSUP], 4711,
                bytes(1 << 20))
        for _ in range(100):
            client.option(raw.LIST)
        listed = [client.option_reply() for _ in range(300)]  # two exports and an ACK each
        check(sum(reply.type == raw.REP_ACK for reply in listed) == 100, f"{listed}")
        client.option(raw.GO, struct.pack(">I4sH", 4, b"disk", 0))
        while (reply := client.option_reply()).type != raw.REP_ACK:
            check(reply.type < 1 << 31, f"the handshake can't go on after refusals: {reply}")
        check(client.ask(raw.READ, 0, 512) == "", "the transmission phase does not work")
    victim.still_fine("refused options")

    for name, length in (("2^32-1", 0xFFFFFFFF), ("1 GiB", 1 << 30)):
        with RawClient(victim.port).greet() as client:
            client.option(raw.INFO, bytes(1000), length=length)
            check(client.is_closed_by_server(), f"an option of {name} keeps the connection open")
        victim.still_fine(f"an option of {name}")
    with RawClient(victim.port).greet() as client:
        client.option(raw.EXPORT_NAME, b"diks")  # can't be refused otherwise (proto.md)
        check(client.is_closed_by_server(), "EXPORT_NAME of an unknown export stays open")
    victim.still_fine("EXPORT_NAME of an unknown export")


@test
def impossible_requests_get_an_error_and_the_next_one_works(lab: Lab):
    victim = Victim(lab)
    beyond = {raw.READ: {"EINVAL"}, raw.WRITE: {"ENOSPC", "EINVAL"}, raw.TRIM: {"EINVAL"},
              raw.WRITE_ZEROES: {"ENOSPC", "EINVAL"}, raw.CACHE: {"EINVAL"}}
    places = [(DISK, 512), (DISK - 512, 1024), (1 << 40, 512), ((1 << 64) - 512, 512),
              ((1 << 64) - 512, 1024), ((1 << 63), 4096), (0, DISK + 512)]
    unaligned = [(0, 511), (1, 512), (256, 512), (512, 513)]
    for export in ("disk", "vol"):
        with victim.client(export) as client:
            def refused(command, offset, length, errors, flags=0):
                payload = bytes(length) if command == raw.WRITE else b""
                answer = client.ask(command, offset, length, payload, flags)
                check(answer in errors, f"{export}: command {command} at {offset}+{length} was "
                                        f"answered with {answer or 'success'}, not {errors}")
                check(client.ask(raw.READ, 0, 512) == "", f"{export}: the next request failed")
            for command, errors in beyond.items():
                for offset, length in places:
                    refused(command, offset, length, errors)
                for offset, length in unaligned:
                    refused(command, offset, length, {"EINVAL"})
                if command != raw.WRITE:
                    refused(command, 0, 0xFFFFFFFF, errors | {"EOVERFLOW", "ENOMEM", "EINVAL"})
                    refused(command, 0, 0xFFFFFE00, errors | {"EOVERFLOW", "ENOMEM", "EINVAL"})
            refused(99, 0, 512, {"EINVAL", "ENOTSUP", "EOPNOTSUPP"})
            refused(raw.BLOCK_STATUS, 0, 512, {"EINVAL"})  # no context was negotiated
            refused(raw.READ, 0, 512, {"EINVAL"}, flags=1 << 15)
            refused(raw.WRITE, 0, 512, {"EINVAL"}, flags=1 << 14)
        victim.still_fine(f"impossible requests to {export}")


@test
def a_write_of_four_gigabytes_ends_the_connection_and_takes_no_memory(lab: Lab):
    victim = Victim(lab)
    for length in (0xFFFFFFFF, 0xFFFFFE00, (32 << 20) + 512):
        with victim.client() as client:
            client.request(raw.WRITE, 0, length)
            sent = 0
            with contextlib.suppress(ConnectionError):
                for _ in range(64):
                    client.send(bytes(1 << 20))
                    sent += 1
            # Either it is refused and its payload read and dropped, or the connection ends.
            victim.serves_others(f"a write of {length} bytes")
        victim.still_fine(f"a write of {length} bytes, {sent} MiB of them sent")
    with victim.client() as client:
        client.request(raw.READ, 0, 512, magic=0x25609514)
        check(client.is_closed_by_server(), "a wrong request magic keeps the connection open")
    victim.still_fine("a wrong request magic")


@test
def clients_that_stop_in_the_middle_hinder_nobody(lab: Lab):
    victim = Victim(lab)
    clients = []
    header = struct.pack(">IHHQQI", 0x25609513, 0, raw.WRITE, 1, 0, 1 << 20)
    for half in (header[:1], header[:27], header, header + bytes(1), header + bytes(1 << 19)):
        for _ in range(10):
            clients.append(victim.client().send(half))
        victim.serves_others(f"10 clients that stopped after {len(half)} bytes of a write")
    for half in (b"", b"\0\0", struct.pack(">I8s", 3, b"IHAVEOPT")):
        for _ in range(10):
            clients.append(RawClient(victim.port).send(half))
        victim.serves_others(f"10 clients that stopped after {len(half)} bytes of a handshake")
    check(victim.daemon.process.descriptors() >= victim.descriptors + len(clients) - 10,
          "the clients are not there: this test tests nothing")
    for client in clients:
        client.close()
    victim.still_fine("all of them left")


def never_read_replies(export, clients):
    """Clients that ask for 1 MiB as often as they can and don't read any of it."""
    for client in clients:
        client.go(export).socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError):  # the daemon stops reading, so sending stalls
            for _ in range(2000):
                client.request(raw.READ, 0, 1 << 20)


def check_one_that_never_reads(lab, count, others):
    """Clients of `disk` never read their replies; clients of the export `others` don't notice."""
    victim = Victim(lab)
    clients = [RawClient(victim.port) for _ in range(count)]
    never_read_replies("disk", clients)
    wait_until("the daemon has stopped reading", lambda: unread_bytes(victim.port) > 0)
    for _ in range(5):
        victim.serves_others(f"{count} clients with unread replies of 1 MiB each", [others])
    peak = victim.daemon.process.rss_peak_bytes()
    check(peak <= MEMORY, f"the daemon took {peak >> 20} MiB for replies that nobody reads")
    lab.say(f"at most {peak >> 20} MiB of memory")
    for client in clients:
        client.close()
    victim.still_fine("all of them left")


@test
def a_client_that_never_reads_its_replies_does_not_hinder_those_of_other_exports(lab: Lab):
    check_one_that_never_reads(lab, 1, "vol")


@test
def twenty_clients_that_never_read_do_not_hinder_those_of_other_exports(lab: Lab):
    check_one_that_never_reads(lab, 20, "vol")


@test
def a_client_that_never_reads_its_replies_does_not_hinder_those_of_the_same_export(lab: Lab):
    check_one_that_never_reads(lab, 1, "disk")


@test
def a_thousand_connections_are_opened_and_dropped(lab: Lab):
    victim = Victim(lab)
    for _ in range(1000):
        RawClient(victim.port).close()
    victim.still_fine("1,000 connections, one after another")

    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(RawClient(victim.port))
        victim.serves_others("1,000 open connections")
    victim.still_fine("1,000 connections at once")

    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(victim.client()).request(raw.READ, 0, 4096)
        victim.serves_others("1,000 clients")
        check(victim.daemon.export("disk")["clients"] == 1000,
              f"{victim.daemon.export('disk')}")
    victim.still_fine("1,000 clients that left with a request in flight")


main()
