#!/usr/bin/python3
"""NBD clients that others wrote, against exports of each kind: a file (direct and through the page
cache), memory, and a linear storage with a local, a remote and a memory node.

nbdinfo, nbdcopy, libnbd in Python (nbdsh), qemu-img, qemu-io, fio, nbd-client.
"""

import errno
import json
import os

import nbd
from peer_lab import (MIB, SUCCESS, Client, allocated_bytes, check, check_fails, check_same,
                      connection_from, content, error_of, exercise, image, name_of, read_all, run,
                      tool)
from lab import main, test, wait_until

SIZE = 40 * MIB
KINDS = ("direct", "buffered", "memory", "linear")
# Where the nodes of the linear storage meet.
EDGES = (13 * MIB, 28 * MIB)
HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO


def exporter(lab, **config):
    """A daemon with an export of each kind, all empty, and of the same disk read-only."""
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


# What an export says of itself -------------------------------------------------------------------

@test
def nbdinfo_shows_size_flags_block_sizes_and_description(lab):
    daemon = exporter(lab)
    for kind in KINDS:
        shown = json.loads(tool("nbdinfo", "--json", daemon.uri(kind)))
        check(shown["protocol"] == "newstyle-fixed" and shown["structured"] and not shown["TLS"],
              f"{kind}: {shown}")
        [export] = shown["exports"]
        check(export["export-size"] == SIZE, f"{kind}: size {export['export-size']}")
        check(export["contexts"] == ["base:allocation"], f"{kind}: {export['contexts']}")
        flags = {key for key, value in export.items() if key[:3] in ("can", "is_") and value}
        wanted = {"can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn",
                  "can_trim", "can_zero"}
        check(flags - {"is_rotational"} == wanted, f"{kind}: flags {sorted(flags)}")
        sizes = [export["block_size_" + which] for which in ("minimum", "preferred", "maximum")]
        check(sizes[0] in (512, 4096) and sizes[0] <= sizes[1] <= sizes[2] == 32 * MIB,
              f"{kind}: block sizes {sizes}")
        check(export.get("description") == ("the first disk" if kind == "direct" else None),
              f"{kind}: description {export.get('description')!r}")
        check(tool("nbdinfo", "--size", daemon.uri(kind)).strip() == str(SIZE), "nbdinfo --size")
    for flag, code in (("--can", "write"), ("--can", "trim"), ("--is", "structured-reply")):
        check(run(["nbdinfo", flag, code, daemon.uri("direct")]).code == 0, f"nbdinfo {flag} {code}")
    check(run(["nbdinfo", "--is", "read-only", daemon.uri("linear-ro")]).code == 0,
          "the read-only export does not say so")
    check(run(["nbdinfo", "--is", "read-only", daemon.uri("linear")]).code == 2,
          "the writable export says that it is read-only")


@test
def exports_are_listed_with_their_descriptions(lab):
    daemon = exporter(lab)
    names = sorted([*KINDS, "linear-ro"])
    listed = json.loads(tool("nbdinfo", "--list", "--json", daemon.uri("")))["exports"]
    check(sorted(export["export-name"] for export in listed) == names, f"nbdinfo: {listed}")
    check([export["description"] for export in listed if "description" in export]
          == ["the first disk"], f"nbdinfo: {listed}")
    lines = tool("nbd-client", "-l", "127.0.0.1", daemon.port).splitlines()[1:]
    check(sorted(line.split(":")[0] for line in lines) == names, f"nbd-client: {lines}")
    check("direct: the first disk" in lines, f"nbd-client: {lines}")
    asked = run(["nbdinfo", daemon.uri("nowhere")])
    check(asked.code == 1, f"an export that is not there: {asked}")
    # qemu shows what the server says.
    asked = run(["qemu-img", "info", "-f", "raw", daemon.uri("nowhere")])
    check(asked.code == 1 and "there is no export 'nowhere'" in asked.stderr, f"qemu-img: {asked}")


@test
def nbdinfo_maps_holes_and_data(lab):
    daemon = exporter(lab)
    for kind in KINDS:
        with Client(daemon.uri(kind)) as client:
            check(client.all_extents() == [(0, SIZE, HOLE)], f"{kind}: an empty disk is one hole")
            # At the front, over both edges, and at the end.
            data = [(0, MIB), (EDGES[0] - MIB, 2 * MIB), (EDGES[1] - MIB, 2 * MIB),
                    (SIZE - MIB, MIB)]
            for offset, length in data:
                client.write(offset, lab.random.randbytes(length))
            client.flush()
        wanted, at = [], 0
        for offset, length in data:
            if offset > at:
                wanted.append((at, offset - at, HOLE))
            wanted.append((offset, length, 0))
            at = offset + length
        lines = tool("nbdinfo", "--map", "--json", daemon.uri(kind))
        seen = []
        for extent in json.loads(lines):
            if seen and seen[-1][2] == extent["type"]:
                seen[-1] = (seen[-1][0], seen[-1][1] + extent["length"], extent["type"])
            else:
                seen.append((extent["offset"], extent["length"], extent["type"]))
        check(seen == wanted, f"{kind}: {seen}, expected {wanted}")


# Copies ------------------------------------------------------------------------------------------

@test
def nbdcopy_copies_a_random_image_both_ways(lab):
    daemon = exporter(lab)
    source, back = image(lab, "source", SIZE), lab.path("back")
    for kind in KINDS:
        tool("nbdcopy", "--connections=4", "--requests=16", source, daemon.uri(kind))
        tool("nbdcopy", "--connections=4", "--request-size=262144", daemon.uri(kind), back)
        check_same(back, source, kind)
        os.unlink(back)
    # From one export to another, without contexts, one request at a time.
    with Client(daemon.uri("memory")) as client:
        client.zero(0, SIZE)
    tool("nbdcopy", "--no-extents", "--synchronous", "--flush", daemon.uri("direct"),
         daemon.uri("memory"))
    tool("nbdcopy", daemon.uri("memory"), back)
    check_same(back, source, "from one export to another")


@test
def nbdcopy_keeps_holes(lab):
    daemon = exporter(lab)
    source, back = image(lab, "source", SIZE, share=0.1, piece=MIB), lab.path("back")
    stored = allocated_bytes(source)
    check(0 < stored < SIZE / 2, f"the image itself is not sparse: {stored} bytes")
    for kind in KINDS:
        tool("nbdcopy", "--destination-is-zero", source, daemon.uri(kind))
        tool("nbdcopy", daemon.uri(kind), back)
        check_same(back, source, kind)
        check(allocated_bytes(back) <= stored + MIB,
              f"{kind}: {stored} bytes are stored of the image, {allocated_bytes(back)} of its copy")
        os.unlink(back)
    for kind in ("direct", "buffered"):
        check(allocated_bytes(lab.path(kind)) <= stored + MIB, f"{kind}: holes became data")
    # And holes that are made where data was: nbdcopy zeroes them.
    for kind in KINDS:
        with Client(daemon.uri(kind)) as client:
            for at in range(0, SIZE, 8 * MIB):
                client.write(at, lab.random.randbytes(8 * MIB))
        tool("nbdcopy", "--allocated", source, daemon.uri(kind))
        tool("nbdcopy", daemon.uri(kind), back)
        check_same(back, source, f"{kind}, over data with --allocated")
        tool("nbdcopy", source, daemon.uri(kind))
        tool("nbdcopy", daemon.uri(kind), back)
        check_same(back, source, f"{kind}, over data")
        os.unlink(back)
    for kind in ("direct", "buffered"):
        check(allocated_bytes(lab.path(kind)) <= stored + MIB, f"{kind}: data did not become holes")


# Commands, one by one ----------------------------------------------------------------------------

@test
def random_changes_read_back_as_the_model_says(lab):
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
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
    daemon = exporter(lab)
    with Client(daemon.uri("memory")) as other:
        with Client(daemon.uri("memory")) as client:
            code = error_of(client.write, 0, b"\1" * (32 * MIB + 4096))
            check(code != SUCCESS, "it succeeded")
            code = error_of(client.read, 0, 4096)
            check(code != SUCCESS, "the connection goes on, though nobody knows where the next frame is")
        check_same(other.read(0, MIB), bytes(MIB), "nothing of it was written")


# Large requests ----------------------------------------------------------------------------------

@test
def requests_up_to_32_mib_work_both_ways(lab):
    daemon = exporter(lab)
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
    daemon = exporter(lab, memory="64M")
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


# qemu, fio ---------------------------------------------------------------------------------------

@test
def qemu_img_converts_compares_and_checks_raw_and_qcow2(lab):
    daemon = exporter(lab)
    raw = image(lab, "raw", SIZE, share=0.5)
    small = image(lab, "small", 24 * MIB, share=0.5)
    back = lab.path("back")
    for kind in KINDS:
        uri = daemon.uri(kind)
        tool("qemu-img", "convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", raw, uri)
        tool("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
        tool("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, back)
        check_same(back, raw, f"{kind}: raw")
        shown = json.loads(tool("qemu-img", "info", "--output=json", "-f", "raw", uri))
        check(shown["virtual-size"] == SIZE, f"{kind}: qemu-img info: {shown}")
        json.loads(tool("qemu-img", "map", "--output=json", "-f", "raw", uri))
        with Client(uri) as client:
            client.write(0, client.read(0, 512)[::-1])
        differs = run(["qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri])
        check(differs.code == 1, f"{kind}: qemu-img compare sees no difference: {differs}")

        tool("qemu-img", "create", "-f", "qcow2", uri, "24M")
        tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", small, uri)
        tool("qemu-img", "check", "-f", "qcow2", uri)
        tool("qemu-img", "compare", "-f", "raw", "-F", "qcow2", small, uri)
        tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", uri, back)
        check_same(back, small, f"{kind}: qcow2")


@test
def qemu_io_writes_zeroes_discards_and_runs_many_at_once(lab):
    daemon = exporter(lab)
    for kind in KINDS:
        def qemu_io(*commands, options=()):
            done = run(["qemu-io", "-f", "raw", *options, "-t", "none",
                        *(word for command in commands for word in ("-c", command)),
                        daemon.uri(kind)])
            text = done.stdout + done.stderr
            check(done.code == 0 and "failed" not in text and "error" not in text.lower(),
                  f"{kind}: qemu-io: {text}")
        edge = EDGES[0]
        qemu_io(f"write -P 0x11 {edge - 2 * MIB} 4M",
                f"write -f -P 0x5a {edge - 65536} 128k", f"read -P 0x5a {edge - 65536} 128k",
                f"write -z {edge - MIB} 512k", f"read -P 0 {edge - MIB} 512k",
                f"write -z -u {edge + MIB} 512k", f"read -P 0 {edge + MIB} 512k",
                f"write -z -f {edge + 3 * MIB // 2} 4k", f"read -P 0 {edge + 3 * MIB // 2} 4k",
                f"discard {edge + 512 * 1024} 256k",
                f"read -P 0x11 {edge - 2 * MIB} 1M", f"read -P 0x5a {edge - 65536} 128k",
                f"read -P 0x11 {edge + 768 * 1024} 256k", "flush")
        many = [f"aio_write -P {1 + i} {edge - 2 * MIB + i * 65536} 64k" for i in range(64)]
        qemu_io(*many, "aio_flush",
                *(f"aio_read -P {1 + i} {edge - 2 * MIB + i * 65536} 64k" for i in range(64)),
                "aio_flush")
        # A writethrough cache sends FUA or flushes.
        done = run(["qemu-io", "-f", "raw", "-t", "writethrough", "-c", "write -P 7 0 64k", "-c",
                    "read -P 7 0 64k", daemon.uri(kind)])
        check(done.code == 0 and "failed" not in done.stdout, f"{kind}: writethrough: {done}")


@test
def fio_writes_and_verifies(lab):
    daemon = exporter(lab)
    for kind in KINDS:
        loads = [lab.fio(f"{kind}-small", daemon.uri(kind), size="12M", offset="4M"),
                 lab.fio(f"{kind}-mixed", daemon.uri(kind), size="16M", offset="20M",
                         bsrange="4k-1M", bs_unaligned=0, iodepth=8, rw="randrw", fsync=32)]
        for load in loads:
            load.wait(60)


# Who may do what ---------------------------------------------------------------------------------

ACCESS = [{"from": "127.0.0.2/32", "mode": "none"}, {"from": "127.0.0.3/32", "mode": "ro"},
          {"from": "127.0.0.0/8", "mode": "rw"}]


@test
def access_is_by_the_clients_address(lab):
    daemon = lab.daemon("exporter", export=[
        {"name": "open", "device": "memory:8M"},
        {"name": "ruled", "device": "memory:8M", "access": ACCESS}])

    def listed(source):
        with Client(source=source, port=daemon.port, options_only=True) as client:
            names = []
            client.handle.opt_list(lambda name, _text: names.append(name) or 0)
            return sorted(names)
    check(listed("127.0.0.1") == ["open", "ruled"], "who may use it sees it")
    check(listed("127.0.0.3") == ["open", "ruled"], "who may read it sees it")
    check(listed("127.0.0.2") == ["open"], "who may not use it sees it in the list")

    data = lab.random.randbytes(MIB)
    with Client(source="127.0.0.1", port=daemon.port, name="ruled") as client:
        check(not client.handle.is_read_only(), "rw")
        client.write(0, data)
    with Client(source="127.0.0.3", port=daemon.port, name="ruled") as client:
        check(client.handle.is_read_only(), "ro, and not flagged so")
        check_same(client.read(0, MIB), data, "ro")
        check_fails(errno.EPERM, "ro: a write", client.write, 0, bytes(512))
        check_fails(errno.EPERM, "ro: zeroing", client.zero, 0, 512)
        check_fails(errno.EPERM, "ro: a trim", client.trim, 0, 512)
    with Client(source="127.0.0.2", port=daemon.port, name="ruled", options_only=True) as client:
        handle = client.handle
        check(error_of(handle.opt_info) != SUCCESS, "none: INFO is answered")
        check(error_of(handle.opt_go) != SUCCESS, "none: GO is answered")
        found = []
        error_of(handle.opt_list_meta_context, lambda name: found.append(name) or 0)
        check(not found, f"none: LIST_META_CONTEXT tells {found}")
        handle.set_export_name("open")
        handle.opt_go()
        client.write(0, data)
    code = error_of(Client, source="127.0.0.2", port=daemon.port, name="ruled", handshake_flags=0)
    check(code != SUCCESS, "none: EXPORT_NAME is served")
    with Client(source="127.0.0.1", port=daemon.port, name="ruled") as client:
        check_same(client.read(0, MIB), data, "and nothing has changed")


@test
def only_loopback_may_connect_unless_access_says_so(lab):
    """In a network of its own, where the machine has an address that is not loopback."""
    address, port = "192.0.2.1", lab.port()
    alone = ["unshare", "--net", "sh", "-c",
             f'ip link set lo up; ip addr add {address}/32 dev lo; exec "$@"', "sh"]
    daemon = lab.daemon("exporter", argv_prefix=alone, listen=[f"0.0.0.0:{port}"], export=[
        {"name": "default", "device": "memory:8M"},
        {"name": "wide", "device": "memory:8M",
         "access": [{"from": "192.0.2.0/24", "mode": "rw"}]}])
    there = ["nsenter", f"--net=/proc/{daemon.pid}/ns/net", "nbdinfo"]
    shown = json.loads(tool(*there, "--list", "--json", f"nbd://{address}:{port}"))
    check([export["export-name"] for export in shown["exports"]] == ["wide"], f"listed: {shown}")
    tool(*there, "--can", "write", f"nbd://{address}:{port}/wide")
    refused = run([*there, f"nbd://{address}:{port}/default"])
    check(refused.code != 0, "an export with default access lets another machine in")
    tool(*there, "--can", "write", f"nbd://127.0.0.1:{port}/default")
    refused = run([*there, f"nbd://127.0.0.1:{port}/wide"])
    check(refused.code != 0, "loopback gets what its rules do not give it")


# Many --------------------------------------------------------------------------------------------

@test
def many_clients_of_one_export_see_one_disk(lab):
    daemon = exporter(lab)
    for kind in KINDS:
        clients = [Client(daemon.uri(kind)) for _ in range(16)]
        check(daemon.export(kind)["clients"] == 16, f"{kind}: {daemon.export(kind)}")
        data = [lab.random.randbytes(MIB) for _ in clients]
        cookies = [client.start_write(i * MIB, data[i]) for i, client in enumerate(clients)]
        for client, cookie in zip(clients, cookies):
            client.wait(cookie, "a write")
        # Multi-conn: a flush on one covers all, and each sees what the others wrote.
        clients[0].flush()
        for i, client in enumerate(clients):
            check_same(client.read(0, 16 * MIB), b"".join(data), f"{kind}, client {i}")
        for client in clients:
            client.close()
        wait_until(f"{kind} counts no clients that are gone",
                   lambda name=kind: daemon.export(name)["clients"] == 0)


@test
def a_client_that_only_connects_harms_nobody(lab):
    daemon = exporter(lab)
    silent = [connection_from("127.0.0.1", daemon.port) for _ in range(20)]
    with Client(daemon.uri("direct")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        check_same(client.read(0, MIB), data, "beside silent connections")
    for connection in silent:
        connection.close()
    check_same(content(lab.path("direct"))[:MIB], data, "the file itself")


main()
