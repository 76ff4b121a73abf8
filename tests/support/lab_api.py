"""The API of a daemon, spoken to directly, and its page of metrics."""

import http.client
import json
import re
import socket

from lab_process import check, wait_until

# Every path of the API: method, path, and whether it takes a body.
ENDPOINTS = [
    ("GET", "/metrics", False), ("GET", "/v1/status", False), ("GET", "/v1/events", False),
    ("GET", "/v1/events/{number}", False), ("GET", "/v1/config", False), ("POST", "/v1/plan", True),
    ("GET", "/v1/storages/{storage}/what-if", False), ("GET", "/v1/storages", False),
    ("POST", "/v1/storages", True), ("DELETE", "/v1/storages/{storage}", False),
    ("POST", "/v1/storages/{storage}/start", False), ("POST", "/v1/storages/{storage}/stop", False),
    ("POST", "/v1/assemblies", True), ("POST", "/v1/storages/{storage}/verify", True),
    ("POST", "/v1/storages/{storage}/grow", False),
    ("POST", "/v1/storages/{storage}/resync", True), ("POST", "/v1/storages/{storage}/nodes", True),
    ("DELETE", "/v1/storages/{storage}/nodes", True),
    ("DELETE", "/v1/storages/{storage}/nodes/{node}", False),
    ("POST", "/v1/storages/{storage}/nodes/{node}/replace", True),
    ("POST", "/v1/storages/{storage}/nodes/{node}/dirty", False),
    ("POST", "/v1/storages/{storage}/nodes/{node}/clean", False), ("GET", "/v1/tree/{file}", False),
    ("PUT", "/v1/tree/{file}", True), ("GET", "/v1/exports", False), ("POST", "/v1/exports", True),
    ("DELETE", "/v1/exports/{export}", False), ("GET", "/v1/attachments", False),
    ("POST", "/v1/attachments", True), ("DELETE", "/v1/attachments/{storage}", True),
    ("GET", "/v1/algorithms", False),
    ("POST", "/v1/algorithms", True), ("DELETE", "/v1/algorithms/{algorithm}", False)]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("dst", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """One request a connection, as the daemon has it."""

    def __init__(self, daemon):
        self._path = daemon.socket_path

    def ask(self, method, path, body=None, timeout=30.0):
        """(HTTP status, body as bytes). `body`: bytes as they are, else made JSON."""
        connection = _UnixConnection(self._path, timeout)
        try:
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def do(self, method, path, body=None):
        """The parsed answer; fails unless it is a good one."""
        status, answer = self.ask(method, path, body)
        check(status == 200, f"{method} {path}: {status} {answer[:300]}")
        return json.loads(answer)

    def tree(self, path="devices"):
        """{path below devices: value} of all that can be read."""
        values = {}
        answer = self.do("GET", f"/v1/tree/{path}")
        for name in answer["entries"]:
            below = f"{path}/{name}"
            status, text = self.ask("GET", f"/v1/tree/{below}")
            if status == 403:  # can only be written
                continue
            check(status == 200, f"{below}: {status} {text}")
            found = json.loads(text)
            if "entries" in found:
                values |= self.tree(below)
            else:
                values[below.removeprefix("devices/")] = found["value"]
        return values

    def metrics(self):
        status, text = self.ask("GET", "/metrics")
        check(status == 200, f"/metrics: {status} {text}")
        return parse_metrics(text.decode())


_SAMPLE = re.compile(r'([a-z][a-z0-9_]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)')
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"')


def _unescaped(value):
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), value)


def parse_metrics(text):
    """{(name, frozenset of (label, value)): number}. Fails on whatever the format does not allow."""
    check(text.endswith("\n"), "the last line does not end")
    samples, types, helped, current = {}, {}, set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            check(name not in helped and len(line.split()) > 3, f"twice, or without words: {line}")
            helped.add(name)
            continue
        if line.startswith("# TYPE "):
            _, _, current, kind = line.split()
            check(current in helped and current not in types, f"TYPE out of place: {line}")
            check(kind in ("counter", "gauge", "histogram"), line)
            check((kind == "counter") == current.endswith("_total"), f"a counter's name: {line}")
            types[current] = kind
            continue
        match = _SAMPLE.fullmatch(line)
        check(match, f"no sample: {line!r}")
        name, labels, value = match.groups()
        base = re.sub(r"_(bucket|sum|count)$", "", name) if types.get(current) == "histogram" \
            else name
        check(base == current, f"a sample that does not follow its TYPE: {line}")
        key = (name, frozenset((label, _unescaped(of)) for label, of in _LABEL.findall(labels or "")))
        check(key not in samples, f"twice: {line}")
        samples[key] = float(value)
    _check_histograms(samples)
    return samples


def _check_histograms(samples):
    series = {}
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            rest = frozenset(label for label in labels if label[0] != "le")
            series.setdefault((name.removesuffix("_bucket"), rest), []).append(
                (float(dict(labels)["le"]), value))
    for (name, labels), buckets in series.items():
        buckets.sort()
        counts = [count for _, count in buckets]
        check(counts == sorted(counts), f"{name} {labels}: not cumulative: {buckets}")
        check(buckets[-1][0] == float("inf"), f"{name} {labels}: no +Inf")
        check(counts[-1] == samples[(name + "_count", labels)], f"{name} {labels}: +Inf and count")
        check((name + "_sum", labels) in samples, f"{name} {labels}: no sum")


def value_of(samples, name, **labels):
    """The sum of the samples of that name with these labels (and maybe others)."""
    wanted = set(labels.items())
    found = [value for (sample, has), value in samples.items() if sample == name and wanted <= has]
    check(found, f"no sample {name} {labels}")
    return sum(found)


def wait_for_write(daemon, storage):
    """Waits until a write to a storage was acknowledged: a client that is connected has perhaps not
    sent any yet."""
    wait_until(f"a write to {storage} was acknowledged", lambda: value_of(
        Api(daemon).metrics(), "dst_storage_requests_total", storage=storage,
        operation="write") > 0)
