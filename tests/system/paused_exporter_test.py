#!/usr/bin/python3
"""An exporter is paused (SIGSTOP) under load: its link stalls without closing.

The head notices, requests wait, and go on after it. What the head has replaced meanwhile, the old
connection of the paused exporter, may not write any more once the new session is answered.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test, wait_until
from lab_load import fault_under_load
from lab_net import connections

NOTICED_MAX_S = 6.0  # a ping after 1 s of silence, lost after 3 s of it


def start_head(lab, remote):
    head = lab.daemon(
        "head",
        storage=[{"name": "vol", "algorithm": "linear", "metadata": "none", "nodes": [remote]}],
        export=[{"name": "vol", "device": "storage:vol"}])
    head.wait_storage("vol")
    return head


def wait_noticed(head, remote, since):
    """Waits until the head shows the node as not connected; returns its reason."""
    def noticed():
        node = head.node("vol", remote)
        if not node["connected"]:
            return node
        raise Failure(f"the node is shown as connected: {node['reason']}")
    node = wait_until("the head notices the silence", noticed,
                      NOTICED_MAX_S - (time.monotonic() - since))
    check("connected" not in node["flags"], f"a flag contradicts its state: {node}")
    check(node["reason"], f"the node is shown as not connected, without a reason: {node}")
    return node["reason"]


@test
def a_paused_exporter_is_noticed_and_displaced_and_writes_no_ghosts(lab: Lab):
    exporter = lab.lossy_exporter("exporter", lab.file("disk", "64M"), "disk", latency_us=2000)
    head = start_head(lab, exporter.remote())
    times = []

    def pause_once():
        exporter.pause()
        begin = time.monotonic()
        if exporter.tally().changes_in_flight == 0:
            exporter.resume()
            return None
        reason = wait_noticed(head, exporter.remote(), begin)
        times.append(time.monotonic() - begin)
        check("silent" in reason or "answer" in reason or "handshake" in reason
              or "hands" in reason, f"the reason does not speak of silence: {reason}")
        wait_until("requests wait in the head", lambda: head.waiting_requests("vol") > 0)
        # The old connection, which the exporter has not seen ending yet, and its successor.
        wait_until("the head has connected anew", lambda: sorted(
            connection.is_ended for connection in connections(exporter.port)) == [False, True])
        exporter.resume()
        head.wait_connected("vol", exporter.remote())
        return True

    fault_under_load(lab, head.uri("vol"), area=32 << 20, areas=2, times=5, fault=pause_once)
    sessions = exporter.check_sessions()
    lab.say(f"noticed after {', '.join(f'{t:.1f}' for t in times)} s; {sessions} sessions")
    check(sessions == 6, f"5 pauses made {sessions - 1} new sessions: {exporter.trace()}")


@test
def a_short_pause_breaks_nothing(lab: Lab):
    exporter = lab.lossy_exporter("exporter", lab.file("disk", "64M"), "disk", latency_us=500)
    head = start_head(lab, exporter.remote())

    def pause_once():
        exporter.pause()
        time.sleep(1.2)
        exporter.resume()
        return True

    fault_under_load(lab, head.uri("vol"), area=32 << 20, areas=2, times=5, fault=pause_once)
    check(exporter.check_sessions() == 1, f"it was displaced: {exporter.trace()}")


@test
def a_paused_foreign_server_is_noticed_and_waited_for(lab: Lab):
    server = lab.nbdkit("server", "memory", "32M")
    head = start_head(lab, server.remote("disk"))
    fio = lab.fio("fio", head.uri("vol"), size="32M")
    wait_until("fio has written something",
               lambda: head.status()["memory"]["used"] > 2 << 20 or not fio.is_running())
    server.pause()
    reason = wait_noticed(head, server.remote("disk"), time.monotonic())
    check(fio.is_running(), "fio did not wait for the paused server")
    lab.say(f"reason: {reason}")
    server.resume()
    fio.wait()
    head.wait_connected("vol", server.remote("disk"))


main()
