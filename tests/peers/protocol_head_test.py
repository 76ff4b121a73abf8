#!/usr/bin/python3
"""docs/protocol.md, held against a head: its remote node is an exporter that was written from the
document (protocol_exporter.py) and judges every frame that it gets.
"""

import errno
import itertools
import struct
import time

import protocol_peer as wire
from protocol_digest import xxh3_128
from protocol_exporter import CHANGES, Exporter
from protocol_peer import (CHECKSUMS, DST_PING, FLUSH, OPT_DST_HELLO, OPT_GO,
                           OPT_SET_META_CONTEXT, READ, WRITE, Session, checked)
from peer_lab import (MIB, Client, check, check_fails, check_same, exercise, read_all, running_head_of,
                      head_of, wait_for_reason)
from lab import main, test, wait_until

SIZE = 4 * MIB


def exporter_of(lab, **fields):
    exporter = lab.enter(Exporter(lab.port(), SIZE))
    exporter.answer = exporter.answer._replace(**fields)
    return exporter


def node_of(exporter):
    return f"R: 127.0.0.1:{exporter.port}/{exporter.name}"


def newest(exporter, count):
    """The connection that is the `count`th, once it carries requests."""
    wait_until(f"the head has connected {count} times", lambda: len(exporter.connections) >= count)
    return exporter.connections[count - 1]


def check_no_violation(exporter):
    check(not exporter.violations, f"the head breaks the protocol: {exporter.violations}")


@test
def the_head_says_hello_before_go_and_speaks_in_checksummed_frames(lab):
    exporter = exporter_of(lab)
    head = running_head_of(lab, node_of(exporter))
    [connection] = exporter.connections
    options = connection.options
    check(options.index(OPT_DST_HELLO) < options.index(OPT_GO), f"options {options}")
    check(connection.session and connection.checksums, "no session, or no checksums")
    [node] = head.storage("vol")["nodes"]
    check(set(node["flags"]) == {"connected", "checksum"}, f"flags {node['flags']}")
    check(f"{connection.session.node:016x}" == node["cookie"], "the node's id is its cookie")
    model = bytearray(SIZE)
    with Client(head.uri("vol")) as client:
        exercise(client, lab, model, 150)
        check_same(read_all(client), model, "what the head reads")
    check_same(exporter.disk, model, "what the exporter has")
    check(len(exporter.connections) == 1, "the head has connected more than once")
    check_no_violation(exporter)
    head.stop()
    check_same(exporter.durable, model, "what is durable after the head has stopped")


@test
def head_node_incarnation_and_session_are_as_the_document_says(lab):
    exporter = exporter_of(lab)
    # The same export twice is refused, but a head can't know all names of a host.
    head = running_head_of(lab, node_of(exporter),
                           node_of(exporter).replace("127.0.0.1", "127.0.0.2"))
    wait_until("both nodes are connected", lambda: len(exporter.connections) == 2)
    one, two = (connection.session for connection in exporter.connections)
    check(one.head == two.head and one.incarnation == two.incarnation, f"{one}, {two}")
    check(one.node != two.node, "two nodes of one head would displace each other")
    head.kill()
    head.start()
    head.wait_storage("vol")
    later = [connection.session for connection in exporter.connections[2:]]
    check(len(later) == 2 and {each.node for each in later} == {one.node, two.node}, f"{later}")
    for each in later:
        check(each.head == one.head, "the head's id changed over a restart")
        check(each.incarnation > one.incarnation, "a restart is no new incarnation")
    check_no_violation(exporter)


@test
def a_reply_with_any_field_corrupted_is_not_believed_and_the_request_is_made_again(lab):
    exporter = exporter_of(lab)
    head = running_head_of(lab, node_of(exporter))
    data = lab.random.randbytes(SIZE)
    with Client(head.uri("vol")) as client:
        client.write(0, data)
        client.flush()
        # Of a chunk: each byte of header and checksums, and some of the payload behind them.
        places = [(READ, at) for at in (*range(28), 28, 36, 36 + 2048, 36 + 4095)]
        places += [(WRITE, at) for at in range(28)]
        for number, (command, at) in enumerate(places):
            spoiled = []

            def spoil(_connection, request, frame, command=command, at=at, spoiled=spoiled):
                if request.command != command or spoiled:
                    return frame
                spoiled.append(request)
                frame = bytearray(frame)
                frame[at] ^= 1 << lab.random.randrange(8)
                return bytes(frame)
            exporter.spoil = spoil
            before = exporter.connections[-1]
            what = f"a reply to command {command}, byte {at}"
            if command == READ:
                check_same(client.read(MIB, 4096), data[MIB:MIB + 4096], what)
            else:
                client.write(0, data[:4096])
            check(spoiled, f"{what}: nothing was corrupted")
            after = newest(exporter, number + 2)
            check(after.session.session > before.session.session and
                  after.session.incarnation == before.session.incarnation,
                  f"{what}: session {after.session} after {before.session}")
    check_same(exporter.disk, data, "the exporter's disk")
    check_no_violation(exporter)


@test
def after_a_lost_connection_the_same_instance_gets_only_what_was_not_answered(lab):
    exporter = exporter_of(lab)
    head = running_head_of(lab, node_of(exporter))
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(MIB)
        client.write(0, data)
        exporter.on_request = lambda _connection, request: request.offset != MIB
        waiting = client.start_write(MIB, data[:4096])
        wait_until("the write has come", lambda: exporter.connections[0].unanswered)
        exporter.on_request = lambda _connection, _request: True
        exporter.drop()
        client.wait(waiting, "the write that was not answered")
        changes = [request for request in newest(exporter, 2).requests
                   if request.command in CHANGES]
        check([(change.offset, change.length) for change in changes] == [(MIB, 4096)],
              f"made again: {changes}")
    check_same(exporter.disk[:MIB + 4096], data + data[:4096], "the exporter's disk")
    check_no_violation(exporter)


@test
def a_change_is_refused_as_not_permitted_while_another_head_has_reserved_the_disk(lab):
    exporter = exporter_of(lab)
    head = running_head_of(lab, node_of(exporter))
    data = lab.random.randbytes(4096)
    with Client(head.uri("vol")) as client, \
            checked(exporter.port, exporter.name, Session(0x2222, 1, 1, 1)) as other:
        client.write(0, data)
        now, code, text = other.claim(0)
        check(code == 0 and now.number == 1, f"the claim: {now}, {text}")
        check_fails(errno.EPERM, "a write", client.write, 0, bytes(4096))
        check_same(client.read(0, 4096), data, "a read")
        client.flush()
        check(other.release(1)[1] == 0, "the release")
        client.write(0, bytes(4096))
        check(other.digest(0, 4096) == xxh3_128(bytes(4096)), "the digest")
    check_no_violation(exporter)


def blocks_of(changes):
    """The numbers of the blocks that they change, of each change one after another."""
    return [block for change in changes
            for block in range(change.offset // 4096, (change.offset + change.length) // 4096)]


@test
def another_instance_first_gets_what_was_written_and_not_flushed_once(lab):
    exporter = exporter_of(lab)
    head = running_head_of(lab, node_of(exporter))
    model = bytearray(SIZE)
    with Client(head.uri("vol")) as client:
        for turn in range(5):
            exercise(client, lab, model, 20)
            client.flush()
            flushed = len(exporter.connections[-1].requests)
            # Overlapping, so that the order shows.
            for _ in range(30):
                at, length = lab.random.randrange(64) * 4096, 4096 * lab.random.randrange(1, 16)
                data = lab.random.randbytes(length)
                client.write(at, data)
                model[at:at + length] = data
            lost = blocks_of([request for request in exporter.connections[-1].requests[flushed:]
                              if request.command in CHANGES])
            exporter.crash()
            check_same(client.read(0, MIB), model[:MIB], f"turn {turn}: after the crash")
            # Before anything else, and of each block the newest change alone.
            again = list(itertools.takewhile(lambda request: request.command in CHANGES,
                                             newest(exporter, turn + 2).requests))
            made = blocks_of(again)
            check(sorted(made) == sorted(set(lost)), f"turn {turn}: lost {lost}, made again {made}")
            check_same(read_all(client), model, f"turn {turn}: all of it")
    check_no_violation(exporter)


@test
def an_idle_head_pings_and_one_without_an_answer_connects_anew(lab):
    exporter = exporter_of(lab)
    pings = []
    exporter.on_request = lambda _connection, request: (
        pings.append(request) if request.command == DST_PING else None) or True
    head = running_head_of(lab, node_of(exporter))
    wait_until("an idle head has pinged twice", lambda: len(pings) >= 2, 8)
    check(len(exporter.connections) == 1, "a connection whose pings are answered was given up")
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(4096)
        # As a paused exporter: it takes all and answers nothing.
        silent = exporter.connections[0]
        exporter.on_request = lambda connection, _request: connection is not silent
        begin = time.monotonic()
        client.write(0, data)
        took = time.monotonic() - begin
        check(took < 8, f"a silent exporter was noticed after {took:.1f} s")
        check(newest(exporter, 2).session.session > silent.session.session, "sessions")
        check_same(client.read(0, 4096), data, "what was written")
    check_no_violation(exporter)


@test
def no_refusal_but_unsup_is_worked_around(lab):
    exporter = exporter_of(lab)
    refusals = {wire.REP_ERR_INVALID: "it is malformed", wire.REP_ERR_UNKNOWN: "no such thing",
                wire.REP_ERR_POLICY: "not you", wire.REP_ERR_SHUTDOWN: "going away"}
    exporter.refusal = (wire.REP_ERR_POLICY, refusals[wire.REP_ERR_POLICY])
    head = head_of(lab, node_of(exporter))
    for reply, text in refusals.items():
        exporter.refusal = (reply, text)
        wait_for_reason(head, text, "waiting")
    check(not any(OPT_GO in connection.options for connection in exporter.connections),
          "it goes on without HELLO after a refusal")
    exporter.refusal = None
    head.wait_storage("vol", "running", 15)
    check_no_violation(exporter)
    head.stop()
    exporter.refusal = (wire.REP_ERR_UNSUP, "what?")
    head.start()
    storage = head.wait_storage("vol", "running", 15)
    check("unprotected" in storage["nodes"][0]["flags"], f"{storage['nodes']}")
    with Client(head.uri("vol")) as client:
        client.write(0, bytes(4096))
    check_no_violation(exporter)


def is_not_believed(lab, answers):
    """`answers`: of HELLO, each malformed in its way."""
    exporter = exporter_of(lab)
    for what, answer in answers.items():
        exporter.answer_data, before = answer, len(exporter.connections)
        head = head_of(lab, node_of(exporter), name=what.replace(" ", "-"))
        wait_until(f"{what}: two attempts", lambda: len(exporter.connections) >= before + 2)
        check(head.storage("vol")["state"] == "waiting", f"{what}: {head.storage('vol')}")
        head.stop()
        check(not any(OPT_GO in connection.options for connection in exporter.connections),
              f"{what}: it goes on")


GOOD_ANSWER = struct.pack(">HHQQI", 1, CHECKSUMS, 5, 77, 64)


@test
def a_malformed_answer_to_hello_is_not_believed(lab):
    is_not_believed(lab, {
        "23 bytes": GOOD_ANSWER[:-1], "25 bytes": GOOD_ANSWER + b"\0",
        "version 0": b"\0\0" + GOOD_ANSWER[2:], "version 2": b"\0\2" + GOOD_ANSWER[2:],
        "requests_max 0": GOOD_ANSWER[:20] + bytes(4)})


@test
def instance_0_is_not_believed(lab):
    """It would be the same over all restarts, and nothing that one of them lost be replayed."""
    is_not_believed(lab, {"instance 0": GOOD_ANSWER[:4] + bytes(8) + GOOD_ANSWER[12:]})


@test
def without_granted_checksums_frames_are_plain_and_the_rest_holds(lab):
    exporter = exporter_of(lab, flags=0)
    head = running_head_of(lab, node_of(exporter))
    [node] = head.storage("vol")["nodes"]
    check(set(node["flags"]) == {"connected"}, f"flags {node['flags']}")
    model = bytearray(SIZE)
    with Client(head.uri("vol")) as client:
        exercise(client, lab, model, 100)
        exporter.crash()
        check_same(read_all(client), model, "after a crash")
    first, second = (connection.session for connection in exporter.connections)
    check(second.session > first.session, f"{first}, {second}")
    check_no_violation(exporter)


@test
def granted_checksums_stand_for_structured_replies(lab):
    """Where checksums are granted, contexts may be selected at once."""
    exporter = exporter_of(lab)
    running_head_of(lab, node_of(exporter))
    options = exporter.connections[0].options
    check(OPT_SET_META_CONTEXT in options, f"options {options}")
    check(wire.OPT_STRUCTURED_REPLY not in options, f"options {options}")


@test
def another_disk_is_refused_until_the_right_one_is_back(lab):
    exporter = exporter_of(lab)
    head = running_head_of(lab, node_of(exporter))
    with Client(head.uri("vol")) as client:
        data = lab.random.randbytes(4096)
        client.write(0, data)
        exporter.answer = exporter.answer._replace(identity=78, instance=2)
        exporter.drop()
        cookie = client.start_write(4096, data)
        wait_for_reason(head, "another disk", "holding")
        check(not newest(exporter, 2).requests, "the wrong disk got requests")
        exporter.answer = exporter.answer._replace(identity=77)
        client.wait(cookie, "the write that waited")
        # One that does not know what it is may be the right one.
        exporter.answer = exporter.answer._replace(identity=0, instance=3)
        exporter.drop()
        check_same(client.read(0, 8192), 2 * data, "the right disk")
    check_no_violation(exporter)


@test
def never_more_requests_are_in_flight_than_the_exporter_takes(lab):
    for most in (1, 3, 64):
        exporter = exporter_of(lab, requests_max=most)
        head = running_head_of(lab, node_of(exporter), name=f"head{most}")
        waiting = []

        def hold(connection, request, waiting=waiting):
            waiting.append((connection, request))
            return False
        exporter.on_request = hold
        with Client(head.uri("vol")) as client:
            cookies = [client.start_write(at * 4096, bytes(4096)) for at in range(100)]
            answered = 0
            while answered < 100:
                expected = min(most, 100 - answered)
                wait_until(f"{expected} requests have come", lambda n=expected: len(waiting) >= n)
                check(len(waiting) <= most, f"{len(waiting)} requests, the maximum is {most}")
                for connection, request in [waiting.pop(0) for _ in range(len(waiting))]:
                    connection.answer(request)
                    answered += request.command == WRITE
            for cookie in cookies:
                client.wait(cookie, "a write")
            exporter.on_request = lambda _connection, _request: True
            client.flush()
        highest = max(connection.unanswered_most for connection in exporter.connections)
        check(highest <= most, f"{highest} requests were in flight, the maximum is {most}")
        check(any(request.command == FLUSH for request in exporter.connections[0].requests),
              "no flush came")
        check_no_violation(exporter)


main()
