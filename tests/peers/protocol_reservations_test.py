#!/usr/bin/python3
"""Reservations (docs/protocol.md, 1.6), held against an export by a peer that was written from the
document: one head at a time may change a device, and every change of that is numbered.
"""

import errno
import os
import struct
import time

import protocol_peer as wire
from protocol_peer import (DST_CLAIM, DST_PING, DST_RELEASE, DST_RESERVATION, FLAG_FORCE, FLUSH,
                           HELD, OPEN, RESERVATIONS, TRIM, WRITE, WRITE_ZEROES, Peer, Reservation,
                           Session, checked)
from protocol_lab import SIZE, exporter, slow_exporter
from peer_lab import MIB, Client, check, check_fails, check_same, content
from lab import dst, main, test, wait_until

ONE, TWO = 0x1111, 0x2222


def head(port, number, incarnation=1, export="disk", session=1, **fields):
    """A connection of the head with that id."""
    return checked(port, export, Session(number, incarnation, session, 0xbeef), **fields)


def check_granted(outcome, number, holder):
    now, code, text = outcome
    check(code == 0, f"refused with {code}: {text}")
    check(now.number == number and now.head == holder and now.flags == HELD | OPEN,
          f"granted: {now}")


def check_refused(outcome, words, number):
    now, code, text = outcome
    check(code == errno.EPERM and words in text, f"error {code}, {text}")
    check(now.number == number, f"refused, but {now}")


@test
def the_reservation_of_a_new_export_is_nobodys_and_its_number_0(lab):
    with head(exporter(lab).port, ONE) as peer:
        check(peer.answer.flags & RESERVATIONS, f"the answer {peer.answer}")
        check(peer.reservation() == Reservation(0, 0, 0, 0, 0, 0), "the reservation")


@test
def it_is_told_byte_by_byte(lab):
    with head(exporter(lab).port, ONE, incarnation=0x33) as peer:
        peer.claim(0, takeover=0x4444)
        [chunk] = peer.reply(peer.request(DST_RESERVATION))
        check(chunk.type == 0x6401 and chunk.flags == wire.DONE, f"{chunk}")
        check(chunk.payload == bytes.fromhex(
            "0000000000000001 0000000000001111 0000000000000033 00004444 00000000 00000003"
            f"{SIZE:016x}"),
            f"{chunk.payload.hex(' ')}")


def sizes_of(peer):
    [chunk] = peer.reply(peer.request(DST_RESERVATION))
    return [size for size, in struct.iter_unpack(">Q", chunk.payload[36:])]


@test
def it_remembers_which_sizes_the_device_had(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE) as peer:
        check(sizes_of(peer) == [], "nobody has used it yet")
        peer.claim(0)
        check(sizes_of(peer) == [SIZE], "when it was claimed")
        os.truncate(lab.path("disk"), 2 * SIZE)
        check(sizes_of(peer) == [SIZE], "who is connected still knows the old size")
    with head(daemon.port, TWO) as peer:
        check(sizes_of(peer) == [SIZE, 2 * SIZE], f"{sizes_of(peer)} when it had grown")
    daemon.kill()
    os.truncate(lab.path("disk"), 3 * SIZE)
    daemon.start()
    with head(daemon.port, ONE) as peer:
        told = sizes_of(peer)
        check(told == [SIZE, 2 * SIZE, 3 * SIZE], f"{told} when it was started anew")
        peer.release(1)
    for more in range(4, 14):
        os.truncate(lab.path("disk"), more * SIZE)
        with head(daemon.port, TWO) as peer:
            told = sizes_of(peer)
    check(told == [at * SIZE for at in range(6, 14)], f"{told}: the last eight")


@test
def its_commands_need_a_session_and_chunks_and_take_what_they_take(lab):
    daemon = exporter(lab)
    with checked(daemon.port, "disk") as peer:
        for command, offset, length in ((DST_RESERVATION, 0, 0), (DST_CLAIM, 0, 1),
                                        (DST_RELEASE, 0, 0)):
            check(peer.error_of(command, offset, length) == errno.EINVAL,
                  f"command {command:#x} without a session")
    with head(daemon.port, ONE) as peer:
        for what, arguments in (("a claim without takeover", (DST_CLAIM, 0, 0)),
                                ("a release with a length", (DST_RELEASE, 0, 1)),
                                ("a reservation with an offset", (DST_RESERVATION, 1, 0)),
                                ("a reservation by force", (DST_RESERVATION, 0, 0, FLAG_FORCE)),
                                ("a write by force", (WRITE, 0, 0, FLAG_FORCE))):
            check(peer.error_of(*arguments) == errno.EINVAL, what)
        check(peer.reservation().number == 0, "nothing of that was a claim")
    with Peer(daemon.port) as peer:
        peer.hello("disk", flags=0, session=Session(ONE, 1, 2, 3))
        peer.go("disk")
        check(peer.error_of(DST_RESERVATION) == errno.EINVAL, "without structured replies")


@test
def while_it_is_held_changes_of_all_others_are_refused_and_nothing_else(lab):
    daemon = exporter(lab)
    data = lab.random.randbytes(4096)
    with head(daemon.port, ONE) as one, head(daemon.port, TWO) as two, \
            checked(daemon.port, "disk") as sessionless, Client(daemon.uri("disk")) as plain:
        two.write(0, data)
        check_granted(one.claim(0), 1, ONE)
        for peer, who in ((two, "another head"), (sessionless, "a peer without a session")):
            for command in (WRITE, TRIM, WRITE_ZEROES):
                payload = bytes(4096) if command == WRITE else b""
                check(peer.error_of(command, 0, 4096, payload=payload) == errno.EPERM,
                      f"{who}: command {command}")
            check_same(peer.read(0, 4096), data, f"{who}: a read")
            check(peer.error_of(FLUSH) == 0 and peer.error_of(DST_PING) == 0, f"{who}: a flush")
        check_fails(errno.EPERM, "a plain client's write", plain.write, 0, bytes(4096))
        check_same(plain.read(0, 4096), data, "a plain client's read")
        plain.flush()
        one.write(0, bytes(4096))
        # Another session of the same life is the holder, too.
        with checked(daemon.port, "disk", Session(ONE, 1, 5, 0xcafe)) as other_node:
            other_node.write(4096, data)
        shown = daemon.status()["exports"][0]
        check(shown["reserved_by"] == f"{ONE:016x}" and shown["reservation"] == 1, f"{shown}")
        check(one.release(1)[:2] == (Reservation(1, 0, 0, 0, 0, 0), 0), "the release")
        two.write(0, data)
        plain.write(0, data)
        shown = daemon.status()["exports"][0]
        check(shown["reserved_by"] == "" and shown["reservation"] == 1, f"{shown}")


@test
def a_claim_compares_the_number_and_names_the_holder(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE) as one, head(daemon.port, TWO) as two:
        check_refused(one.claim(1), "number is 0, not 1", 0)
        check_granted(one.claim(0), 1, ONE)
        check_granted(one.claim(1), 1, ONE)  # it has it already
        check_refused(two.claim(0, flags=FLAG_FORCE), "number is 1, not 0", 1)
        check_refused(two.claim(1), f"head {ONE:016x} (start 1) has it", 1)
        check_refused(two.release(1), f"head {ONE:016x} (start 1) has it", 1)
        check_refused(one.release(0), "number is 1", 1)
        check_granted(two.claim(1, flags=FLAG_FORCE), 2, TWO)


@test
def who_is_displaced_is_closed_before_the_answer_and_served_when_it_comes_again(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE) as one, head(daemon.port, TWO) as two, \
            head(daemon.port, 0x3333) as bystander:
        one.claim(0)
        check_granted(two.claim(1, flags=FLAG_FORCE), 2, TWO)
        check(one.is_closed(0.5), "the displaced head's session stays open")
        check(bystander.error_of(DST_PING) == 0, "a bystander")
        with head(daemon.port, ONE, session=2) as again:
            told = again.reservation()
            check(told.head == TWO and told.number == 2 and told.flags == HELD | OPEN, f"{told}")
            check(again.error_of(WRITE, 0, payload=bytes(512)) == errno.EPERM, "its write")
            check_refused(again.claim(1), "number is 2", 2)


@test
def the_next_life_of_a_head_takes_its_own_at_once(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE, incarnation=5) as old, \
            checked(daemon.port, "disk", Session(ONE, 6, 1, 0xcafe)) as new:
        check_granted(old.claim(0), 1, ONE)
        check_granted(new.claim(1), 2, ONE)
        check(old.is_closed(0.5), "the earlier life's session, of another node, stays open")
        with head(daemon.port, ONE, incarnation=5, session=9) as late:
            check_refused(late.claim(2), "(start 6) has it", 2)
            check(late.error_of(WRITE, 0, payload=bytes(512)) == errno.EPERM, "its write")


@test
def who_is_gone_for_its_takeover_may_be_displaced(lab):
    daemon = exporter(lab)
    with head(daemon.port, TWO) as two:
        with head(daemon.port, ONE) as one:
            check_granted(one.claim(0, takeover=800), 1, ONE)
        gone_at = time.monotonic()
        check_refused(two.claim(1), "has been gone for", 1)

        def is_granted():
            now, code, _text = two.claim(1)
            check(code == 0 or now.gone < 800, f"refused although {now}")
            return code == 0
        wait_until("the claim is granted", is_granted, 5)
        took = time.monotonic() - gone_at
        check(0.6 < took < 2, f"granted after {took:.2f} s")


@test
def a_holder_that_says_nothing_for_its_takeover_counts_as_gone(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE) as one, head(daemon.port, TWO) as two:
        check_granted(one.claim(0, takeover=900), 1, ONE)
        for _ in range(6):  # it speaks
            time.sleep(0.3)
            check(one.error_of(DST_PING) == 0, "ping")
            check_refused(two.claim(1), "is connected", 1)
        silent_since = time.monotonic()
        wait_until("the claim is granted", lambda: two.claim(1)[1] == 0, 5)
        check(time.monotonic() - silent_since > 0.8, "granted too early")
        check(one.is_closed(0.5), "its session stays open")


@test
def number_and_holder_survive_the_end_of_the_exporter(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE) as one, head(daemon.port, ONE, export="other") as other:
        one.claim(0, takeover=60_000)
        one.release(1)
        check_granted(one.claim(1, takeover=60_000), 2, ONE)
        check_granted(other.claim(0), 1, ONE)
    for end in (daemon.kill, daemon.stop):
        end()
        daemon.start()
        with head(daemon.port, TWO) as two:
            told = two.reservation()
            check(told[:4] == (2, ONE, 1, 60_000) and told.flags == HELD, f"{told}")
            check(told.gone < 20_000, f"gone since before the server was started: {told}")
            check(two.error_of(WRITE, 0, payload=bytes(512)) == errno.EPERM, "a write")
            check_refused(two.claim(2), "has been gone for", 2)
        with head(daemon.port, TWO, export="other") as two:
            check(two.reservation().number == 0, "what memory had is gone, its reservation too")
    # The export's name does not matter, nor does a removal.
    daemon.do("export", "remove", "disk")
    daemon.do("export", "add", "renamed", "--device", lab.path("disk"))
    with head(daemon.port, TWO, export="renamed") as two:
        check(two.reservation()[:2] == (2, ONE), f"{two.reservation()}")


@test
def a_damaged_reservation_is_refused_with_a_way_back_and_never_replaced(lab):
    daemon = exporter(lab)
    with head(daemon.port, ONE) as one:
        one.claim(0)
    folder = os.path.join(daemon.config["state_dir"], "reservations")
    [name] = os.listdir(folder)
    path = os.path.join(folder, name)
    good = content(path)
    daemon.stop()
    for damaged in (b"", good[:-1], good.replace(b"number 1", b"number 2"), bytes(100)):
        with open(path, "wb") as file:
            file.write(damaged)
        outcome = dst("daemon", "--config", daemon.config_path, timeout=20)
        check(outcome.code == 1, f"it starts with {damaged}")
        check(path in outcome.stderr and "restore it" in outcome.stderr, outcome.stderr)
        check(content(path) == damaged, "the file was changed")
    with open(path, "wb") as file:
        file.write(good)
    daemon.start()
    with head(daemon.port, TWO) as two:
        check(two.reservation()[:2] == (1, ONE), f"{two.reservation()}")


@test
def a_read_only_client_may_look_and_not_claim(lab):
    daemon = lab.daemon("exporter", export=[{"name": "disk", "device": "memory:8M", "access": [
        {"from": "127.0.0.3/32", "mode": "ro"}, {"from": "127.0.0.0/8", "mode": "rw"}]}])
    with head(daemon.port, ONE, source="127.0.0.3") as peer:
        check(peer.reservation().number == 0, "its look")
        for command, length in ((DST_CLAIM, 1000), (DST_RELEASE, 0)):
            check(peer.error_of(command, 0, length) == errno.EPERM, f"command {command:#x}")


@test
def a_claim_is_answered_only_when_no_change_of_others_is_in_flight(lab):
    daemon = slow_exporter(lab)
    with head(daemon.port, ONE) as one, Client(daemon.uri("disk")) as plain:
        late = plain.start_write(0, b"\xaa" * 4096)
        time.sleep(0.2)
        begin = time.monotonic()
        cookie = one.request(DST_CLAIM, 0, 10_000)
        # Meanwhile it is in force, and other requests go on.
        check(one.error_of(DST_PING) == 0, "ping")
        check_fails(errno.EPERM, "a plain client's next write", plain.write, 4096, bytes(4096))
        check_granted(one.ruling(cookie), 1, ONE)
        took = time.monotonic() - begin
        check(took > 1.5, f"answered after {took:.1f} s, while another's write runs")
        one.write(0, b"\xbb" * 4096)
        plain.wait(late, "the write that was let in before")
        check_same(one.read(0, 4096), b"\xbb" * 4096, "the holder's write")


@test
def the_reservation_of_a_storage_is_one_for_all_its_exports(lab):
    daemon = lab.daemon("exporter", storage=[
        {"name": "vol", "algorithm": "linear", "nodes": ["L: " + lab.file("half", SIZE // 2),
                                                         "L: " + lab.file("rest", SIZE // 2)]}],
        export=[{"name": "disk", "device": "storage:vol"},
                {"name": "too", "device": "storage:vol"}])
    daemon.wait_storage("vol")
    with head(daemon.port, ONE) as one, head(daemon.port, TWO, export="too") as two:
        check_granted(one.claim(0), 1, ONE)
        check(two.error_of(WRITE, MIB, payload=bytes(512)) == errno.EPERM, "around it")
        check_granted(two.claim(1, flags=FLAG_FORCE), 2, TWO)
        check(one.is_closed(0.5), "the session at the other export stays open")
    daemon.kill()
    daemon.start()
    daemon.wait_storage("vol")
    with head(daemon.port, ONE) as one:
        check(one.reservation()[:2] == (2, TWO), f"{one.reservation()}")


main()
