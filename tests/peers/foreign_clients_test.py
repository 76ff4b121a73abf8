#!/usr/bin/python3
"""NBD clients that others wrote, against exports of each kind: nbdinfo, nbdcopy, qemu-img, qemu-io,
fio, nbd-client; who of them may do what, and many at once.

Each request one by one, right and wrong: foreign_requests_test.py.
"""

import errno
import json
import os

import nbd
from peer_lab import (EDGES, KINDS, MIB, SIZE, SUCCESS, Client, allocated_bytes, check,
                      check_fails, check_same, connection_from, content, error_of,
                      exporter_of_each_kind, image, run, tool)
from lab import main, test, wait_until

HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO


# What an export says of itself -------------------------------------------------------------------

@test
def nbdinfo_shows_size_flags_block_sizes_and_description(lab):
    daemon = exporter_of_each_kind(lab)
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
    for question in (("--can", "write"), ("--can", "trim"), ("--is", "structured-reply")):
        tool("nbdinfo", *question, daemon.uri("direct"))
    check(run(["nbdinfo", "--is", "read-only", daemon.uri("linear-ro")]).code == 0,
          "the read-only export does not say so")
    check(run(["nbdinfo", "--is", "read-only", daemon.uri("linear")]).code == 2,
          "the writable export says that it is read-only")


@test
def exports_are_listed_with_their_descriptions(lab):
    daemon = exporter_of_each_kind(lab)
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
    daemon = exporter_of_each_kind(lab)
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
    daemon = exporter_of_each_kind(lab)
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
    daemon = exporter_of_each_kind(lab)
    source, back = image(lab, "source", SIZE, share=0.1, piece=MIB), lab.path("back")
    stored = allocated_bytes(source)
    check(0 < stored < SIZE / 2, f"the image itself is not sparse: {stored} bytes")
    for kind in KINDS:
        tool("nbdcopy", "--destination-is-zero", source, daemon.uri(kind))
        tool("nbdcopy", daemon.uri(kind), back)
        check_same(back, source, kind)
        check(allocated_bytes(back) <= stored + MIB,
              f"{kind}: the image has {stored} bytes, its copy {allocated_bytes(back)}")
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


# qemu, fio ---------------------------------------------------------------------------------------

@test
def qemu_img_converts_compares_and_checks_raw_and_qcow2(lab):
    daemon = exporter_of_each_kind(lab)
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
            client.write(0, bytes(255 - byte for byte in client.read(0, 512)))
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
    daemon = exporter_of_each_kind(lab)
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
    daemon = exporter_of_each_kind(lab)
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
    daemon = exporter_of_each_kind(lab)
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
    daemon = exporter_of_each_kind(lab)
    silent = [connection_from("127.0.0.1", daemon.port) for _ in range(20)]
    with Client(daemon.uri("direct")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        check_same(client.read(0, MIB), data, "beside silent connections")
    for connection in silent:
        connection.close()
    check_same(content(lab.path("direct"))[:MIB], data, "the file itself")


main()
