#!/usr/bin/python3
"""docs/protocol.md, held against an export by a peer that was written from it (protocol_peer.py).

Sessions: protocol_sessions_test.py. What a head does as a client: protocol_head_test.py.
"""

import contextlib
import errno
import os
import struct
import time

import protocol_peer as wire
from protocol_digest import xxh3_128
from protocol_peer import (BLOCK_STATUS, CACHE, CHECKSUMS, CHUNK_NONE, DIGESTS, DONE, DST_DIGEST,
                           DST_PING, FLUSH, OPT_DST_HELLO, OPT_EXPORT_NAME, OPT_INFO, READ, TRIM,
                           WRITE, WRITE_ZEROES, Peer, Refused, checked, crc32c, hello_data)
from protocol_lab import SIZE, check_refused, exporter, slow_exporter
from peer_lab import MIB, check, check_same, content
from lab import main, test


# The document's own examples ---------------------------------------------------------------------

@test
def the_checksum_is_that_of_the_document(_lab):
    check(crc32c(b"123456789") == 0xe3069283, "CRC32C of 123456789")
    check(crc32c(b"") == 0, "CRC32C of nothing")


@test
def the_ping_of_the_document_is_answered_byte_by_byte(lab):
    with checked(exporter(lab).port, "disk") as peer:
        peer.send(bytes.fromhex("25609513 0000 6401 0000000000000001 0000000000000000 00000000"
                                "00000000 123240bc"))
        answer = peer.receive(28)
        check(answer == bytes.fromhex("668e33ef 0001 0000 0000000000000001 00000000 00000000"
                                      "50eda16a"), f"the answer {answer.hex(' ')}")


# Hello -------------------------------------------------------------------------------------------

@test
def hello_is_answered_and_data_goes_both_ways_in_checksummed_frames(lab):
    daemon = exporter(lab)
    with Peer(daemon.port) as peer:
        answer = peer.hello("disk")
        check(answer.version == 1 and answer.flags == CHECKSUMS | DIGESTS, f"the answer {answer}")
        check(answer.instance != 0 and answer.requests_max >= 1, f"the answer {answer}")
        # Structured replies are implied: contexts may be selected at once.
        context = peer.select_allocation("disk")
        export = peer.go("disk")
        check(export.size == SIZE and export.block_min <= 4096, f"the export {export}")
        data = lab.random.randbytes(256 << 10)
        peer.write(MIB, data)
        check_same(peer.read(MIB, len(data)), data, "a read")
        got = peer.read(MIB // 2, MIB)
        check_same(got, bytes(MIB // 2) + data + bytes(MIB // 4), "a read with holes")
        for command, flags in ((FLUSH, 0), (CACHE, 0), (TRIM, 0), (WRITE_ZEROES, 0)):
            length = 0 if command == FLUSH else 4096
            code = peer.error_of(command, length and MIB, length, flags)
            check(code == 0, f"command {command}: {code}")
        check_same(peer.read(MIB, 8192), bytes(4096) + data[4096:8192], "what was zeroed")
        [chunk] = peer.reply(peer.request(BLOCK_STATUS, 0, 4 * MIB))
        check(chunk.type == wire.CHUNK_BLOCK_STATUS, f"block status: {chunk}")
        check(struct.unpack(">I", chunk.payload[:4])[0] == context, "the context's id")
        check_same(content(lab.path("disk"))[MIB + 4096:MIB + len(data)], data[4096:], "the file")


@test
def the_largest_payload_that_is_advertised_goes_both_ways(lab):
    with checked(exporter(lab).port, "other") as peer:
        size = peer.export.payload_max
        check(64 << 10 <= size <= 32 * MIB, f"the advertised maximum is {size}")
        size = min(size, SIZE)
        data = lab.random.randbytes(size)
        peer.write(0, data)
        check_same(peer.read(0, size), data, f"{size} bytes")
        if size < SIZE:
            block = peer.export.block_min
            check(peer.error_of(READ, 0, size + block) == errno.EINVAL, "a longer read")
            check(peer.error_of(WRITE, 0, payload=bytes(size + block)) == errno.EINVAL,
                  "a longer write")
            check_same(peer.read(0, 4096), data[:4096], "nothing of it was written")


@test
def hello_without_checksums_leaves_the_framing_plain(lab):
    daemon = exporter(lab)
    for structured in (False, True):
        with Peer(daemon.port) as peer:
            answer = peer.hello("disk", flags=0)
            check(answer.flags == DIGESTS and answer.instance != 0, f"the answer {answer}")
            if structured:
                peer.structured_replies()
            peer.go("disk")
            check(peer.error_of(DST_PING) == 0, "ping")
            peer.write(0, lab.random.randbytes(4096))
            check(peer.error_of(FLUSH) == 0, "flush")


@test
def export_name_may_stand_for_go(lab):
    daemon = exporter(lab)
    with Peer(daemon.port) as peer:
        peer.hello("disk")
        peer.send_option(OPT_EXPORT_NAME, b"disk")
        size, _flags = peer.unpack(">QH")
        check(size == SIZE, f"size {size}")
        check(peer.error_of(DST_PING) == 0, "ping")
        data = lab.random.randbytes(4096)
        peer.write(0, data)
        check_same(peer.read(0, 4096), data, "data")
    with Peer(daemon.port) as peer:
        peer.hello("disk")
        peer.send_option(OPT_EXPORT_NAME, b"other")
        check(peer.is_closed(), "EXPORT_NAME of another export than in HELLO is served")


@test
def go_must_name_the_export_of_hello(lab):
    with Peer(exporter(lab).port) as peer:
        peer.hello("disk")
        check(peer.go("other", OPT_INFO).size == SIZE, "INFO may name any export")
        for name in ("other", "Disk", "disk ", ""):
            try:
                peer.go(name)
                check(False, f"GO to '{name}' after HELLO to 'disk'")
            except Refused as refused:
                check(refused.reply == wire.REP_ERR_INVALID, f"GO to '{name}': {refused}")
        peer.go("disk")
        check(peer.error_of(DST_PING) == 0, "ping")


@test
def who_only_asks_about_an_export_is_no_client_of_it_and_its_removal_does_not_concern_him(lab):
    daemon = exporter(lab)
    with Peer(daemon.port) as peer:
        check(peer.go("disk", OPT_INFO).size == SIZE, "INFO")
        peer.structured_replies()
        peer.select_allocation("disk")
        check(daemon.export("disk")["clients"] == 0, "who asks INFO counts as a client")
        daemon.do("export", "remove", "disk")
        peer.go("other")
        check(daemon.export("other")["clients"] == 1, "who uses an export does not count")
        peer.read(0, 4096)


@test
def options_up_to_the_limit_are_read_and_longer_ones_are_skipped(lab):
    with Peer(exporter(lab).port) as peer:
        for size in (1, 8 << 10, 16 << 10):
            try:
                peer.option(wire.OPT_LIST, bytes(size))
                check(False, f"LIST with {size} bytes of data is answered")
            except Refused as refused:
                check(refused.reply == wire.REP_ERR_INVALID, f"LIST with {size} bytes: {refused}")
        for size in ((16 << 10) + 1, 1 << 20):
            try:
                peer.option(wire.OPT_LIST, bytes(size))
                check(False, f"LIST with {size} bytes of data is answered")
            except Refused as refused:
                check(refused.reply == wire.REP_ERR_TOO_BIG, f"LIST with {size} bytes: {refused}")
        peer.go("disk")
        check(peer.error_of(FLUSH) == 0, "flush")


@test
def a_refused_hello_may_be_tried_again_and_an_answered_one_not(lab):
    daemon = exporter(lab)
    good = hello_data("disk")
    malformed = {
        "one byte less": good[:-1], "one byte more": good + b"\0", "39 bytes": good[:39],
        "nothing": b"", "version 0": hello_data("disk", version=0),
        "a name that is longer than the data": hello_data("disk", name_length=5),
        "a name that is shorter than the data": hello_data("disk", name_length=3),
        "a name of 2^32 - 1 bytes": hello_data("disk", name_length=(1 << 32) - 1),
        "a name with a NUL": hello_data(b"di\0k"), "a name of 4097 bytes": hello_data("x" * 4097)}
    with Peer(daemon.port) as peer:
        for what, data in malformed.items():
            try:
                peer.option(OPT_DST_HELLO, data)
                check(False, f"a HELLO with {what} is answered")
            except Refused as refused:
                check(refused.reply == wire.REP_ERR_INVALID, f"a HELLO with {what}: {refused}")
        check_refused(wire.REP_ERR_UNKNOWN, "an export that is not there", peer, "nowhere")
        check_refused(wire.REP_ERR_UNKNOWN, "a name of 4096 bytes", peer, "x" * 4096)
        peer.hello("disk")
        check_refused(wire.REP_ERR_INVALID, "a second HELLO", peer)
        peer.structured = peer.checksums = True
        peer.go("disk")
        check(peer.error_of(DST_PING) == 0, "ping")


@test
def a_hello_of_a_later_version_is_answered_with_version_1(lab):
    daemon = exporter(lab)
    for version, behind in ((2, b""), (2, b"whatever comes"), (0xffff, bytes(1000))):
        with Peer(daemon.port) as peer:
            peer.send_option(OPT_DST_HELLO, hello_data("disk", version=version) + behind)
            answer = peer.hello_answer()  # which checks that it is 24 bytes
            check(answer.version == 1 and answer.flags == CHECKSUMS | DIGESTS,
                  f"the answer {answer}")
            peer.go("disk")
            peer.read(0, 4096)


@test
def unknown_flags_of_hello_are_ignored_and_not_granted(lab):
    with Peer(exporter(lab).port) as peer:
        answer = peer.hello("disk", flags=0xfffc | CHECKSUMS)
        check(answer.flags == CHECKSUMS | DIGESTS, f"granted {answer.flags:#x}")
        peer.go("disk")
        peer.read(0, 4096)


@test
def hello_obeys_the_access_rules(lab):
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": "memory:8M", "access": [
        {"from": "127.0.0.2/32", "mode": "none"}, {"from": "127.0.0.3/32", "mode": "ro"},
        {"from": "127.0.0.0/8", "mode": "rw"}]}])
    with Peer(daemon.port, "127.0.0.2") as peer:
        check_refused(wire.REP_ERR_POLICY, "HELLO from an address without access", peer)
        try:
            peer.go("disk")
            check(False, "GO from there is answered")
        except Refused as refused:
            check(refused.reply == wire.REP_ERR_POLICY, f"GO from there: {refused}")
    with checked(daemon.port, "disk", source="127.0.0.3") as peer:
        check(peer.export.flags & 2, "the read-only flag")
        check(peer.error_of(WRITE, 0, payload=bytes(512)) == errno.EPERM, "a write")
        check(peer.error_of(WRITE_ZEROES, 0, 512) == errno.EPERM, "zeroes")
        peer.read(0, 4096)


@test
def errors_come_in_frames_and_refused_payloads_are_skipped(lab):
    with checked(exporter(lab).port, "disk") as peer:
        for what, arguments, code in (
                ("a write beyond the end", dict(command=WRITE, offset=SIZE, payload=bytes(65536)),
                 errno.ENOSPC),
                ("an unaligned write", dict(command=WRITE, offset=1, payload=bytes(1000)),
                 errno.EINVAL),
                ("a read beyond the end", dict(command=READ, offset=SIZE, length=4096),
                 errno.EINVAL),
                ("an unknown command", dict(command=99, length=0), errno.EINVAL),
                ("an unknown flag", dict(command=READ, length=4096, flags=1 << 10), errno.EINVAL),
                ("an empty read", dict(command=READ, length=0), errno.EINVAL),
                ("block status without a context", dict(command=BLOCK_STATUS, length=4096),
                 errno.EINVAL),
                ("a flush of something", dict(command=FLUSH, length=512), errno.EINVAL)):
            check(peer.error_of(**arguments) == code, f"{what}, expected {code}")
        data = lab.random.randbytes(4096)
        peer.write(0, data)
        check_same(peer.read(0, 4096), data, "the connection goes on")


# Ping --------------------------------------------------------------------------------------------

@test
def ping_needs_hello_and_takes_no_range(lab):
    daemon = exporter(lab)
    with Peer(daemon.port) as peer:
        peer.structured_replies()
        peer.go("disk")
        check(peer.error_of(DST_PING) == errno.EINVAL, "a ping without HELLO")
        peer.read(0, 4096)
    with checked(daemon.port, "disk") as peer:
        check(peer.error_of(DST_PING, 512, 0) == errno.EINVAL, "a ping with an offset")
        check(peer.error_of(DST_PING, 0, 512) == errno.EINVAL, "a ping with a length")
        [chunk] = peer.reply(peer.request(DST_PING))
        check(chunk.type == CHUNK_NONE and chunk.flags == DONE and not chunk.payload, f"{chunk}")


@test
def ping_is_answered_at_once_while_the_disk_is_slow(lab):
    with checked(slow_exporter(lab).port, "disk") as peer:
        begin = time.monotonic()
        slow = peer.request(WRITE, 0, payload=bytes(4096))
        for _ in range(5):
            check(peer.error_of(DST_PING) == 0, "ping")
        took = time.monotonic() - begin
        check(took < 1, f"five pings beside a slow write took {took:.1f} s")
        check(peer.error(slow) == 0 and time.monotonic() - begin > 1.5, "the slow write")


@test
def each_ping_is_answered_however_many_come_at_once(lab):
    with checked(exporter(lab).port, "disk") as peer:
        frames = [peer.frame(DST_PING) for _ in range(50)]
        peer.send(b"".join(frame.bytes() for _, frame in frames))
        with contextlib.suppress(TimeoutError):
            for cookie, _ in frames:
                peer.socket.settimeout(3)
                peer.reply(cookie)
                frames = frames[1:]
        check(not frames, f"{len(frames)} of 50 pings that came at once have no answer")


@test
def as_many_requests_as_the_server_says_and_more_are_all_answered(lab):
    with checked(exporter(lab).port, "disk") as peer:
        count = peer.answer.requests_max
        check(count <= 65536, f"requests_max {count}")
        for total in (count, 3 * count):
            data = {}
            for number in range(total):
                at = number * 4096 % SIZE
                data[peer.request(WRITE, at, payload=struct.pack(">Q", number) * 512)] = number
            check(all(peer.error(cookie) == 0 for cookie in data), "writes")
            reads = {peer.request(READ, number * 4096, 4096): number for number in range(total)}
            for cookie, number in reads.items():
                check_same(peer.data(cookie, number * 4096, 4096),
                           struct.pack(">Q", number) * 512, f"read {number} of {total}")


# Digests -----------------------------------------------------------------------------------------

@test
def a_digest_is_that_of_what_is_read(lab):
    check(xxh3_128(bytes(512)).hex() == "3258ca92e0a00944b2987a9d949e807c",
          "the example of the document")
    daemon = exporter(lab)
    for export in ("disk", "other"):
        with checked(daemon.port, export) as peer:
            peer.write(MIB, lab.random.randbytes(300 << 10))
            for offset, length in ((MIB, 512), (MIB, 4096), (MIB // 2, MIB), (0, MIB),
                                   (MIB + 512, 1023 * 512), (SIZE - 512, 512)):
                check(peer.digest(offset, length) == xxh3_128(peer.read(offset, length)),
                      f"{export}: the digest of {length} bytes at {offset}")


@test
def digests_obey_the_rules_of_ranges_and_need_hello_and_chunks(lab):
    daemon = exporter(lab)
    with checked(daemon.port, "disk") as peer:
        for what, offset, length in (("more than 1 MiB", 0, MIB + 512), ("nothing", 0, 0),
                                     ("half a sector", 0, 256), ("an odd offset", 1, 512),
                                     ("beyond the end", SIZE, 512)):
            check(peer.error_of(DST_DIGEST, offset, length) == errno.EINVAL, what)
        peer.digest(0, 4096)
    with Peer(daemon.port) as peer:
        peer.structured_replies()
        peer.go("disk")
        check(peer.error_of(DST_DIGEST, 0, 512) == errno.EINVAL, "without HELLO")
    with Peer(daemon.port) as peer:
        peer.hello("disk", flags=0)
        peer.go("disk")
        check(peer.error_of(DST_DIGEST, 0, 512) == errno.EINVAL, "without structured replies")
    with Peer(daemon.port) as peer:
        peer.hello("disk", flags=0)
        peer.structured_replies()
        peer.go("disk")
        check(peer.digest(0, 512) == xxh3_128(bytes(512)), "in plain frames")


# Instance and identity ---------------------------------------------------------------------------

@test
def the_instance_changes_when_the_device_is_opened_anew_and_the_identity_does_not(lab):
    daemon = exporter(lab)

    def answer(export):
        with checked(daemon.port, export) as peer:
            return peer.answer
    first = {name: answer(name) for name in ("disk", "other")}
    for name, seen in first.items():
        again = answer(name)
        check((again.instance, again.identity) == (seen.instance, seen.identity),
              f"{name}: another connection is told {again}, not {seen}")
    check(first["disk"].instance != first["other"].instance, "two disks are one instance")
    check(first["disk"].identity != first["other"].identity, "two disks are one medium")
    check(first["disk"].identity != 0, "a file's identity is unknown")
    for end in (daemon.stop, daemon.kill):
        end()
        daemon.start()
        for name, seen in first.items():
            check(answer(name).instance != seen.instance, f"{name}: the instance after a restart")
        check(answer("disk").identity == first["disk"].identity, "the file is another medium now")
        # What memory held is gone: who knew it must not take this for the same disk.
        check(answer("other").identity != first["other"].identity or
              answer("other").identity == 0, "new memory passes for the old")
    daemon.stop()
    os.rename(lab.path("disk"), lab.path("disk.old"))
    lab.file("disk", SIZE)
    daemon.start()
    check(answer("disk").identity != first["disk"].identity, "an exchanged file is not noticed")


# Corrupted frames --------------------------------------------------------------------------------

FIELDS = {"magic": (0, 4), "flags": (4, 2), "type": (6, 2), "cookie": (8, 8), "offset": (16, 8),
          "length": (24, 4), "checksum of the payload": (28, 4), "checksum of all before": (32, 4)}


def is_closed_and_nothing_changed(lab, daemon, before, what, send):
    """`send(peer)` sends something corrupted."""
    with checked(daemon.port, "disk") as peer:
        send(peer)
        check(peer.is_closed(5), f"{what}: the connection stays open")
    check(content(lab.path("disk")) == before, f"{what}: something was written")


@test
def a_frame_with_any_field_corrupted_closes_the_connection_and_writes_nothing(lab):
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", MIB)}])
    before = lab.random.randbytes(MIB)
    other = checked(daemon.port, "disk")
    other.write(0, before)
    payload = lab.random.randbytes(8192)

    def spoiled(at, bit):
        def send(peer):
            data = bytearray(peer.frame(WRITE, 64 << 10, payload=payload)[1].bytes())
            data[at] ^= 1 << bit
            peer.send(data)
        return send
    for field, (first, size) in FIELDS.items():
        for at in range(first, first + size):
            is_closed_and_nothing_changed(lab, daemon, before, f"{field}, byte {at - first}",
                                          spoiled(at, lab.random.randrange(8)))
    for at in (36, 36 + 4096, 36 + 8191):
        is_closed_and_nothing_changed(lab, daemon, before, f"payload, byte {at - 36}",
                                      spoiled(at, lab.random.randrange(8)))
    # One that other connections are not concerned with.
    check_same(other.read(0, MIB), before, "another connection goes on")


@test
def a_corrupted_length_closes_the_connection_before_its_payload_is_waited_for(lab):
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", MIB)}])
    with checked(daemon.port, "disk") as peer:
        _, frame = peer.frame(WRITE, 0, payload=bytes(4096))
        data = bytearray(frame.bytes()[:36])
        data[25] ^= 0x10  # 1 MiB more
        begin = time.monotonic()
        peer.send(data)
        check(peer.is_closed(5), "the connection stays open")
        check(time.monotonic() - begin < 2, "it waited for more")


@test
def a_payload_that_does_not_match_its_own_checksum_is_not_written(lab):
    """Header and its checksum are right."""
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", 2 * MIB)}])
    before = bytes(2 * MIB)
    for size in (512, 8192, MIB):
        def send(peer, size=size):
            _, frame = peer.frame(WRITE, 0, payload=b"\xff" * size)
            frame.payload_crc = struct.pack(">I", crc32c(frame.payload) ^ 1)
            peer.send(frame.bytes())
        is_closed_and_nothing_changed(lab, daemon, before, f"a payload of {size} bytes", send)


@test
def a_request_without_payload_whose_payload_checksum_is_not_0_is_not_executed(lab):
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", MIB)}])
    before = lab.random.randbytes(MIB)
    with checked(daemon.port, "disk") as peer:
        peer.write(0, before)
    for command in (WRITE_ZEROES, TRIM, READ, DST_PING):
        def send(peer, command=command):
            _, frame = peer.frame(command, 0, 0 if command == DST_PING else 64 << 10)
            frame.payload_crc = struct.pack(">I", 0x12345678)
            peer.send(frame.bytes())
        is_closed_and_nothing_changed(lab, daemon, before, f"command {command:#x}", send)


@test
def what_came_before_a_corrupted_frame_counts_and_what_came_behind_does_not(lab):
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", MIB)}])
    for _ in range(20):
        with checked(daemon.port, "disk") as peer:
            peer.write(0, bytes(12288))
            frames = [peer.frame(WRITE, at, payload=b"\xff" * 4096)[1] for at in (0, 4096, 8192)]
            frames[1].payload[100] ^= 1
            peer.send(b"".join(frame.bytes() for frame in frames))
            with contextlib.suppress(ConnectionError):
                while True:
                    chunk = peer.receive_chunk()
                    check(chunk.cookie == peer.cookie - 2, f"an answer to {chunk}")
            check(content(lab.path("disk"))[4096:12288] == bytes(8192),
                  "the corrupted frame or the one behind it was executed")


main()
