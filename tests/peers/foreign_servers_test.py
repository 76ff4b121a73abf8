#!/usr/bin/python3
"""NBD servers that others wrote, as remote nodes of a linear storage that is exported again: what
they hold, what they lack, how they fail, and how they come back.

nbdkit with many of its plugins and filters, qemu-storage-daemon, nbd-server.
"""

import errno
import os
import re
import time

import nbd
from peer_lab import (MIB, Client, NbdServer, allocated_bytes, check, check_fails, check_same,
                      content, error_of, exercise, image, name_of, read_all, tool)
from lab import Failure, main, test, wait_until

HALF = 8 * MIB  # of each of two nodes
SOON_S = 5.0    # an answer that waits for nothing


def head_of(lab, *servers, name="head", export="", **storage):
    """A head that joins the servers and exports the sum as "vol"."""
    nodes = [server if isinstance(server, str) else server.remote(export) for server in servers]
    return lab.daemon(name, storage=[{"name": "vol", "algorithm": "linear", "nodes": nodes}
                                     | storage],
                      export=[{"name": "vol", "device": "storage:vol"}])


def running_head_of(lab, *servers, **options):
    head = head_of(lab, *servers, **options)
    head.wait_storage("vol")
    return head


def touch(path):
    with open(path, "wb"):
        return path


def waits_for(head, words, state=None):
    """Waits until the status of "vol" has `words` in its reason, and in that of a node."""
    def there():
        storage = head.storage("vol")
        reasons = [node["reason"] for node in storage["nodes"]]
        if words in storage["reason"] and any(words in reason for reason in reasons):
            return storage
        raise Failure(f"{storage['state']}: {storage['reason']}; nodes: {reasons}")
    storage = wait_until(f"the status says '{words}'", there, 15)
    check(state in (None, storage["state"]), f"state {storage['state']}: {storage['reason']}")
    return storage


# Data both ways ----------------------------------------------------------------------------------

def data_is_the_same_at_both_ends(name, make, is_volatile=False, export="", block=512):
    """Registers a test. `make(lab, name)` starts a server of HALF bytes."""
    def body(lab):
        servers = [make(lab, "left"), make(lab, "right")]
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


def nbdkit(*arguments, plugin=("memory", str(HALF))):
    return lambda lab, name: lab.nbdkit(name, *arguments, *plugin)


def nbdkit_file(*arguments):
    return lambda lab, name: lab.nbdkit(name, *arguments, "file", lab.file(name + ".disk", HALF))


def with_disk(make, **keywords):
    """For servers that take a file and the name of an export."""
    return lambda lab, name: make(lab, name, lab.file(name + ".disk", HALF), "disk", **keywords)


def qemu(lab, name, file, export, **keywords):
    return lab.qemu_storage_daemon(name, file, export, **keywords)


data_is_the_same_at_both_ends("nbdkit_memory", nbdkit())
data_is_the_same_at_both_ends("nbdkit_file", nbdkit_file())
data_is_the_same_at_both_ends("nbdkit_without_extents", nbdkit_file("--filter=noextents"))
data_is_the_same_at_both_ends("nbdkit_without_zeroes", nbdkit_file("--filter=nozero"))
data_is_the_same_at_both_ends("nbdkit_without_fast_zeroes",
                              nbdkit("--filter=nozero", plugin=("memory", str(HALF),
                                                                "zeromode=plugin",
                                                                "fastzeromode=slow")))
data_is_the_same_at_both_ends("nbdkit_without_fua", nbdkit_file("--filter=fua"))
data_is_the_same_at_both_ends("nbdkit_with_native_fua",
                              nbdkit("--filter=fua", plugin=("file", "/dev/null"))
                              if False else nbdkit("--filter=fua", plugin=(
                                  "memory", str(HALF), "fuamode=force")))
data_is_the_same_at_both_ends("nbdkit_without_structured_replies", nbdkit_file("--no-sr"))
data_is_the_same_at_both_ends("nbdkit_without_multi_conn",
                              nbdkit("--filter=multi-conn", plugin=("memory", str(HALF),
                                                                    "multi-conn-mode=disable")))
data_is_the_same_at_both_ends("nbdkit_of_old_newstyle", nbdkit_file("--mask-handshake=0"))
data_is_the_same_at_both_ends("nbdkit_of_fixed_newstyle_with_zeroes",
                              nbdkit("--mask-handshake=1"))
data_is_the_same_at_both_ends("nbdkit_of_old_newstyle_without_zeroes",
                              nbdkit("--mask-handshake=2"))
data_is_the_same_at_both_ends("nbdkit_one_request_at_a_time",
                              nbdkit("--filter=noparallel", plugin=("memory", str(HALF),
                                                                    "serialize=all-requests")))
data_is_the_same_at_both_ends("nbdkit_with_blocks_of_4_kib", nbdkit(
    "--filter=blocksize-policy", plugin=("memory", str(HALF), "blocksize-minimum=4096",
                                         "blocksize-error-policy=error")), block=4096)
data_is_the_same_at_both_ends("nbdkit_that_takes_64_kib_at_most", nbdkit(
    "--filter=blocksize-policy", plugin=("memory", str(HALF), "blocksize-minimum=512",
                                         "blocksize-preferred=4096", "blocksize-maximum=64K",
                                         "blocksize-error-policy=error")))
data_is_the_same_at_both_ends("nbdkit_with_delays", nbdkit(
    "--filter=delay", plugin=("memory", str(HALF), "rdelay=5ms", "wdelay=5ms")))
data_is_the_same_at_both_ends("qemu_storage_daemon", with_disk(qemu), export="disk")
data_is_the_same_at_both_ends("nbd_server_with_all_it_can", with_disk(
    NbdServer, options="flush = true\nfua = true\ntrim = true\nrotational = true\n"),
    export="disk")
data_is_the_same_at_both_ends("nbd_server_without_flush", with_disk(NbdServer), export="disk",
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


# Errors ------------------------------------------------------------------------------------------

OPERATIONS = {"pread": lambda client, at: client.read(at, 4096),
              "pwrite": lambda client, at: client.write(at, bytes(4096)),
              "zero": lambda client, at: client.zero(at, 4096),
              "trim": lambda client, at: client.trim(at, 4096),
              "extents": lambda client, at: client.extents(at, 4096)}
LOGGED = {"pread": "Read", "pwrite": "Write", "zero": "Zero", "trim": "Trim",
          "extents": "Extents"}


def failing_nbdkit(lab, name, error, rate="100%"):
    """nbdkit that fails with `error` whatever has a file of its name: `name`.pread, and so on."""
    filters = [f"error-{operation}{setting}" for operation in OPERATIONS
               for setting in (f"={error}", f"-rate={rate}",
                               f"-file={lab.path(name)}.{operation}")]
    return lab.nbdkit(name, "--filter=log", "--filter=error", "memory", str(HALF), *filters,
                      f"logfile={lab.path(name)}.log.requests")


def requests_logged(lab, name, operation):
    with open(f"{lab.path(name)}.log.requests", encoding="utf-8") as log:
        return len(re.findall(rf" {LOGGED[operation]} id=", log.read()))


def each_error_arrives(lab, code):
    error = errno.errorcode[code]
    head = running_head_of(lab, lab.nbdkit("good", "memory", str(HALF)),
                           failing_nbdkit(lab, "bad", error))
    for structured in (True, False):
        with Client(head.uri("vol"), structured=structured) as client:
            data = lab.random.randbytes(HALF)
            client.write(HALF, data)
            for operation, call in OPERATIONS.items():
                if operation == "extents" and not structured:
                    continue
                before = requests_logged(lab, "bad", operation)
                trigger = touch(f"{lab.path('bad')}.{operation}")
                begin = time.monotonic()
                check_fails(code, f"{operation}, {error} at the far end", call, client, HALF + MIB)
                # Over the edge: one half is good.
                check_fails(code, f"{operation} over the edge", {
                    "pread": lambda: client.read(HALF - 4096, 8192),
                    "pwrite": lambda: client.write(HALF - 4096, bytes(8192)),
                    "zero": lambda: client.zero(HALF - 4096, 8192),
                    "trim": lambda: client.trim(HALF - 4096, 8192),
                    "extents": lambda: client.extents(HALF, 8192)}[operation])
                took = time.monotonic() - begin
                check(took < SOON_S, f"{operation}: an error takes {took:.1f} s to arrive")
                call(client, MIB)
                os.unlink(trigger)
                tries = requests_logged(lab, "bad", operation) - before
                check(tries == 2, f"{operation}: two requests were made, {tries} arrived")
                call(client, HALF + MIB)
            client.flush()
            check_same(client.read(HALF + 2 * MIB, MIB), data[2 * MIB:3 * MIB], "beside the errors")
    check(head.log_text_has_no_loss() if hasattr(head, "log_text_has_no_loss") else True, "")
    check("lost:" not in head.process.log_text(), "an error of a request ended the connection")
    check(head.storage("vol")["state"] == "running", f"{head.storage('vol')}")
    head.stop()


@test
def eio_of_the_far_disk_arrives_as_eio_and_is_not_tried_again(lab):
    each_error_arrives(lab, errno.EIO)


@test
def enospc_of_the_far_disk_arrives_as_enospc_and_is_not_tried_again(lab):
    each_error_arrives(lab, errno.ENOSPC)


@test
def eperm_of_the_far_disk_arrives_as_eperm_and_is_not_tried_again(lab):
    each_error_arrives(lab, errno.EPERM)


@test
def enomem_of_the_far_disk_arrives_as_enomem_and_is_not_tried_again(lab):
    each_error_arrives(lab, errno.ENOMEM)


@test
def errors_pass_through_two_heads(lab):
    near = running_head_of(lab, failing_nbdkit(lab, "bad", "ENOSPC"), name="near")
    head = running_head_of(lab, near.remote("vol"), "L: memory:8M")
    with Client(head.uri("vol")) as client:
        touch(lab.path("bad.pwrite"))
        check_fails(errno.ENOSPC, "a write", client.write, 0, bytes(4096))
        check_fails(errno.ENOSPC, "a write over the edge", client.write, HALF - 4096, bytes(8192))
        os.unlink(lab.path("bad.pwrite"))
        client.write(0, bytes(4096))
        client.flush()


@test
def errors_now_and_then_are_told_one_by_one_and_spoil_nothing_else(lab):
    server = failing_nbdkit(lab, "bad", "EIO", rate="20%")
    head = running_head_of(lab, server)
    for operation in ("pread", "pwrite", "zero"):
        touch(f"{lab.path('bad')}.{operation}")
    model, failed, errors = bytearray(HALF), set(), 0
    with Client(head.uri("vol")) as client:
        for step in range(1200):
            block = lab.random.randrange(HALF // 4096)
            at, action = block * 4096, lab.random.choice(("read", "write", "zero", "flush"))
            data = lab.random.randbytes(4096)
            code = error_of(*{"read": (client.read, at, 4096), "write": (client.write, at, data),
                              "zero": (client.zero, at, 4096), "flush": (client.flush,)}[action])
            check(code in (0, errno.EIO), f"step {step}, {action}: {name_of(code)}")
            check(not (code and action == "flush"), f"step {step}: a flush failed")
            errors += code != 0
            if action in ("write", "zero"):
                model[at:at + 4096] = data if action == "write" else bytes(4096)
                (failed.add if code else failed.discard)(block)
        check(80 < errors < 450, f"{errors} errors of 1200 requests at 20 % of three quarters")
        for operation in ("pread", "pwrite", "zero"):
            os.unlink(f"{lab.path('bad')}.{operation}")
        found = bytearray(read_all(client))
        for block in failed:  # what a failed change leaves behind is undefined
            found[block * 4096:(block + 1) * 4096] = model[block * 4096:(block + 1) * 4096]
        check_same(found, model, "all that was acknowledged")
    check("lost:" not in head.process.log_text(), "an error of a request ended the connection")


@test
def a_full_disk_says_enospc_and_stays_readable(lab):
    head = running_head_of(lab, lab.nbdkit("full", "full", str(HALF)))
    check("volatile" in head.storage("vol")["nodes"][0]["flags"], "nbdkit's full has no flush")
    with Client(head.uri("vol")) as client:
        for _ in range(50):
            check_fails(errno.ENOSPC, "a write", client.write, 0, bytes(MIB))
        check_same(client.read(0, MIB), bytes(MIB), "reading")
        client.flush()


# Flushes -----------------------------------------------------------------------------------------

def nbdkit_whose_flush_fails(lab, name, *filters):
    """A file behind nbdkit; its flush fails as long as there is a file `name`.broken."""
    disk = lab.file(name + ".disk", HALF)
    server = lab.nbdkit(
        name, "--filter=log", *filters, "eval", f"logfile={lab.path(name)}.log.requests",
        f"get_size=echo {HALF}", "can_write=exit 0", "can_flush=exit 0", "can_zero=exit 3",
        f"pread=dd if={disk} skip=$4 count=$3 iflag=count_bytes,skip_bytes status=none",
        f"pwrite=dd of={disk} seek=$4 conv=notrunc oflag=seek_bytes status=none",
        f"flush=if [ -e {lab.path(name)}.broken ]; then echo 'EIO broken' >&2; exit 1; fi")
    return server, lab.path(name) + ".broken", disk


@test
def a_flush_that_fails_fails_until_all_is_written_again(lab):
    server, broken, disk = nbdkit_whose_flush_fails(lab, "bad")
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client, Client(head.uri("vol")) as other:
        data = lab.random.randbytes(64 << 10)
        client.write(0, data)
        client.flush()
        client.write(MIB, data)
        client.write(HALF - len(data), data)
        touch(broken)
        for _ in range(3):
            begin = time.monotonic()
            check_fails(errno.EIO, "a flush of what can't be flushed", client.flush)
            check(time.monotonic() - begin < SOON_S, "it takes long to fail")
        check_fails(errno.EIO, "a flush on another connection", other.flush)
        # The disk goes on otherwise.
        check_same(other.read(MIB, len(data)), data, "a read while flushes fail")
        other.write(2 * MIB, data)
        os.unlink(broken)
        before = requests_logged(lab, "bad", "pwrite")
        wait_until("a flush succeeds again", lambda: error_of(client.flush) == 0, 10)
        for at in (0, MIB, 2 * MIB, HALF - len(data)):
            check_same(content(disk)[at:at + len(data)], data, f"the far disk at {at}")
        check(requests_logged(lab, "bad", "pwrite") >= before, "writes are logged")
        client.flush()
    check(requests_logged(lab, "bad", "pwrite") >= 4 + 2,
          "what was not flushed was not written again after a flush had failed")
    head.stop()


@test
def a_write_with_fua_fails_as_its_flush_does(lab):
    """Both where the server offers FUA and where the head makes it of a flush."""
    for name, filters in (("native", []), ("emulated", ["--filter=fua"])):
        server, broken, _ = nbdkit_whose_flush_fails(lab, name, *filters)
        head = running_head_of(lab, server, name=f"head-{name}")
        with Client(head.uri("vol")) as client:
            client.write(0, bytes(4096), nbd.CMD_FLAG_FUA)
            touch(broken)
            check_fails(errno.EIO, f"{name}: a write with FUA", client.write, 0, bytes(4096),
                        nbd.CMD_FLAG_FUA)
            client.write(4096, bytes(4096))
            os.unlink(broken)
            wait_until(f"{name}: a write with FUA succeeds again", lambda c=client: error_of(
                c.write, 0, bytes(4096), nbd.CMD_FLAG_FUA) == 0, 10)


@test
def a_head_whose_flushes_fail_stops_in_time(lab):
    server, broken, _ = nbdkit_whose_flush_fails(lab, "bad")
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        touch(broken)
        client.write(0, bytes(MIB))
        begin = time.monotonic()
        head.process.terminate(15)
        took = time.monotonic() - begin
        check(took < 10, f"SIGTERM took {took:.1f} s")


@test
def a_change_that_cant_be_replayed_fails_flushes_until_it_can(lab):
    disk, refuses = lab.file("disk", HALF), lab.path("refuses")
    server = lab.nbdkit("nbdkit", "--filter=error", "file", disk, "error-pwrite=EIO",
                        "error-pwrite-rate=100%", f"error-pwrite-file={refuses}")
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        server.kill()
        # The power cut took what was not flushed.
        with open(disk, "r+b") as file:
            file.write(bytes(MIB))
        touch(refuses)
        server.start()
        check_fails(errno.EIO, "a flush of what is lost", client.flush)
        check_fails(errno.EIO, "a read of what is lost", client.read, 0, 4096)
        client.read(4 * MIB, MIB)
        os.unlink(refuses)
        wait_until("a flush succeeds again", lambda: error_of(client.flush) == 0, 10)
        check_same(client.read(0, MIB), data, "what was lost and is written again")
        check_same(content(disk)[:MIB], data, "on the far disk")


# Slow, away, and back ----------------------------------------------------------------------------

@test
def a_slow_server_is_waited_for(lab):
    """Longer than a peer of our kind may be silent."""
    server = lab.nbdkit("slow", "--filter=delay", "memory", str(HALF), "rdelay=4s")
    head = running_head_of(lab, server, "L: memory:8M")
    with Client(head.uri("vol")) as client, Client(head.uri("vol")) as other:
        data = lab.random.randbytes(MIB)
        client.write(HALF - MIB, data)
        begin = time.monotonic()
        slow, buffer = client.start_read(HALF - MIB, 2 * MIB)
        other.write(HALF, data)
        other.read(HALF, MIB)
        check(time.monotonic() - begin < 2, "the other node waits, too")
        client.wait(slow, "a read of a slow disk")
        check(3.9 < time.monotonic() - begin < 8, "the delay does not count once")
        check_same(bytes(buffer.to_bytearray()[:MIB]), data, "the slow half")
    check("lost:" not in head.process.log_text(), "a slow request ended the connection")


@test
def a_server_that_stops_for_a_while_is_waited_for(lab):
    server = lab.nbdkit("paused", "memory", str(HALF))
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        server.pause()
        cookies = [client.start_write(i * MIB, data) for i in range(4)]
        storage = wait_until("the status tells", lambda: next(
            (s for s in [head.storage("vol")] if s["state"] != "running"), None), 10, 0.1)
        check(not storage["nodes"][0]["connected"] and storage["reason"], f"{storage}")
        server.resume()
        for cookie in cookies:
            client.wait(cookie, "a write that waited")
        check_same(client.read(0, 4 * MIB), 4 * data, "what waited")
    head.wait_storage("vol", "running", 5)


@test
def unflushed_changes_are_written_again_to_a_server_that_lost_them(lab):
    """nbdkit's memory is gone with it, so all that is read afterwards comes from the replay."""
    server = lab.nbdkit("memory", "memory", str(HALF))
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        model = bytearray(HALF)
        for _ in range(200):
            at, data = lab.random.randrange(HALF // 4096) * 4096, lab.random.randbytes(4096)
            if lab.random.random() < 0.2:
                data = bytes(4096)
                client.zero(at, 4096)
            else:
                client.write(at, data)
            model[at:at + 4096] = data
        server.kill()
        server.start()
        check_same(read_all(client), model, "after the server lost everything")
        client.flush()


def fio_survives_restarts(lab, make, export="", kills=4):
    servers = [make(lab, "left"), make(lab, "right")]
    head = running_head_of(lab, *servers, export=export)
    load = lab.fio("load", head.uri("vol"), size="12M", offset="2M", bsrange="4k-64k",
                   bs_unaligned=0, iodepth=16, rate="3M", fsync=64)
    for number in range(kills):
        server = servers[number % 2]
        time.sleep(0.2 + lab.random.random() * 0.3)
        check(load.is_running(), "fio ended before the last kill")
        server.kill()
        # Nothing restarts it before requests wait for it.
        head.wait_storage("vol", "holding", 10)
        server.start()
        head.wait_storage("vol", "running", 15)
    job = load.wait(60)
    check(job["write"]["total_ios"] > 100 and job["read"]["total_ios"] > 100, f"fio: {job['write']}")
    lost = head.process.log_text().count("lost:")
    check(lost >= kills, f"{kills} kills, and the head saw {lost} losses")


@test
def nbdkit_may_be_killed_and_restarted_under_fio(lab):
    fio_survives_restarts(lab, nbdkit_file())


@test
def qemu_storage_daemon_may_be_killed_and_restarted_under_fio(lab):
    fio_survives_restarts(lab, with_disk(qemu), export="disk")


@test
def nbd_server_may_be_killed_and_restarted_under_fio(lab):
    fio_survives_restarts(lab, with_disk(NbdServer, options="flush = true\nfua = true\n"),
                          export="disk")


# Refused -----------------------------------------------------------------------------------------

@test
def a_server_that_shrank_is_refused_until_it_is_itself_again(lab):
    disk = lab.file("disk", HALF)
    server = lab.nbdkit("nbdkit", "file", disk)
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        client.flush()
        server.kill()
        os.truncate(disk, HALF // 2)
        server.start()
        cookie = client.start_write(MIB, data)
        storage = waits_for(head, "shrank", "holding")
        check(f"{HALF // 512}" in storage["reason"] and f"{HALF // 1024}" in storage["reason"],
              f"neither size is named: {storage['reason']}")
        check(not storage["nodes"][0]["connected"], "shown as connected")
        check(not client.handle.aio_command_completed(cookie), "a request was answered")
        server.kill()
        os.truncate(disk, HALF)
        server.start()
        client.wait(cookie, "the write that waited")
        client.flush()
        check_same(content(disk)[:2 * MIB], 2 * data, "the far disk")
        # One that grew is used as far as it was.
        server.kill()
        os.truncate(disk, 2 * HALF)
        server.start()
        check_same(client.read(0, MIB), data, "after it grew")
        check(head.storage("vol")["size"] == HALF // 512, "its size changed by itself")


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


@test
def a_server_that_became_read_only_is_refused_until_it_is_not(lab):
    disk, port = lab.file("disk", HALF), lab.port()
    options = ["--foreground", "--exit-with-parent", "--port", str(port), "file", disk]
    server = lab.process("writable", ["nbdkit", *options])
    head = running_head_of(lab, f"R: 127.0.0.1:{port}/")
    with Client(head.uri("vol")) as client:
        client.write(0, bytes(4096))
        server.kill()
        server = lab.process("read-only", ["nbdkit", "--readonly", *options])
        cookie = client.start_write(4096, bytes(4096))
        waits_for(head, "read-only", "holding")
        server.kill()
        lab.process("writable-again", ["nbdkit", *options])
        client.wait(cookie, "the write that waited")
        client.flush()


def is_refused(lab, server, words, export="disk"):
    """The storage waits, and says why; what needs it does not hang for ever; the head lives."""
    head = head_of(lab, server, export=export)
    waits_for(head, words, "waiting")
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
    waits_for(head, "refused", "waiting")
    lab.process("late", ["nbdkit", "--foreground", "--exit-with-parent", "--port", str(port),
                         "memory", str(HALF)])
    # A client that came before the disk waits for it.
    with Client(head.uri("vol")) as client:
        check(client.size == 2 * HALF, f"size {client.size}")
        client.write(HALF - MIB, lab.random.randbytes(2 * MIB))
    head.wait_storage("vol", "running", 1)


main()
