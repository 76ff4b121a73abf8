#!/usr/bin/python3
"""Each request that NBD knows, from libnbd (nbdsh), against exports of each kind: with every flag,
of any size, from old clients, and what is wrong and must be refused.
"""

import errno

import nbd
from peer_lab import (EDGES, KINDS, MIB, SIZE, SUCCESS, Client, allocated_bytes, check,
                      check_fails, check_same, error_of, exercise, exporter_of_each_kind, name_of,
                      read_all)
from lab import main, test

HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO


# Commands, one by one ----------------------------------------------------------------------------

@test
def random_changes_read_back_as_the_model_says(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        model = bytearray(SIZE)
        with Client(daemon.uri(kind)) as client:
            exercise(client, lab, model, 400)
        for structured in (True, False):
            with Client(daemon.uri(kind), structured=structured) as client:
                check(client.handle.get_structured_replies_negotiated() == structured,
                      "structured replies are as the client asked")
                check_same(read_all(client), model, f"{kind}, structured replies: {structured}")


@test
def structured_replies_tell_holes_and_df_forbids_pieces(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        with Client(daemon.uri(kind)) as client:
            data = lab.random.randbytes(128 << 10)
            for edge in EDGES:
                at = edge - (64 << 10)
                client.write(at, data)
                got, chunks = client.read_chunks(at - 2 * MIB, 4 * MIB)
                check_same(got, bytes(2 * MIB) + data + bytes(2 * MIB - len(data)), kind)
                check(any(status == nbd.READ_HOLE for _, _, status in chunks),
                      f"{kind}: a read of a hole is told as data: {chunks}")
                check(sum(length for _, length, _ in chunks) == 4 * MIB,
                      f"{kind}: the chunks are not the whole: {chunks}")
                # Up to 64 KiB a server must answer in one chunk.
                got, chunks = client.read_chunks(edge - (32 << 10), 64 << 10, nbd.CMD_FLAG_DF)
                check_same(got, data[32 << 10:96 << 10], f"{kind}, DF")
                check(len(chunks) == 1, f"{kind}: DF, and {len(chunks)} chunks")
                got, chunks = client.read_chunks(at - (32 << 10), 64 << 10, nbd.CMD_FLAG_DF)
                check_same(got, bytes(32 << 10) + data[:32 << 10], f"{kind}, DF, half a hole")
                check(len(chunks) == 1, f"{kind}: DF, and {len(chunks)} chunks")
            code = error_of(client.read_chunks, 0, 32 * MIB, nbd.CMD_FLAG_DF)
            check(code in (SUCCESS, errno.EOVERFLOW), f"{kind}: a long DF read: {name_of(code)}")
            client.read(0, 4096)


@test
def every_change_with_every_flag_does_what_it_says(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        around = lab.random.randbytes(2 * MIB)
        with Client(daemon.uri(kind)) as client:
            for edge in EDGES:
                start = edge - MIB
                def check_middle(middle, what):
                    got = client.read(start, 2 * MIB)
                    wanted = around[:MIB // 2] + middle + around[3 * MIB // 2:]
                    check_same(got, wanted, f"{kind}: {what} at {edge}")

                client.write(start, around, nbd.CMD_FLAG_FUA)
                data = lab.random.randbytes(MIB)
                client.write(edge - MIB // 2, data, nbd.CMD_FLAG_FUA)
                check_middle(data, "a write with FUA")
                for flags, what in ((0, "zeroes"), (nbd.CMD_FLAG_NO_HOLE, "zeroes, NO_HOLE"),
                                    (nbd.CMD_FLAG_FUA, "zeroes, FUA"),
                                    (nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA, "zeroes, both")):
                    client.write(edge - MIB // 2, data)
                    client.zero(edge - MIB // 2, MIB, flags)
                    check_middle(bytes(MIB), what)
                client.write(edge - MIB // 2, data)
                code = error_of(client.zero, edge - MIB // 2, MIB, nbd.CMD_FLAG_FAST_ZERO)
                check(code in (SUCCESS, errno.ENOTSUP), f"{kind}: FAST_ZERO: {name_of(code)}")
                if code == SUCCESS:
                    check_middle(bytes(MIB), "fast zeroes")
                client.write(edge - MIB // 2, data)
                client.trim(edge - MIB // 2, MIB)
                client.trim(edge - MIB // 2, MIB, nbd.CMD_FLAG_FUA)
                got = client.read(start, 2 * MIB)
                check_same(got[:MIB // 2], around[:MIB // 2], f"{kind}: in front of a trim")
                check_same(got[3 * MIB // 2:], around[3 * MIB // 2:], f"{kind}: behind a trim")
                client.cache(start, 2 * MIB)
                client.flush()
                # FUA is allowed on anything.
                client.read(start, MIB, nbd.CMD_FLAG_FUA)
                client.flush(nbd.CMD_FLAG_FUA)
                client.cache(start, MIB, nbd.CMD_FLAG_FUA)


@test
def zeroed_ranges_are_holes_unless_no_hole_forbids_it(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        with Client(daemon.uri(kind)) as client:
            at = EDGES[0] - MIB
            # Of a file: how much is allocated. Its block status tells zeroes alone, for what is
            # allocated and was never written looks like a hole to SEEK_DATA.
            path = lab.path("front" if kind == "linear" else kind)
            for function, flags, is_hole in ((client.zero, nbd.CMD_FLAG_NO_HOLE, False),
                                             (client.zero, 0, True), (client.trim, 0, True)):
                client.write(at, lab.random.randbytes(2 * MIB))
                client.flush()
                before = allocated_bytes(path) if kind != "memory" else 0
                function(at, 2 * MIB, flags)
                client.flush()
                holes = {extent[1] & nbd.STATE_HOLE for extent in client.extents(at, 2 * MIB)}
                what = f"{kind}: {function.__name__} with flags {flags}: extents {holes}"
                if is_hole:
                    check(holes == {nbd.STATE_HOLE}, what)
                elif kind == "memory":
                    check(holes == {0}, what)
                if kind != "memory":
                    freed = before - allocated_bytes(path)
                    check(freed >= MIB if is_hole else freed <= 0, f"{what}, {freed} bytes freed")


@test
def block_status_with_req_one_tells_one_extent(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        with Client(daemon.uri(kind)) as client:
            client.write(MIB, lab.random.randbytes(MIB))
            client.flush()
            for at, length, wanted in ((0, 4 * MIB, (MIB, HOLE)), (MIB, 2 * MIB, (MIB, 0)),
                                       (MIB + 4096, 4096, (4096, 0)), (2 * MIB, MIB, (MIB, HOLE))):
                found = client.extents(at, length, nbd.CMD_FLAG_REQ_ONE)
                check(len(found) == 1 and found[0][1] == wanted[1] and found[0][0] <= length,
                      f"{kind}: REQ_ONE at {at}: {found}")
                check(found[0][0] >= wanted[0], f"{kind}: REQ_ONE at {at}: {found}")
            found = client.extents(0, 4 * MIB)
            check(sum(length for length, _ in found) <= 4 * MIB or len(found) == 1,
                  f"{kind}: extents beyond the request: {found}")
        with Client(daemon.uri(kind), allocation=False) as client:
            check_fails(errno.EINVAL, f"{kind}: block status without a context", client.extents, 0,
                        MIB)
            client.read(0, 4096)


@test
def contexts_are_listed_before_an_export_is_chosen(lab):
    daemon = exporter_of_each_kind(lab)
    for query, wanted in ((None, ["base:allocation"]), ("base:", ["base:allocation"]),
                          ("base:allocation", ["base:allocation"]), ("qemu:", []), ("x:y", [])):
        with Client(daemon.uri("linear"), allocation=False, options_only=True) as client:
            if query:
                client.handle.add_meta_context(query)
            found = []
            client.handle.opt_list_meta_context(lambda name: found.append(name) or 0)
            check(found == wanted, f"asked for {query}: {found}")
            client.handle.opt_go()
            client.read(0, 4096)


# Old clients -------------------------------------------------------------------------------------

@test
def clients_without_go_no_zeroes_or_fixed_newstyle_are_served(lab):
    daemon = exporter_of_each_kind(lab)
    data = lab.random.randbytes(256 << 10)
    for kind in KINDS:
        for flags in range(4):
            with Client(daemon.uri(kind), handshake_flags=flags) as client:
                fixed = bool(flags & nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE)
                check((client.handle.get_protocol() == "newstyle-fixed") == fixed, "handshake")
                check(client.size == SIZE, f"{kind}, handshake flags {flags}: size {client.size}")
                at = EDGES[0] - (64 << 10) * (flags + 1)
                client.write(at, data)
                client.flush()
                check_same(client.read(at, len(data)), data, f"{kind}, handshake flags {flags}")
    refused = error_of(Client, daemon.uri("nowhere"), handshake_flags=0)
    check(refused != SUCCESS, "EXPORT_NAME of an export that is not there is served")


@test
def options_may_come_in_any_order_and_number(lab):
    daemon = exporter_of_each_kind(lab)
    with Client(daemon.uri("nowhere"), options_only=True) as client:
        handle, names = client.handle, []
        check(error_of(handle.opt_info) == errno.ENOENT, "INFO of what is not there")
        check(error_of(handle.opt_go) == errno.ENOENT, "GO to what is not there")
        handle.opt_list(lambda name, text: names.append((name, text)) or 0)
        check(("direct", "the first disk") in names and len(names) == 5, f"listed: {names}")
        handle.set_export_name("linear-ro")
        handle.opt_info()
        check(handle.is_read_only() and handle.get_size() == SIZE, "INFO of the read-only export")
        handle.set_export_name("direct")
        handle.opt_info()
        check(not handle.is_read_only(), "INFO of the other one")
        check(handle.get_canonical_export_name() == "direct", "its name")
        check(handle.get_export_description() == "the first disk", "its description")
        handle.opt_go()
        client.write(0, bytes(4096))
    with Client(daemon.uri("direct"), options_only=True) as client:
        client.handle.opt_abort()


# What is refused ---------------------------------------------------------------------------------

@test
def a_read_only_export_refuses_changes_with_eperm(lab):
    daemon = exporter_of_each_kind(lab)
    with Client(daemon.uri("linear")) as client:
        data = lab.random.randbytes(MIB)
        client.write(EDGES[0] - MIB // 2, data)
    for structured in (True, False):
        with Client(daemon.uri("linear-ro"), structured=structured) as client:
            check(client.handle.is_read_only(), "the flag says so")
            for what, function, *args in (("a write", client.write, 0, bytes(4096)),
                                          ("a long write", client.write, 0, bytes(4 * MIB)),
                                          ("zeroing", client.zero, 0, MIB),
                                          ("a trim", client.trim, 0, MIB)):
                check_fails(errno.EPERM, f"{what} of a read-only export", function, *args)
            client.flush()
            check_same(client.read(EDGES[0] - MIB // 2, MIB), data, "reading goes on")
            if structured:
                client.extents(0, MIB)


@test
def what_is_out_of_bounds_unaligned_or_empty_is_refused_and_the_rest_goes_on(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        for structured in (True, False):
            with Client(daemon.uri(kind), structured=structured) as client:
                block = client.block_sizes()[0]
                data = lab.random.randbytes(4 * block)
                client.write(SIZE - 4 * block, data)
                wrong = [
                    (errno.EINVAL, "read", client.read, [SIZE, block]),
                    (errno.EINVAL, "read", client.read, [SIZE - block, 2 * block]),
                    (errno.EINVAL, "read", client.read, [1 << 62, block]),
                    (errno.EINVAL, "read", client.read, [(1 << 64) - block, block]),
                    (errno.ENOSPC, "write", client.write, [SIZE, bytes(block)]),
                    (errno.ENOSPC, "write", client.write, [SIZE - block, bytes(2 * block)]),
                    (errno.ENOSPC, "write", client.write, [(1 << 64) - block, bytes(2 * block)]),
                    (errno.ENOSPC, "write", client.write, [SIZE - block, bytes(32 * MIB)]),
                    (errno.ENOSPC, "zero", client.zero, [SIZE - block, 2 * block]),
                    (errno.ENOSPC, "zero", client.zero, [0, (1 << 32) - block]),
                    (errno.EINVAL, "trim", client.trim, [SIZE - block, 2 * block]),
                    (errno.EINVAL, "trim", client.trim, [0, (1 << 32) - block]),
                    (errno.EINVAL, "cache", client.cache, [SIZE, block]),
                    (errno.EINVAL, "read", client.read, [SIZE - 4 * block + 1, block]),
                    (errno.EINVAL, "read", client.read, [SIZE - 4 * block, block + 1]),
                    (errno.EINVAL, "read", client.read, [SIZE - 4 * block, block // 2]),
                    (errno.EINVAL, "write", client.write, [SIZE - 4 * block + 1, bytes(block)]),
                    (errno.EINVAL, "write", client.write, [SIZE - 4 * block, bytes(block + 1)]),
                    (errno.EINVAL, "zero", client.zero, [SIZE - 4 * block + 1, block]),
                    (errno.EINVAL, "trim", client.trim, [SIZE - 4 * block, block - 1]),
                    (errno.EINVAL, "trim", client.trim, [0, (1 << 32) - 1]),
                    (errno.EINVAL, "zero", client.zero, [0, (1 << 32) - 1]),
                    (errno.EINVAL, "read", client.read, [0, 0]),
                    (errno.EINVAL, "write", client.write, [0, b""]),
                    (errno.EINVAL, "zero", client.zero, [0, 0]),
                    (errno.EINVAL, "trim", client.trim, [0, 0]),
                    (errno.EINVAL, "read", client.read, [0, 32 * MIB + block]),
                    (errno.EINVAL, "an unknown flag", client.read, [0, block, 1 << 9]),
                    (errno.EINVAL, "NO_HOLE", client.write, [0, bytes(block), 2]),
                ]
                if structured:
                    wrong += [(errno.EINVAL, "block status", client.extents, [SIZE, block]),
                              (errno.EINVAL, "block status", client.extents, [0, 0])]
                else:
                    wrong += [(errno.EINVAL, "DF", client.read, [0, block, nbd.CMD_FLAG_DF])]
                for code, what, function, args in wrong:
                    size = len(args[1]) if isinstance(args[1], bytes) else args[1]
                    check_fails(code, f"{kind}, structured replies {structured}: {what} of {size} "
                                      f"bytes at {args[0]}", function, *args)
                check_same(client.read(SIZE - 4 * block, 4 * block), data, f"{kind}: untouched")


@test
def a_write_of_more_than_32_mib_ends_its_connection_and_no_other(lab):
    daemon = exporter_of_each_kind(lab)
    with Client(daemon.uri("memory")) as other:
        with Client(daemon.uri("memory")) as client:
            code = error_of(client.write, 0, b"\1" * (32 * MIB + 4096))
            check(code != SUCCESS, "it succeeded")
            code = error_of(client.read, 0, 4096)
            check(code != SUCCESS, "the connection goes on")
        check_same(other.read(0, MIB), bytes(MIB), "nothing of it was written")


# Large requests ----------------------------------------------------------------------------------

@test
def requests_up_to_32_mib_work_both_ways(lab):
    daemon = exporter_of_each_kind(lab)
    for kind in KINDS:
        for structured in (True, False):
            with Client(daemon.uri(kind), structured=structured) as client:
                for length in (MIB + 4096, 3 * MIB, 32 * MIB - 4096, 32 * MIB):
                    at = lab.random.randrange((SIZE - length) // 4096 + 1) * 4096
                    data = lab.random.randbytes(length)
                    what = f"{kind}, structured replies {structured}, {length} bytes at {at}"
                    client.write(at, data)
                    check_same(client.read(at, length), data, what)
                # Data, a hole of more than a buffer, data.
                client.zero(4 * MIB, 24 * MIB)
                wanted = client.read(0, 4 * MIB) + bytes(24 * MIB) + client.read(28 * MIB, 4 * MIB)
                check_same(client.read(0, 32 * MIB), wanted, f"{kind}: with a hole")


@test
def many_large_requests_at_once_are_all_answered(lab):
    """More than the daemon's memory in flight, on four connections, both ways."""
    daemon = exporter_of_each_kind(lab, memory="64M")
    for kind in ("direct", "linear"):
        data = lab.random.randbytes(SIZE)
        clients = [Client(daemon.uri(kind)) for _ in range(4)]
        for length in (8 * MIB, 5 * MIB):
            ranges = [(at, min(length, SIZE - at)) for at in range(0, SIZE, length)]
            writes = [(client, client.start_write(at, data[at:at + count]))
                      for client in clients for at, count in ranges]
            for client, cookie in writes:
                client.wait(cookie, f"{kind}: a write of {length} bytes", 30)
            reads = [(client, at, count, client.start_read(at, count))
                     for client in clients for at, count in ranges]
            for client, at, count, (cookie, buffer) in reads:
                client.wait(cookie, f"{kind}: a read of {length} bytes", 30)
                check_same(bytes(buffer.to_bytearray()), data[at:at + count], f"{kind} at {at}")
        for client in clients:
            client.close()


main()
