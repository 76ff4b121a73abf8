#!/usr/bin/python3
"""`dst what-if` says what then happens: each loss that it tells of is made, and compared with it."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test, wait_until
from lab_mirror import STORAGE, fill, start_exporters, start_mirror, wait_in_sync

SIZE = 16 << 20
DATA = 8 << 20


def losses(head):
    """{(kind, name): loss}"""
    found = json.loads(head.do("what-if", STORAGE, "--json"))
    check(found["storage"] == STORAGE and found["algorithm"], f"{found}")
    return {(loss["kind"], loss["name"]): loss for loss in found["losses"]}


WRITER = """
import nbd, sys
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
handle.pwrite(b"x" * 512, 0)
handle.flush()
"""


def is_answered(lab, head):
    """Whether a write and a flush are answered within some times the grace."""
    writer = lab.process("writer", [sys.executable, "-c", WRITER, head.uri(STORAGE)])
    try:
        wait_until("a write is answered", lambda: not writer.is_running(), 4.0, 0.05)
    except Failure:
        writer.kill()
        return False
    check(writer.exit_code == 0, "the write failed")
    return True


def lose(lab, quorum, count):
    exporters = start_exporters(lab, 3, SIZE)
    head = start_mirror(lab, [each.remote("disk") for each in exporters], grace="1s",
                        quorum=quorum)
    fill(lab, head, DATA)
    for gone in exporters[:count]:
        told = losses(head)[("node", gone.remote("disk"))]
        before = head.storage(STORAGE)
        check(told["at_risk"] == 0 or told["copies"] == 0, f"{told}")
        gone.kill()
        check(is_answered(lab, head) == told["writable"],
              f"{quorum}: what-if said {told} before {gone.name} was killed; before: {before}")
        if not told["writable"]:
            check("requests wait" in told["reason"], told["reason"])
            break
        in_sync = [node for node in head.storage(STORAGE)["nodes"] if node["state"] == "sync"]
        check(len(in_sync) == told["copies"], f"{told}, and then {in_sync}")
    # What it says of a start meanwhile, tried.
    told_restart = told["starts"]
    head.kill()
    head.start()
    if told_restart:
        head.wait_storage(STORAGE, "degraded")
    else:
        wait_until("it says whom it waits for",
                   lambda: "waits for" in head.wait_storage(STORAGE, "waiting")["reason"])
        refused = head.dst("what-if", STORAGE)
        check(refused.code == 1 and "waits for" in refused.stderr, f"{refused}")
    # And of one when all are back.
    for each in exporters[:count]:
        each.start()
    check(told["starts_after"], f"{told}")
    wait_in_sync(head)


@test
def under_a_majority_one_loss_is_survived_and_the_second_is_waited_for(lab: Lab):
    lose(lab, "majority", 2)


@test
def without_votes_the_last_attached_node_is_waited_for(lab: Lab):
    lose(lab, "none", 3)


@test
def what_one_node_alone_has_is_at_risk_with_it(lab: Lab):
    exporters = start_exporters(lab, 2, SIZE)
    head = start_mirror(lab, [each.remote("disk") for each in exporters], grace="1s")
    away, only = exporters
    away.kill()
    fill(lab, head, DATA)
    told = losses(head)[("node", only.remote("disk"))]
    check(told["at_risk"] * 512 == DATA, f"{told}")
    check(not told["writable"] and told["copies"] == 0, f"{told}")
    back = losses(head)[("node", away.remote("disk"))]
    check(back["resync"] * 512 >= DATA and back["writable"] and back["pause"] == 0, f"{back}")
    link = losses(head)[("link", "127.0.0.1")]
    check(link["at_risk"] == 0 and link["whole"] == 0 and not link["writable"], f"{link}")
    away.start()
    wait_in_sync(head)
    # It is attached from when an age that names it is sent, and may be lost when that is in force.
    wait_until("the other one may be lost",
               lambda: losses(head)[("node", only.remote("disk"))]["writable"])
    told = losses(head)[("node", only.remote("disk"))]
    check(told["at_risk"] == 0 and told["copies"] == 1 and told["pause"] == 1, f"{told}")
    host = losses(head)[("host", "")]
    check(not host["writable"] and host["starts_after"], f"{host}")


@test
def a_linear_storage_waits_for_each_of_its_nodes(lab: Lab):
    exporter, = start_exporters(lab, 1, SIZE)
    head = lab.daemon("head", storage=[{"name": STORAGE, "algorithm": "linear", "nodes": [
        "L: memory:1M", exporter.remote("disk")]}])
    head.wait_storage(STORAGE)
    told = losses(head)
    local = told[("node", "L: memory:1M")]
    check(local["at_risk"] == 2048 and not local["writable"] and not local["starts"],
          f"{local}")
    check(told[("link", "127.0.0.1")]["at_risk"] == 0, f"{told}")
    check("REQUESTS" in head.do("what-if", STORAGE), "no table")
    unknown = head.dst("what-if", "nothing")
    check(unknown.code == 1 and "nothing" in unknown.stderr, f"{unknown}")


main()
