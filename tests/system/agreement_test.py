#!/usr/bin/python3
"""Status, tree, API and metrics agree, a thousand times, while things change."""

import collections
import contextlib
import http.client
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test
from lab_api import Api, value_of
from lab_tree import Tree

COMPARISONS = 1000
OF_ONE_STATE_MAX = 4
SECONDS_MAX = 400
GROWN_MAX = 4
STATES = ("running", "degraded", "holding", "waiting", "fenced", "stopped")


class Churn(threading.Thread):
    """Makes and removes storages, nodes and exports, and kills an exporter, until it is ended."""

    def __init__(self, lab, head, exporter):
        super().__init__(daemon=True)
        self._random, self._api, self._exporter = lab.random, Api(head), exporter
        self._files = iter(lab.file(f"file{i}", "1M") for i in range(10_000))
        self._ended = threading.Event()
        self._grown = 0
        self.changes = 0
        self.error = None

    def end(self):
        self._ended.set()
        self.join(60)
        if self.error:
            raise self.error

    def run(self):
        try:
            while not self._ended.wait(self._random.uniform(0, 0.15)):
                self._change()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def _change(self):
        name = f"x{self._random.randrange(4)}"
        kind = self._random.randrange(10)
        if kind < 2:
            self._ask("POST", "/v1/storages", {"name": name, "algorithm": "linear", "nodes": [
                f"L: memory:{self._random.randrange(1, 9)}M"
                for _ in range(self._random.randrange(1, 4))]})
        elif kind < 4:
            self._ask("DELETE", f"/v1/storages/{name}")
        elif kind < 5:
            if self._grown < GROWN_MAX:
                self._grown += 1
                self._ask("POST", "/v1/storages/vol0/nodes", {"node": f"L: {next(self._files)}"})
        elif kind < 6:
            self._ask("POST", "/v1/exports", {"name": name, "device": f"storage:{name}"})
        elif kind < 7:
            self._ask("DELETE", f"/v1/exports/{name}")
        elif kind < 8:
            self._ask("POST", f"/v1/storages/{name}/"
                              f"{self._random.choice(('start', 'stop'))}")
        elif kind < 9:
            self._ask("PUT", f"/v1/tree/devices/{name}/remove_all_nodes", {"value": "1"})
        elif self._exporter.process.is_running():
            self._exporter.kill()
            self.changes += 1
        else:
            self._exporter.start()
            self.changes += 1

    def _ask(self, *args):
        status, _ = self._api.ask(*args)
        self.changes += status == 200


def stable(status):
    """What may not change while things are compared."""
    return [status["storages"], status["exports"], status["last_event"]]


def check_metrics(samples, status):
    for storage in status["storages"]:
        name = storage["name"]
        for state in STATES:
            check(value_of(samples, "dst_storage_state", storage=name, state=state)
                  == (state == storage["state"]), f"state of {name}")
        check(value_of(samples, "dst_storage_size_sectors", storage=name) == storage["size"],
              f"size of {name}")
        check(value_of(samples, "dst_storage_nodes", storage=name) == len(storage["nodes"]),
              f"nodes of {name}")
        for node in storage["nodes"]:
            if int(node["cookie"], 16) == 0:
                continue
            labels = {"storage": name, "node": f"n-{node['start']}-{node['cookie']}",
                      "type": node["type"]}
            for metric, value in {"in_sync": node["state"] == "sync",
                                  "connected": node["connected"], "start_sectors": node["start"],
                                  "size_sectors": node["size"],
                                  "stale_sectors": node["stale"],
                                  "read_errors_total": node["read_errors"],
                                  "rewritten_total": node["rewritten"]}.items():
                check(value_of(samples, f"dst_node_{metric}", **labels) == value,
                      f"{metric} of {labels}")
    shown = {dict(labels)["storage"] for name, labels in samples if name == "dst_storage_nodes"}
    check(shown == {storage["name"] for storage in status["storages"]}, f"storages: {shown}")
    for share in status["exports"]:
        for metric, value in {"size_sectors": share["size"], "clients": share["clients"]}.items():
            check(value_of(samples, f"dst_export_{metric}", export=share["name"]) == value,
                  f"{metric} of {share['name']}")


@test
def all_views_agree_a_thousand_times_under_churn(lab: Lab):
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("far", "4M")}])
    head = lab.daemon("head", storage=[
        {"name": "vol0", "algorithm": "linear", "metadata": "none",
         "nodes": [f"L: {lab.file('near', '4M')}", exporter.remote("disk")]}],
        export=[{"name": "vol0", "device": "storage:vol0"}])
    head.wait_storage("vol0")
    api, tree = Api(head), Tree(head)
    churn = Churn(lab, head, exporter)
    churn.start()
    agreed = disturbed = 0
    seen = collections.Counter()  # by the number of the last event
    begun = time.monotonic()
    while agreed < COMPARISONS:
        check(time.monotonic() - begun < SECONDS_MAX,
              f"only {agreed} comparisons in {SECONDS_MAX} s, {disturbed} were disturbed")
        check(churn.is_alive(), f"the churn has ended: {churn.error}")
        before = api.do("GET", "/v1/status")
        views = {}
        with contextlib.suppress(http.client.HTTPException):
            views["tree"] = tree.everything()
        views["storages"] = api.do("GET", "/v1/storages")["storages"]
        views["exports"] = api.do("GET", "/v1/exports")["exports"]
        views["metrics"] = api.metrics()
        if agreed % 20 == 0:
            with contextlib.suppress(Exception):  # a folder may go meanwhile; then it is disturbed
                views["api tree"] = api.tree()
        after = api.do("GET", "/v1/status")
        if stable(before) != stable(after):
            disturbed += 1
            continue
        expected = tree.expected(before)
        check(views["tree"] == expected, f"the tree shows {views['tree']}\nnot {expected}")
        if agreed % 20 == 0:
            check(views["api tree"] == expected, f"{views['api tree']}\nis not {expected}")
        check(views["storages"] == before["storages"], "/v1/storages differs from the status")
        check(views["exports"] == before["exports"], "/v1/exports differs from the status")
        check_metrics(views["metrics"], before)
        seen[before["last_event"]] += 1
        agreed += seen[before["last_event"]] <= OF_ONE_STATE_MAX
    churn.end()
    lab.say(f"{agreed} comparisons of {len(seen)} states agreed, {disturbed} were disturbed by one "
            f"of {churn.changes} changes; {time.monotonic() - begun:.0f} s")


main()
