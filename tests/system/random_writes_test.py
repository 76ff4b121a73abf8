#!/usr/bin/python3
# ctest: serial
"""10,000 writes of random bytes, to every file of the tree and every path of the API, under ASan.

The daemon lives; what it refuses changes nothing; what it accepts is what was asked for. A part of
the writes are good ones, or nearly.
"""

import json
import os
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
SOURCE = os.environ.get("DST_SOURCE", os.path.join(os.path.dirname(__file__), "../.."))
os.environ["DST"] = os.path.join(SOURCE, "build/asan/dst")
from lab import Failure, Lab, check, main, test, wait_until
from lab_api import ENDPOINTS, Api
from lab_tree import NODE_FILES, STORAGE_FILES, Tree

WRITES = 10_000
CHECK_EACH = 20


def lasting(status):
    """The part of a status that only an accepted write may change. (What is being formed gets its
    sizes, and maybe its cookies, later.)"""
    return {"storages": {s["name"]: (s["algorithm"], s["state"] == "stopped", s["resync"]["size"],
                                     s["resync"]["timeout"], [n["type"] for n in s["nodes"]])
                         for s in status["storages"]},
            "exports": {e["name"]: e["device"] for e in status["exports"]},
            "algorithms": status["algorithms"], "warnings": status["warnings"]}


class Writer:
    def __init__(self, lab, daemon):
        self.random = lab.random
        self.daemon, self.api, self.tree = daemon, Api(daemon), Tree(daemon)
        self.written, self.accepted = {}, {}
        self.files = iter(lab.file(f"disk{i}", "64K") for i in range(WRITES))

    def bytes(self):
        kind = self.random.randrange(4)
        if kind == 0:
            return self.random.randbytes(self.random.randrange(64))
        if kind == 1:
            return self.random.randbytes(self.random.randrange(1, 10_000))
        if kind == 2:
            return str(self.random.randrange(-5, 1 << self.random.randrange(1, 70))).encode()
        return bytes(self.random.choices(b"0123456789 \n\0-+.xefoc1", k=self.random.randrange(8)))

    def nearly(self, good):
        """Good bytes, of which some are others."""
        spoilt = bytearray(good)
        for _ in range(self.random.randrange(1, 4)):
            kind = self.random.randrange(3)
            at = self.random.randrange(len(spoilt) + 1)
            if kind == 0:
                spoilt[at:at] = self.random.randbytes(self.random.randrange(1, 9))
            elif kind == 1:
                del spoilt[at:at + self.random.randrange(1, 9)]
            elif at < len(spoilt):
                spoilt[at] = self.random.randrange(256)
        return bytes(spoilt)

    def value(self, good):
        """Mostly noise; else what is good, or nearly so."""
        kind = self.random.randrange(10)
        return good if kind == 0 else self.nearly(good) if kind < 4 else self.bytes()

    def name(self):
        return f"x{self.random.randrange(6)}"

    def body(self, path):
        """A good body for that path, as bytes."""
        node = self.random.choice(["L: memory:1M", f"L: {next(self.files)}"])
        return json.dumps({
            "/v1/plan": {"toml": "[[export]]\nname = \"x1\"\ndevice = \"memory:1M\"\n"
                                 "[[storage]]\nname = \"vol0\"\nalgorithm = \"linear\"\n"
                                 "nodes = [\"L: memory:1M\"]\n"[self.random.choice([0, 44]):],
                         "prune": self.random.random() < 0.5},
            "/v1/storages": {"name": self.name(), "algorithm": "linear", "nodes": [node]},
            "/v1/assemblies": {"name": self.name(), "algorithm": "mirror", "nodes": [node]},
            "/v1/storages/{storage}/verify": {"repair": True},
            "/v1/storages/{storage}/resync": {"size": 4096, "timeout": 100},
            "/v1/storages/{storage}/nodes": {"node": node},
            "/v1/storages/{storage}/nodes/{node}/replace": {"node": node},
            "/v1/tree/{file}": {"value": self.random.choice(["1", "4096", "100\n"])},
            "/v1/exports": {"name": self.name(), "device": self.random.choice(
                ["memory:1M", f"storage:{self.name()}"])},
            # A file alone: a block device would take the host's loop devices.
            "/v1/attachments": {"name": self.name(), "via": "fuse", "file": True},
            "/v1/attachments/{storage}": {"force": True},
            "/v1/algorithms": {"file": "/nowhere/algorithm.so"}}[path]).encode()

    def cookies(self):
        """Of the mirror."""
        return [name.rpartition("-")[2] for name in self.tree.nodes("mirror0")]

    def some_file(self):
        """A path below devices; of all files that there are, mostly."""
        storage = self.random.choice(self.tree.list() or ["none"])
        folders = [name for name in self.tree.nodes(storage)] if storage != "none" else []
        if folders and self.random.randrange(4):
            return f"{storage}/{self.random.choice(folders)}/{self.random.choice([*NODE_FILES])}"
        return f"{storage}/{self.random.choice([*STORAGE_FILES])}"

    def write_to_tree(self):
        """Returns (what was written to, whether it was accepted)."""
        path = self.some_file()
        file = path.rpartition("/")[2]
        good = {"resync_size": b"4096", "resync_timout": b"100", "resync_timeout": b"100\n"}
        value = self.value(good.get(file, b"1"))
        error = self.tree.write(value, path) if value else "empty"
        return f"tree {file}", error == ""

    def write_to_api(self):
        method, path, takes_body = self.random.choice(ENDPOINTS)
        body = None
        # (A GET with one is answered before all of it is read.)
        if takes_body or (method != "GET" and self.random.randrange(8) == 0):
            body = self.value(self.body(path)) if takes_body else self.bytes()
        def part():
            if self.random.randrange(3) == 0:
                return urllib.parse.quote(self.bytes()[:200], safe="")
            return self.name()
        if path == "/v1/storages/{storage}/nodes" and method == "DELETE":
            body = self.value(json.dumps({"type": "L: memory:1M"}).encode())
        filled = path.replace("{file}", f"devices/{self.some_file()}").format(
            storage=self.random.choice([part(), "mirror0"]), export=part(),
            algorithm=part(), node=self.random.choice([part(), *self.cookies()]),
            number=self.random.choice(["0", "5", part()]))
        status, answer = self.api.ask(method, filled, body)
        check(status in (200, 400, 403, 404, 405, 409, 413, 415, 501, 507),
              f"{method} {filled} {body!r}: {status} {answer[:300]!r}")
        if status != 200:
            error = json.loads(answer)["error"]
            check(error["text"] and "\n" not in error["text"], f"{method} {filled}: {answer!r}")
        return f"{method} {path}", status == 200 and method != "GET"

    def write(self):
        what, accepted = self.random.choice([self.write_to_tree, self.write_to_api])()
        self.written[what] = self.written.get(what, 0) + 1
        if accepted:
            self.accepted[what] = self.accepted.get(what, 0) + 1
        return accepted


@test
def ten_thousand_random_writes_change_only_what_they_were_accepted_for(lab: Lab):
    daemon = lab.daemon("daemon", storage=[
        {"name": "vol0", "algorithm": "linear", "metadata": "none",
         "nodes": [f"L: {lab.file('a', '1M')}", f"L: {lab.file('b', '1M')}"]},
        {"name": "mirror0", "algorithm": "mirror",
         "nodes": [f"L: {lab.file('c', '8M')}", f"L: {lab.file('d', '8M')}"]}],
        export=[{"name": "vol0", "device": "storage:vol0"},
                {"name": "mirror0", "device": "storage:mirror0"}])
    daemon.wait_storage("vol0")
    daemon.wait_storage("mirror0")
    writer = Writer(lab, daemon)
    before = lasting(daemon.status())
    begun = time.monotonic()
    since_check = []
    for number in range(WRITES):
        check(daemon.process.is_running(), f"the daemon died after {since_check}")
        accepted = writer.write()
        since_check.append(accepted)
        if accepted or len(since_check) >= CHECK_EACH:
            now = lasting(writer.api.do("GET", "/v1/status"))
            if not any(since_check):
                check(now == before, f"write {number}: refused writes changed\n{before}\nto\n{now}")
            before, since_check = now, []
    accepted = sum(writer.accepted.values())
    lab.say(f"{WRITES} writes to {len(writer.written)} targets in "
            f"{time.monotonic() - begun:.0f} s, {accepted} accepted: {writer.accepted}")
    check(accepted >= WRITES // 100, f"only {accepted} writes were accepted")
    expected = len(STORAGE_FILES) + len(NODE_FILES) + len(ENDPOINTS)
    check(len(writer.written) == expected, f"{len(writer.written)} targets of {expected}")
    lab.fio("load", daemon.uri("vol0"), size="2M").wait()

    # It comes back as it was.
    before = lasting(daemon.status())
    daemon.stop()
    daemon.start()

    def is_as_before():
        now = lasting(daemon.status())
        if now == before:
            return True
        raise Failure(f"{now}\nis not\n{before}")
    wait_until("a restart has changed nothing", is_as_before, 30)
    check("Sanitizer" not in daemon.process.log_text(), "a sanitizer has complained")
    daemon.stop()


main()
