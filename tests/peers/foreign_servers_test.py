#!/usr/bin/python3
"""NBD servers that others wrote, as remote nodes of a linear storage that is exported again: what
each holds, lacks and demands, and which of them are refused.

nbdkit with many of its filters, qemu-storage-daemon, nbd-server. How they fail and come back:
foreign_failures_test.py.
"""

import errno
import os

from peer_lab import (MIB, Client, NbdServer, allocated_bytes, check, check_fails, check_same,
                      content, exercise, head_of, image, nbd_server, nbdkit, nbdkit_file,
                      qemu_storage_daemon, read_all, running_head_of, tool, wait_for_reason)
from lab import main, test

HALF = 8 * MIB  # of each of two nodes


# Data both ways ----------------------------------------------------------------------------------

def data_is_the_same_at_both_ends(name, make, is_volatile=False, export="", block=512):
    """Registers a test. `make(lab, name, size)` starts a server."""
    def body(lab):
        servers = [make(lab, "left", HALF), make(lab, "right", HALF)]
        head = running_head_of(lab, *servers, export=export)
        for node in head.storage("vol")["nodes"]:
            flags = {"connected", "unprotected"} | ({"volatile"} if is_volatile else set())
            check(set(node["flags"]) == flags, f"flags {node['flags']}, expected {sorted(flags)}")
            check(node["connected"] and node["state"] == "sync" and node["size"] == HALF // 512,
                  f"node {node}")

        source, back = image(lab, "source", 2 * HALF, share=0.5), lab.path("back")
        tool("nbdcopy", source, head.uri("vol"))
        tool("nbdcopy", head.uri("vol"), back)
        check_same(back, source, "what nbdcopy copied there and back")
        model = bytearray(content(source))
        with Client(head.uri("vol")) as client:
            check(client.block_sizes()[0] == block, f"block sizes {client.block_sizes()}")
            exercise(client, lab, model, 150)
            edge = HALF - HALF // 4
            data = lab.random.randbytes(HALF // 2)
            client.write(edge, data)
            model[edge:edge + HALF // 2] = data
            check(sum(length for _, length, _ in client.all_extents()) == 2 * HALF, "block status")
            if client.handle.can_trim():
                client.trim(0, MIB)
                client.write(0, bytes(model[:MIB]))
            client.flush()
            check_same(read_all(client), model, "what the head reads")
        head.stop()
        for server, half in zip(servers, (model[:HALF], model[HALF:])):
            with Client(server.uri(export)) as client:
                check_same(read_all(client), half, f"what the server on the {server.name} holds")

    body.__name__ = f"data_is_the_same_at_both_ends_of_{name}"
    test(body)


data_is_the_same_at_both_ends("nbdkit_without_fua", nbdkit_file("--filter=fua"))
for mode in ("emulate", "native"):
    data_is_the_same_at_both_ends(f"nbdkit_with_fua_{mode}",
                                  nbdkit_file("--filter=fua", params=[f"fuamode={mode}"]))
for mode in ("none", "emulate", "notrim"):
    data_is_the_same_at_both_ends(f"nbdkit_with_zeroes_{mode}",
                                  nbdkit_file("--filter=nozero", params=[f"zeromode={mode}"]))
for mode in ("none", "slow"):
    data_is_the_same_at_both_ends(
        f"nbdkit_with_fast_zeroes_{mode}",
        nbdkit_file("--filter=nozero", params=["zeromode=plugin", f"fastzeromode={mode}"]))
# Of the handshake flags: none, fixed newstyle, no zeroes. Without fixed newstyle there is no GO.
for mask in range(3):
    data_is_the_same_at_both_ends(f"nbdkit_with_handshake_flags_{mask}",
                                  nbdkit_file(f"--mask-handshake={mask}"))
data_is_the_same_at_both_ends("nbdkit_memory", nbdkit())
data_is_the_same_at_both_ends("nbdkit_file", nbdkit_file())
data_is_the_same_at_both_ends("nbdkit_without_extents", nbdkit_file("--filter=noextents"))
data_is_the_same_at_both_ends("nbdkit_without_structured_replies", nbdkit_file("--no-sr"))
data_is_the_same_at_both_ends("nbdkit_without_multi_conn", nbdkit_file(
    "--filter=multi-conn", params=["multi-conn-mode=disable"]))
data_is_the_same_at_both_ends("nbdkit_one_request_at_a_time", nbdkit(
    "--filter=noparallel", params=["serialize=all-requests"]))
data_is_the_same_at_both_ends("nbdkit_with_delays", nbdkit(
    "--filter=delay", params=["rdelay=5ms", "wdelay=5ms"]))
data_is_the_same_at_both_ends("nbdkit_with_blocks_of_4_kib", nbdkit(
    "--filter=blocksize-policy", params=["blocksize-minimum=4096", "blocksize-error-policy=error"]),
    block=4096)
data_is_the_same_at_both_ends("nbdkit_that_takes_64_kib_at_most", nbdkit(
    "--filter=blocksize-policy", params=["blocksize-minimum=512", "blocksize-preferred=4096",
                                         "blocksize-maximum=64K", "blocksize-error-policy=error"]))
data_is_the_same_at_both_ends("qemu_storage_daemon", qemu_storage_daemon, export="disk")
data_is_the_same_at_both_ends("nbd_server_with_all_it_can", nbd_server(
    "flush = true\nfua = true\ntrim = true\nrotational = true\n"), export="disk")
data_is_the_same_at_both_ends("nbd_server_without_flush", nbd_server(), export="disk",
                              is_volatile=True)


@test
def a_size_that_is_no_whole_sector_is_rounded_down(lab):
    server = lab.nbdkit("odd", "memory", str(MIB + 100))
    head = running_head_of(lab, server)
    check(head.storage("vol")["size"] == MIB // 512, f"size {head.storage('vol')['size']}")
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        check_same(client.read(MIB - 512, 512), data[-512:], "its last sector")
        check_fails(errno.EINVAL, "behind it", client.read, MIB, 512)


@test
def disks_of_terabytes_are_joined(lab):
    tera = 1 << 40
    head = running_head_of(lab, lab.nbdkit("left", "memory", "5T"),
                           lab.nbdkit("right", "memory", "5T"))
    check(head.storage("vol")["size"] == 10 * tera // 512, f"size {head.storage('vol')['size']}")
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        for at in (0, (4 << 30) - MIB // 2, 5 * tera - MIB // 2, 10 * tera - MIB):
            client.write(at, data)
            check_same(client.read(at, MIB), data, f"at {at}")
        # The longest ranges that fit a request, across the edge.
        start, length = 5 * tera - (2 << 30), (1 << 32) - 4096
        found = client.extents(start, length)
        check([kind for _, kind in found] == [3, 0, 3], f"extents {found}")
        client.zero(start, length)
        client.trim(start, length)
        check_same(client.read(5 * tera - MIB // 2, MIB), bytes(MIB), "zeroed")
        check_same(client.read(10 * tera - MIB, MIB), data, "not zeroed")
        check_fails(errno.ENOSPC, "behind the end", client.write, 10 * tera, bytes(512))


@test
def holes_stay_holes_through_the_head(lab):
    paths = [lab.file("a.disk", HALF), lab.file("b.disk", HALF)]
    head = running_head_of(lab, *(lab.nbdkit(f"nbdkit{i}", "file", path)
                                  for i, path in enumerate(paths)))
    source, back = image(lab, "source", 2 * HALF, share=0.1, piece=256 << 10), lab.path("back")
    stored = allocated_bytes(source)
    with Client(head.uri("vol")) as client:
        client.write(0, lab.random.randbytes(2 * HALF))
    tool("nbdcopy", source, head.uri("vol"))
    tool("nbdcopy", head.uri("vol"), back)
    check_same(back, source, "there and back")
    for what, size in (("servers", sum(map(allocated_bytes, paths))),
                       ("copy", allocated_bytes(back))):
        check(size <= stored + MIB, f"{what}: {size} bytes are allocated, of the image {stored}")


# Refused ---------------------------------------------------------------------------------------

@test
def a_read_only_server_makes_the_storage_read_only(lab):
    disk = image(lab, "disk", HALF)
    head = running_head_of(lab, lab.nbdkit("readonly", "-r", "file", disk), "L: memory:8M")
    flags = [node["flags"] for node in head.storage("vol")["nodes"]]
    check("readonly" in flags[0] and "readonly" not in flags[1], f"flags {flags}")
    check("unprotected" in flags[0] and "unprotected" not in flags[1], f"flags {flags}")
    with Client(head.uri("vol")) as client:
        check(client.handle.is_read_only(), "the export does not say that it is read-only")
        check_same(client.read(0, HALF), content(disk), "what it reads")
        for what, function, *args in (("a write", client.write, 0, bytes(512)),
                                      ("zeroing", client.zero, 0, 512),
                                      ("a trim", client.trim, 0, 512)):
            check_fails(errno.EPERM, what, function, *args)
        client.flush()


def is_refused(lab, server, words, export="disk"):
    """The storage waits, and says why; what needs it does not hang for ever; the head lives."""
    head = head_of(lab, server, export=export)
    wait_for_reason(head, words, "waiting")
    head.stop()


@test
def an_export_that_is_not_there_is_waited_for_with_the_reason(lab):
    disk = lab.file("disk", HALF)
    is_refused(lab, lab.qemu_storage_daemon("qemu", disk, "disk"), "elsewhere", "elsewhere")


@test
def an_export_that_nbd_server_does_not_have_is_waited_for_with_the_reason(lab):
    disk = lab.file("disk", HALF)
    is_refused(lab, NbdServer(lab, "nbd-server", disk, "disk"), "elsewhere", "elsewhere")


@test
def an_oldstyle_server_is_refused_with_the_reason(lab):
    is_refused(lab, lab.nbdkit("oldstyle", "--oldstyle", "memory", str(HALF)), "oldstyle")


@test
def a_server_that_requires_tls_is_refused_with_the_reason(lab):
    keys = lab.path("keys")
    with open(keys, "w", encoding="ascii") as file:
        file.write("somebody:" + "0123456789abcdef" * 4 + "\n")
    os.chmod(keys, 0o600)
    is_refused(lab, lab.nbdkit("tls", "--tls=require", f"--tls-psk={keys}", "memory", str(HALF)),
               "TLS")


@test
def a_server_that_comes_later_is_waited_for(lab):
    port = lab.port()
    head = head_of(lab, f"R: 127.0.0.1:{port}/", "L: memory:8M")
    wait_for_reason(head, "refused", "waiting")
    lab.process("late", ["nbdkit", "--foreground", "--exit-with-parent", "--port", str(port),
                         "memory", str(HALF)])
    # A client that came before the disk waits for it.
    with Client(head.uri("vol")) as client:
        check(client.size == 2 * HALF, f"size {client.size}")
        client.write(HALF - MIB, lab.random.randbytes(2 * MIB))
    head.wait_storage("vol", "running", 1)


main()
