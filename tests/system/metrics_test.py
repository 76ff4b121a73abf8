#!/usr/bin/python3
"""/metrics and `dst events`: what is counted is what happened, in a format that Prometheus reads."""

import contextlib
import json
import os
import socket
import sys
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import DST, Lab, check, main, run, test, wait_until
from lab_api import Api, parse_metrics, value_of, wait_for_write

MIB = 1 << 20


@test
def requests_bytes_and_times_are_counted_at_each_stage(lab: Lab):
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("far", "16M")}])
    head = lab.daemon("head", storage=[
        {"name": "vol0", "algorithm": "linear", "metadata": "none",
         "nodes": [f"L: {lab.file('near', '16M')}", exporter.remote("disk")]}],
        export=[{"name": "vol0", "device": "storage:vol0"}])
    head.wait_storage("vol0")
    done = run(["qemu-io", "-f", "raw", "-t", "writeback", head.uri("vol0"),
                "-c", "write 1M 2M", "-c", "write 17M 1M", "-c", "read 17M 1M", "-c", "flush"])
    check(done.code == 0, f"{done}")

    at_head = Api(head).metrics()
    for kind in ({"storage": "vol0"}, {"export": "vol0"}):
        prefix = f"dst_{next(iter(kind))}"
        check(value_of(at_head, f"{prefix}_bytes_total", operation="write", **kind) == 3 * MIB,
              f"bytes written: {kind}")
        check(value_of(at_head, f"{prefix}_bytes_total", operation="read", **kind) >= MIB, "read")
        check(value_of(at_head, f"{prefix}_requests_total", operation="flush", **kind) >= 1,
              "flushes")
        check(value_of(at_head, f"{prefix}_errors_total", **kind) == 0, "errors")
    near, far = head.storage("vol0")["nodes"]
    for node, stages in [(near, ["disk"]), (far, ["node", "wire"])]:
        name = f"n-{node['start']}-{node['cookie']}"
        for stage in stages:
            labels = {"storage": "vol0", "node": name, "type": node["type"], "stage": stage}
            count = value_of(at_head, "dst_node_request_duration_seconds_count", operation="write",
                             **labels)
            check(count >= 1, f"{labels}: {count}")
            check(value_of(at_head, "dst_node_request_duration_seconds_sum", operation="write",
                           **labels) > 0, f"{labels}: took no time")
    for stage in ("queue", "total"):
        check(value_of(at_head, "dst_storage_request_duration_seconds_count", storage="vol0",
                       operation="write", stage=stage)
              == value_of(at_head, "dst_storage_requests_total", storage="vol0",
                          operation="write"), f"stage {stage}")
    at_exporter = Api(exporter).metrics()
    check(value_of(at_exporter, "dst_export_bytes_total", export="disk", operation="write") == MIB,
          "bytes written at the exporter")


@test
def lost_links_and_replays_are_counted_and_told(lab: Lab):
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("far", "16M")}])
    head = lab.daemon("head", storage=[
        {"name": "vol0", "algorithm": "linear", "metadata": "none",
         "nodes": [exporter.remote("disk")]}], export=[{"name": "vol0", "device": "storage:vol0"}])
    head.wait_storage("vol0")
    follower = lab.process("events", [DST, "events", "--follow", "--socket", head.socket_path])

    def told():
        return [json.loads(line) for line in follower.log_text().splitlines()
                if line.startswith("{")]
    wait_until("what was before is told", lambda: len(told()) >= 2)
    fio = lab.fio("load", head.uri("vol0"), size="16M", rate="8M")
    wait_for_write(head, "vol0")
    exporter.kill()
    wait_until("requests wait", lambda: head.waiting_requests("vol0"))
    check(value_of(Api(head).metrics(), "dst_storage_requests_waiting", storage="vol0") > 0,
          "none waits")
    exporter.start()
    fio.wait()
    metrics = Api(head).metrics()
    check(value_of(metrics, "dst_node_reconnects_total", storage="vol0") == 1, "reconnects")
    check(value_of(metrics, "dst_node_replayed_changes_total", storage="vol0") > 0, "replays")
    check(value_of(metrics, "dst_node_checksum_errors_total", storage="vol0") == 0, "checksums")

    links = wait_until("both are told", lambda: [
        (event["from"], event["to"]) for event in told() if event["event"] == "node_link"
    ][-2:] == [("up", "down"), ("down", "up")] and told())
    check([event["sequence"] for event in links] == list(range(1, len(links) + 1)),
          f"not in order: {links}")
    states = [event["to"] for event in links if event["event"] == "storage_state"]
    check(states[-1] == "running" and "holding" in states or "degraded" in states, f"{states}")
    once = [json.loads(line) for line in head.do("events").splitlines()]
    check(once[:len(links)] == links, f"{once} is not {links}")
    counted = value_of(Api(head).metrics(), "dst_events_total", event="node_link")
    check(counted == sum(event["event"] == "node_link" for event in told()), f"events: {counted}")
    head.stop()
    check(follower.wait(5) == 1, "the follower of a daemon that ended does not say so")


@test
def metrics_listen_has_the_page_and_nothing_else(lab: Lab):
    port = lab.port()
    daemon = lab.daemon("daemon", metrics_listen=f"127.0.0.1:{port}",
                        export=[{"name": "disk", "device": "memory:1M"}])
    url = f"http://127.0.0.1:{port}"
    for _ in range(50):
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as page:
            check(page.headers["Content-Type"].startswith("text/plain; version=0.0.4"),
                  page.headers["Content-Type"])
            samples = parse_metrics(page.read().decode())
        check(value_of(samples, "dst_export_size_sectors", export="disk") == 2048, "size")
    for path, code in [("/", 404), ("/v1/status", 404), ("/metricsx", 404)]:
        try:
            urllib.request.urlopen(url + path, timeout=5)
            check(False, f"{path} is there")
        except urllib.error.HTTPError as error:
            check(error.code == code, f"{path}: {error.code}")
    curl = run(["curl", "-sS", "-X", "POST", "--data", "x", "-o", "/dev/null", "-w",
                "%{http_code}", f"{url}/metrics"])
    check(curl.stdout == "405", f"{curl}")
    for size in (1, 100, 20_000, 50_000):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as garbage, \
                contextlib.suppress(OSError):  # it may close before it got all
            garbage.sendall(lab.random.randbytes(size))
            garbage.shutdown(socket.SHUT_WR)
            while garbage.recv(4096):
                pass
    with socket.create_connection(("127.0.0.1", port), timeout=5):  # one that says nothing
        check(value_of(Api(daemon).metrics(), "dst_export_clients", export="disk") == 0, "clients")
    check(daemon.process.is_running() and not daemon.status()["warnings"], "warnings")
    daemon.stop()


main()
