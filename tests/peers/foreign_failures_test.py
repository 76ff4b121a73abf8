#!/usr/bin/python3
"""NBD servers that others wrote, as remote nodes, when they fail: errors of the far disk, flushes
that fail, slow and silent servers, killed ones, and ones that come back as something else.
"""

import errno
import os
import re
import time

import nbd
from peer_lab import (MIB, SUCCESS, Client, check, check_fails, check_same, content, error_of,
                      name_of, nbd_server, nbdkit_file, qemu_storage_daemon, read_all,
                      running_head_of, wait_for_reason)
from lab import main, test, wait_until

SIZE = 8 * MIB  # of a node
SOON_S = 5.0    # an answer that waits for nothing


def touch(path):
    with open(path, "wb"):
        return path


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
    return lab.nbdkit(name, "--filter=log", "--filter=error", "memory", str(SIZE), *filters,
                      f"logfile={lab.path(name)}.log.requests")


def requests_logged(lab, name, operation):
    with open(f"{lab.path(name)}.log.requests", encoding="utf-8") as log:
        return len(re.findall(rf" {LOGGED[operation]} id=", log.read()))


def each_error_arrives(lab, code):
    error = errno.errorcode[code]
    head = running_head_of(lab, lab.nbdkit("good", "memory", str(SIZE)),
                           failing_nbdkit(lab, "bad", error))
    for structured in (True, False):
        with Client(head.uri("vol"), structured=structured) as client:
            data = lab.random.randbytes(SIZE)
            client.write(SIZE, data)
            for operation, call in OPERATIONS.items():
                if operation == "extents" and not structured:
                    continue
                before = requests_logged(lab, "bad", operation)
                trigger = touch(f"{lab.path('bad')}.{operation}")
                begin = time.monotonic()
                check_fails(code, f"{operation}, {error} at the far end", call, client, SIZE + MIB)
                # Over the edge: one half is good.
                check_fails(code, f"{operation} over the edge", {
                    "pread": lambda: client.read(SIZE - 4096, 8192),
                    "pwrite": lambda: client.write(SIZE - 4096, bytes(8192)),
                    "zero": lambda: client.zero(SIZE - 4096, 8192),
                    "trim": lambda: client.trim(SIZE - 4096, 8192),
                    "extents": lambda: client.extents(SIZE, 8192)}[operation])
                took = time.monotonic() - begin
                check(took < SOON_S, f"{operation}: an error takes {took:.1f} s to arrive")
                call(client, MIB)
                os.unlink(trigger)
                tries = requests_logged(lab, "bad", operation) - before
                check(tries == 2, f"{operation}: two requests were made, {tries} arrived")
                call(client, SIZE + MIB)
            client.flush()
            check_same(client.read(SIZE + 2 * MIB, MIB), data[2 * MIB:3 * MIB], "beside the errors")
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


def an_error_amid_a_long_request_arrives(lab, structured):
    """Longer than a buffer, which is 1 MiB: what went well in front of the error is on its way."""
    head = running_head_of(lab, lab.nbdkit("good", "memory", str(SIZE)),
                           failing_nbdkit(lab, "bad", "EIO"))
    with Client(head.uri("vol"), structured=structured) as client:
        data = lab.random.randbytes(4 * MIB)
        client.write(SIZE - 2 * MIB, data)
        for operation, call in (("pwrite", lambda: client.write(SIZE - 2 * MIB, data)),
                                ("pread", lambda: client.read(SIZE - 2 * MIB, 4 * MIB))):
            trigger = touch(f"{lab.path('bad')}.{operation}")
            check_fails(errno.EIO, f"{operation} of 4 MiB, of which the last 2 fail", call)
            os.unlink(trigger)
            call()
        check_same(client.read(SIZE - 2 * MIB, 4 * MIB), data, "once the error is gone")


@test
def an_error_amid_a_long_request_arrives_in_structured_replies(lab):
    an_error_amid_a_long_request_arrives(lab, structured=True)


@test
def an_error_amid_a_long_request_arrives_in_simple_replies(lab):
    """As of the kernel's client, which reads more than 1 MiB at a time."""
    an_error_amid_a_long_request_arrives(lab, structured=False)


@test
def errors_pass_through_two_heads(lab):
    near = running_head_of(lab, failing_nbdkit(lab, "bad", "ENOSPC"), name="near")
    head = running_head_of(lab, near.remote("vol"), "L: memory:8M")
    with Client(head.uri("vol")) as client:
        touch(lab.path("bad.pwrite"))
        check_fails(errno.ENOSPC, "a write", client.write, 0, bytes(4096))
        check_fails(errno.ENOSPC, "a write over the edge", client.write, SIZE - 4096, bytes(8192))
        os.unlink(lab.path("bad.pwrite"))
        client.write(0, bytes(4096))
        client.flush()


@test
def errors_now_and_then_are_told_one_by_one_and_spoil_nothing_else(lab):
    server = failing_nbdkit(lab, "bad", "EIO", rate="20%")
    head = running_head_of(lab, server)
    for operation in ("pread", "pwrite", "zero"):
        touch(f"{lab.path('bad')}.{operation}")
    model, failed, errors = bytearray(SIZE), set(), 0
    with Client(head.uri("vol")) as client:
        for step in range(1200):
            block = lab.random.randrange(SIZE // 4096)
            at, action = block * 4096, lab.random.choice(("read", "write", "zero", "flush"))
            data = lab.random.randbytes(4096)
            code = error_of(*{"read": (client.read, at, 4096), "write": (client.write, at, data),
                              "zero": (client.zero, at, 4096), "flush": (client.flush,)}[action])
            check(code in (SUCCESS, errno.EIO), f"step {step}, {action}: {name_of(code)}")
            check(code == SUCCESS or action != "flush", f"step {step}: a flush failed")
            errors += code != SUCCESS
            if action in ("write", "zero"):
                model[at:at + 4096] = data if action == "write" else bytes(4096)
                (failed.discard if code == SUCCESS else failed.add)(block)
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
    head = running_head_of(lab, lab.nbdkit("full", "full", str(SIZE)))
    check("volatile" in head.storage("vol")["nodes"][0]["flags"], "nbdkit's full has no flush")
    with Client(head.uri("vol")) as client:
        for _ in range(50):
            check_fails(errno.ENOSPC, "a write", client.write, 0, bytes(MIB))
        check_same(client.read(0, MIB), bytes(MIB), "reading")
        client.flush()


# Flushes -----------------------------------------------------------------------------------------

def nbdkit_whose_flush_fails(lab, name, *filters):
    """A file behind nbdkit; its flush fails as long as there is a file `name`.broken."""
    disk = lab.file(name + ".disk", SIZE)
    server = lab.nbdkit(
        name, "--filter=log", *filters, "eval", f"logfile={lab.path(name)}.log.requests",
        f"get_size=echo {SIZE}", "can_write=exit 0", "can_flush=exit 0", "can_zero=exit 3",
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
        client.write(SIZE - len(data), data)
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
        wait_until("a flush succeeds again", lambda: error_of(client.flush) == SUCCESS, 10)
        for at in (0, MIB, 2 * MIB, SIZE - len(data)):
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
                c.write, 0, bytes(4096), nbd.CMD_FLAG_FUA) == SUCCESS, 10)


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
    disk, refuses = lab.file("disk", SIZE), lab.path("refuses")
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
        wait_until("a flush succeeds again", lambda: error_of(client.flush) == SUCCESS, 10)
        check_same(client.read(0, MIB), data, "what was lost and is written again")
        check_same(content(disk)[:MIB], data, "on the far disk")


# Slow, away, and back ----------------------------------------------------------------------------

@test
def a_slow_server_is_waited_for(lab):
    """Longer than a peer of our kind may be silent."""
    server = lab.nbdkit("slow", "--filter=delay", "memory", str(SIZE), "rdelay=4")
    head = running_head_of(lab, server, "L: memory:8M")
    with Client(head.uri("vol")) as client, Client(head.uri("vol")) as other:
        data = lab.random.randbytes(MIB)
        client.write(SIZE - MIB, data)
        begin = time.monotonic()
        slow, buffer = client.start_read(SIZE - MIB, 2 * MIB)
        other.write(SIZE, data)
        other.read(SIZE, MIB)
        check(time.monotonic() - begin < 2, "the other node waits, too")
        client.wait(slow, "a read of a slow disk")
        check(3.9 < time.monotonic() - begin < 8, "the delay does not count once")
        check_same(bytes(buffer.to_bytearray()[:MIB]), data, "the slow half")
    check("lost:" not in head.process.log_text(), "a slow request ended the connection")


@test
def a_server_that_stops_for_a_while_is_waited_for(lab):
    server = lab.nbdkit("paused", "memory", str(SIZE))
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
    server = lab.nbdkit("memory", "memory", str(SIZE))
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        model = bytearray(SIZE)
        for _ in range(200):
            at, data = lab.random.randrange(SIZE // 4096) * 4096, lab.random.randbytes(4096)
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
    servers = [make(lab, "left", SIZE), make(lab, "right", SIZE)]
    head = running_head_of(lab, *servers, export=export)
    load = lab.fio("load", head.uri("vol"), size="12M", offset="2M", bsrange="4k-64k",
                   bs_unaligned=0, iodepth=16, rate="1M", fsync=64)
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
    check(job["write"]["total_ios"] > 100 and job["read"]["total_ios"] > 100, f"fio did {job}")
    lost = head.process.log_text().count("lost:")
    check(lost >= kills, f"{kills} kills, and the head saw {lost} losses")


@test
def nbdkit_may_be_killed_and_restarted_under_fio(lab):
    fio_survives_restarts(lab, nbdkit_file())


@test
def qemu_storage_daemon_may_be_killed_and_restarted_under_fio(lab):
    fio_survives_restarts(lab, qemu_storage_daemon, export="disk")


@test
def nbd_server_may_be_killed_and_restarted_under_fio(lab):
    fio_survives_restarts(lab, nbd_server("flush = true\nfua = true\n"),
                          export="disk")


# Back as something else ---------------------------------------------------------------------------

@test
def a_server_that_shrank_is_refused_until_it_is_itself_again(lab):
    disk = lab.file("disk", SIZE)
    server = lab.nbdkit("nbdkit", "file", disk)
    head = running_head_of(lab, server)
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        client.flush()
        server.kill()
        os.truncate(disk, SIZE // 2)
        server.start()
        cookie = client.start_write(MIB, data)
        storage = wait_for_reason(head, "shrank", "holding")
        check(f"{SIZE // 512}" in storage["reason"] and f"{SIZE // 1024}" in storage["reason"],
              f"neither size is named: {storage['reason']}")
        check(not storage["nodes"][0]["connected"], "shown as connected")
        check(not client.handle.aio_command_completed(cookie), "a request was answered")
        server.kill()
        os.truncate(disk, SIZE)
        server.start()
        client.wait(cookie, "the write that waited")
        client.flush()
        check_same(content(disk)[:2 * MIB], 2 * data, "the far disk")
        # One that grew is used as far as it was.
        server.kill()
        os.truncate(disk, 2 * SIZE)
        server.start()
        check_same(client.read(0, MIB), data, "after it grew")
        check(head.storage("vol")["size"] == SIZE // 512, "its size changed by itself")


@test
def a_server_that_became_read_only_is_refused_until_it_is_not(lab):
    disk, port = lab.file("disk", SIZE), lab.port()
    options = ["--foreground", "--exit-with-parent", "--port", str(port), "file", disk]
    server = lab.process("writable", ["nbdkit", *options])
    head = running_head_of(lab, f"R: 127.0.0.1:{port}/")
    with Client(head.uri("vol")) as client:
        client.write(0, bytes(4096))
        server.kill()
        server = lab.process("read-only", ["nbdkit", "--readonly", *options])
        cookie = client.start_write(4096, bytes(4096))
        wait_for_reason(head, "read-only", "holding")
        server.kill()
        lab.process("writable-again", ["nbdkit", *options])
        client.wait(cookie, "the write that waited")
        client.flush()


main()
