#!/usr/bin/python3
"""Sessions (docs/protocol.md, 1.4), held against an export by a peer that was written from the
document: nothing that an old connection carried may overwrite what a newer one writes.
"""

import contextlib
import time

import protocol_peer as wire
from protocol_peer import (DST_PING, OPT_DST_HELLO, WRITE, Peer, Refused, Session, checked,
                           hello_data)
from protocol_lab import check_refused, exporter, refusal, slow_exporter
from peer_lab import Client, check, check_same, content
from lab import main, test, wait_until

OWNER = Session(head=0xfeed, incarnation=7, session=100, node=0xbeef)


def session(**fields):
    return OWNER._replace(**fields)


@test
def an_older_session_is_closed_before_a_newer_one_is_answered(lab):
    daemon = exporter(lab)
    old = [checked(daemon.port, "disk", session()) for _ in range(3)]  # they share it
    with Peer(daemon.port) as unfinished:
        unfinished.hello("disk", session=session())  # joined, and still in the handshake
        for peer in old:
            peer.write(0, bytes(4096))
        with checked(daemon.port, "disk", session(session=101)) as new:
            for peer in [*old, unfinished]:
                check(peer.is_closed(0.5), "an older session was not closed before the answer")
            data = lab.random.randbytes(4096)
            new.write(0, data)
            check_same(new.read(0, 4096), data, "the new session")


@test
def a_later_session_refuses_an_older_hello(lab):
    daemon = exporter(lab)
    with checked(daemon.port, "disk", session()) as new:
        with Peer(daemon.port) as peer:
            for older in (session(session=99), session(session=0), session(incarnation=6),
                          session(incarnation=6, session=1 << 63)):
                check_refused(wire.REP_ERR_POLICY, f"{older}", peer, session=older)
            check(new.error_of(DST_PING) == 0, "the later session was harmed")
            # The same connection may come again with a later one.
            peer.hello("disk", session=session(session=101))
            peer.go("disk")
            check(new.is_closed(0.5), "the session that is older now stays open")
            check(peer.error_of(DST_PING) == 0, "ping")


@test
def sessions_are_ordered_as_unsigned_numbers_incarnation_first(lab):
    daemon = exporter(lab)
    rising = [Session(1, incarnation, number, 2) for incarnation, number in (
        (0, 0), (0, 1), (0, 0x7fffffffffffffff), (0, 0x8000000000000000), (0, (1 << 64) - 1),
        (1, 0), (0x100000000, 0), (0x8000000000000000, 5), ((1 << 64) - 1, 1))]
    before = None
    for each in rising:
        peer = checked(daemon.port, "disk", each)
        if before:
            check(before.is_closed(0.5), f"the session before {each} stays open")
        before = peer
        with Peer(daemon.port) as late:
            for older in rising[:rising.index(each)]:
                check_refused(wire.REP_ERR_POLICY, f"{older} after {each}", late, session=older)


@test
def others_are_not_displaced(lab):
    daemon = exporter(lab)
    bystanders = {
        "another node of this head": checked(daemon.port, "disk", session(node=1)),
        "another head": checked(daemon.port, "disk", session(head=1)),
        "another export": checked(daemon.port, "other", session()),
        "a HELLO without a session": checked(daemon.port, "disk")}
    with Client(daemon.uri("disk")) as plain, checked(daemon.port, "disk", session()) as old:
        with checked(daemon.port, "disk", session(session=101)):
            check(old.is_closed(0.5), "the older session stays open")
            for what, peer in bystanders.items():
                check(peer.error_of(DST_PING) == 0, f"{what}: ping")
                peer.read(0, 4096)
            plain.read(0, 4096)


@test
def an_older_session_may_open_once_the_later_one_is_gone(lab):
    daemon = exporter(lab)
    checked(daemon.port, "disk", session()).close()

    def opens():
        with Peer(daemon.port) as peer:
            return refusal(peer, "disk", session=session(session=1))[0] is None
    wait_until("a session that was closed counts no more", opens, 5)


@test
def a_newer_session_is_answered_only_after_all_older_requests_are_finished(lab):
    daemon = slow_exporter(lab)
    with checked(daemon.port, "disk", session()) as old, Peer(daemon.port) as new:
        old.request(WRITE, 0, payload=b"\xaa" * 4096)
        begin = time.monotonic()
        time.sleep(0.2)
        new.hello("disk", session=session(session=101))
        took = time.monotonic() - begin
        check(took > 1.8, f"answered after {took:.1f} s, while a request of the older one runs")
        check(old.is_closed(0.5), "the older session stays open")
        new.go("disk")
        seen = new.read(0, 4096)
        check(seen in (b"\xaa" * 4096, bytes(4096)), "the old write is there in part")
        new.write(0, b"\xbb" * 4096)
        check_same(new.read(0, 4096), b"\xbb" * 4096, "the new write")


@test
def of_several_sessions_that_wait_only_the_latest_is_answered(lab):
    daemon = slow_exporter(lab)
    with checked(daemon.port, "disk", session()) as old:
        old.request(WRITE, 0, payload=b"\xaa" * 4096)
        time.sleep(0.1)
        waiting = [Peer(daemon.port) for _ in range(4)]
        order = [101, 103, 102, 104]
        for number, peer in zip(order, waiting):
            peer.send_option(OPT_DST_HELLO, hello_data("disk", session=session(session=number)))
            time.sleep(0.1)
        latest = waiting.pop()
        latest.hello_answer()
        latest.go("disk")
        check(latest.error_of(DST_PING) == 0, "the latest")
        for number, peer in zip(order, waiting):
            try:
                peer.hello_answer()
                check(False, f"session {number} is answered beside session 104")
            except (Refused, ConnectionError) as outcome:
                check(not isinstance(outcome, Refused) or outcome.reply == wire.REP_ERR_POLICY,
                      f"session {number}: {outcome}")


@test
def half_a_write_of_an_older_session_is_discarded(lab):
    daemon = exporter(lab)
    for sent in (10, 36, 36 + 4096, 36 + 65535):
        old = checked(daemon.port, "disk", session(session=sent))
        old.send(old.frame(WRITE, 0, payload=b"\xaa" * 65536)[1].bytes()[:sent])
        begin = time.monotonic()
        with checked(daemon.port, "disk", session(session=sent + 1)) as new:
            check(time.monotonic() - begin < 2, "it is waited for what will never come")
            check(old.is_closed(0.5), "the older session stays open")
            check_same(new.read(0, 65536), bytes(65536), f"{sent} bytes of a write of 65572 came")


@test
def what_a_paused_exporter_holds_does_not_overwrite_what_a_newer_session_writes(lab):
    daemon = exporter(lab)
    for turn in range(20):
        old = checked(daemon.port, "disk", session(session=2 * turn))
        daemon.pause()
        # In the buffers of the kernel: writes of the old, and behind them the new one's HELLO.
        for block in range(64):
            old.request(WRITE, block * 4096, payload=b"\xaa" * 4096)
        new = Peer(daemon.port)
        new.send_option(OPT_DST_HELLO, hello_data("disk", session=session(session=2 * turn + 1)))
        daemon.resume()
        new.hello_answer()
        new.go("disk")
        fresh = lab.random.randbytes(64 * 4096)
        cookies = [new.request(WRITE, block * 4096, payload=fresh[block * 4096:][:4096])
                   for block in range(64)]
        check(all(new.error(cookie) == 0 for cookie in cookies), "the new writes")
        check_same(new.read(0, len(fresh)), fresh, f"turn {turn}, at once")
        with contextlib.suppress(ConnectionError):
            while True:
                old.receive_chunk()  # answers to what was executed before the HELLO, if any
        check_same(new.read(0, len(fresh)), fresh, f"turn {turn}, after the old one's end")
        old.close()
        new.close()
    check_same(content(lab.path("disk"))[:len(fresh)], fresh, "the file")


main()
