#!/usr/bin/python3
"""An exporter is killed again and again under load: no request fails, nothing is lost.

A kill counts only if requests were in flight: sent by the head, not answered by the exporter.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test, wait_until
from lab_load import fault_under_load
from lab_net import is_connected, unread_bytes

KILLS = 20


def start_head(lab, *exporters):
    return lab.daemon(
        "head",
        storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                  "nodes": [exporter.remote("disk") for exporter in exporters]}],
        export=[{"name": "vol", "device": "storage:vol"}])


@test
def requests_in_flight_at_20_kills_of_the_exporter_are_all_answered(lab: Lab):
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", "64M")}])
    head = start_head(lab, exporter)
    head.wait_storage("vol")

    def requests_are_unread():
        # Frozen before the kill, so that what is in flight can be looked at: bytes that the head
        # has sent lie unread in the exporter's sockets.
        exporter.pause()
        deadline = time.monotonic() + 0.5
        while (unread := unread_bytes(exporter.port)) == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        exporter.kill()
        return unread

    def requests_wait_now():
        # Killed while it runs, in the middle of whatever it did.
        if not is_connected(exporter.port):
            return 0
        exporter.kill()
        deadline = time.monotonic() + 0.5
        while (waiting := head.waiting_requests("vol")) == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        return waiting

    def kill_once():
        how = lab.random.choice([requests_are_unread, requests_wait_now])
        proof = how()
        if not exporter.process.is_running():
            exporter.start()
        if lab.random.random() < 0.7:  # else killed again before, or while, the head comes back
            head.wait_connected("vol", exporter.remote("disk"))
        return proof and how.__name__

    kills = fault_under_load(lab, head.uri("vol"), area=32 << 20, areas=2, times=KILLS,
                            fault=kill_once)
    lab.say(f"proofs: {kills.count('requests_are_unread')} frozen with unread requests, "
            f"{kills.count('requests_wait_now')} running with requests that waited afterwards")
    head.stop()
    exporter.stop()


@test
def an_exporter_that_is_gone_for_long_is_waited_for(lab: Lab):
    near = lab.daemon("near", export=[{"name": "disk", "device": lab.file("near-disk", "32M")}])
    far = lab.daemon("far", export=[{"name": "disk", "device": lab.file("far-disk", "32M")}])
    head = start_head(lab, near, far)
    head.wait_storage("vol")
    far.kill()
    fio = lab.fio("fio", head.uri("vol"), size="64M")
    wait_until("16 requests wait for the one that is gone",
               lambda: head.waiting_requests("vol") == 16)
    state = head.storage("vol")
    nodes = {node["type"]: node for node in state["nodes"]}
    check(nodes[near.remote("disk")]["connected"] and not nodes[far.remote("disk")]["connected"],
          f"the wrong node is shown as gone: {state}")
    check("refused" in nodes[far.remote("disk")]["reason"],
          f"the reason does not say that the connection is refused: {state}")
    time.sleep(4)  # several attempts to connect
    check(fio.is_running() and head.waiting_requests("vol") == 16,
          f"requests did not wait: {head.storage('vol')}")
    far.start()
    fio.wait()
    check(head.storage("vol")["state"] == "running", f"{head.storage('vol')}")


main()
