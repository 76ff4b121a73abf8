#!/usr/bin/python3
"""A link stalls without closing: the head notices, requests wait, and go on when it is back.

Head and exporter are on hosts of their own (network namespaces), the cable between them is a veth
pair. Load runs all the time; after each fault everything is verified.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test, wait_until
from lab_link import EXPORTER, Link

NOTICED_MAX_S = 6.0
BACK_MAX_S = 15.0  # an attempt to connect (5 s) that began before, and the longest back-off (5 s)


def break_and_mend(lab, break_link, mend_link):
    """One fault under load, between a head and an exporter that are connected by `link`."""
    link = lab.enter(Link(lab.path("link.log")))
    exporter = lab.lossy_exporter("exporter", lab.file("disk", "64M"), "disk", latency_us=500,
                                  host=EXPORTER, argv_prefix=link.on("exporter"))
    head = lab.daemon(
        "head", argv_prefix=link.on("head"),
        storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                  "nodes": [exporter.remote()]}],
        export=[{"name": "vol", "device": "storage:vol"}])
    head.wait_storage("vol")
    fio = lab.fio("fio", head.uri("vol"), size="64M", argv_prefix=link.on("head"))
    wait_until("the exporter is busy", lambda: exporter.tally().changes > 1000)

    break_link(link)
    begin = time.monotonic()

    def noticed():
        node = head.node("vol", exporter.remote())
        if not node["connected"] and node["reason"]:
            return node["reason"]
        raise Failure(f"the node is shown as connected: {node}")
    reason = wait_until("the head notices", noticed, NOTICED_MAX_S)
    noticed_after = time.monotonic() - begin
    check(" " in reason, f"the reason is no sentence that anybody understands: {reason!r}")
    wait_until("requests wait", lambda: head.waiting_requests("vol") > 0)
    time.sleep(2)  # as long as that, and longer than the first attempts to connect
    check(fio.is_running(), f"fio ended although nothing can have been answered:\n"
                            f"{fio.process.log_text()}")
    check(not head.node("vol", exporter.remote())["connected"], f"{head.storage('vol')}")

    mend_link(link)
    begin = time.monotonic()
    head.wait_connected("vol", exporter.remote(), BACK_MAX_S)
    back_after = time.monotonic() - begin
    fio.wait()
    exporter.check_sessions()
    lab.say(f"noticed after {noticed_after:.1f} s ({reason}), back {back_after:.1f} s after it")


@test
def the_cable_is_pulled_out_of_the_exporter(lab: Lab):
    break_and_mend(lab, lambda link: link.pull_out("exporter"),
                   lambda link: link.plug_in("exporter"))


@test
def the_cable_is_pulled_out_of_the_head(lab: Lab):
    break_and_mend(lab, lambda link: link.pull_out("head"), lambda link: link.plug_in("head"))


@test
def what_the_head_sends_is_lost(lab: Lab):
    break_and_mend(lab, lambda link: link.swallow_from("head"),
                   lambda link: link.deliver_from("head"))


@test
def what_the_exporter_sends_is_lost(lab: Lab):
    break_and_mend(lab, lambda link: link.swallow_from("exporter"),
                   lambda link: link.deliver_from("exporter"))


@test
def all_packets_are_lost_both_ways(lab: Lab):
    def break_link(link):
        link.swallow_from("head")
        link.swallow_from("exporter")

    def mend_link(link):
        link.deliver_from("head")
        link.deliver_from("exporter")
    break_and_mend(lab, break_link, mend_link)


main()
