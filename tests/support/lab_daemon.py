"""`dst daemon` with a configuration of its own, and the `dst` command beside it."""

import json
import os

from lab_process import Failure, Process, ReadyPipe, check, run, wait_until

DST = os.environ.get("DST", os.path.join(os.path.dirname(__file__), "../../build/dst"))


def dst(*args, timeout=60.0):
    """`dst ARGS...`: Outcome(code, stdout, stderr)."""
    return run([DST, *args], timeout=timeout)


def to_toml(config):
    """A dict as TOML: plain values first, then a [[name]] table for each dict of a list."""
    lines = [f"{key} = {_value(value)}" for key, value in config.items() if not _is_tables(value)]
    for key, tables in config.items():
        for table in tables if _is_tables(tables) else []:
            lines += ["", f"[[{key}]]", *(f"{k} = {_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _is_tables(value):
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value)  # strings, numbers and booleans look the same in both


class Daemon:
    """A dst daemon; may be killed and started again on the same configuration, folder and port.

    `config` is the dict that its configuration is written from; a test may change it between two
    starts. `process` is the one that runs now (or ran last).
    """

    def __init__(self, name, folder, port, config, argv_prefix=(), log_level=None):
        self.name = name
        self.folder = folder
        self.port = port
        self.config = {"run_dir": f"{folder}/run", "state_dir": f"{folder}/state",
                       "listen": [f"127.0.0.1:{port}"]} | config
        self.config_path = f"{folder}/dst.toml"
        self.log_path = f"{folder}/log"
        self.socket_path = f"{self.config['run_dir']}/dst.sock"
        self.process = None
        self._argv_prefix = list(argv_prefix)
        self._log_options = ["--log-level", log_level] if log_level else []
        os.makedirs(folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Writes the configuration, starts it, and returns itself when it serves."""
        check(self.process is None or not self.process.is_running(), f"{self.name} runs already")
        self.write_config()
        ready = ReadyPipe()
        self.process = Process(
            self.name, [*self._argv_prefix, DST, "daemon", "--config", self.config_path,
                        "--ready-fd", ready.writer, *self._log_options],
            self.log_path, pass_fds=[ready.writer])
        ready.wait(self.process)
        return self

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(to_toml(self.config))

    def kill(self):
        """SIGKILL; returns when it is gone."""
        self.process.kill()

    def stop(self, timeout=12.0):
        """SIGTERM; fails unless it ends with exit code 0."""
        code = self.process.terminate(timeout)
        check(code == 0, f"{self.name} ended with exit code {code} on SIGTERM")

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    def close(self):
        if self.process:
            self.process.close()
        tree = f"{self.config['run_dir']}/sysfs"
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            is_mounted = any(line.split()[4] == tree for line in mounts)
        if is_mounted:  # by one that was killed
            run(["umount", "--lazy", tree])

    def uri(self, export):
        return f"nbd://127.0.0.1:{self.port}/{export}"

    def remote(self, export):
        """How another daemon names this export as a node."""
        return f"R: 127.0.0.1:{self.port}/{export}"

    def dst(self, *args, timeout=60.0):
        """`dst ARGS...` to this daemon: Outcome(code, stdout, stderr)."""
        return dst(*args, "--socket", self.socket_path, timeout=timeout)

    def do(self, *args, timeout=60.0):
        """As `dst`, but fails unless the command succeeds; returns its standard output."""
        outcome = self.dst(*args, timeout=timeout)
        check(outcome.code == 0, f"dst {' '.join(map(str, args))} to {self.name}: exit code "
                                 f"{outcome.code}: {outcome.stderr.strip()}")
        return outcome.stdout

    def status(self):
        """`dst status --json`, parsed."""
        return json.loads(self.do("status", "--json", timeout=20))

    def storage(self, name):
        """The storage of that name in `status`."""
        return _named(self.status()["storages"], name, "storage", self.name)

    def export(self, name):
        """The export of that name in `status`."""
        return _named(self.status()["exports"], name, "export", self.name)

    def node(self, storage, node_type):
        """The node of that type ("R: ...", "L: ...") of the storage."""
        for node in self.storage(storage)["nodes"]:
            if node["type"] == node_type:
                return node
        raise Failure(f"storage {storage} of {self.name} has no node {node_type}")

    def wait_connected(self, storage, node_type, timeout=15.0):
        """Waits until that node is connected; returns its status."""
        def reached():
            node = self.node(storage, node_type)
            if node["connected"]:
                return node
            raise Failure(node["reason"])
        return wait_until(f"node {node_type} of {storage} is connected", reached, timeout)

    def waiting_requests(self, storage):
        """How many requests it holds, as its reason says ("16 requests wait for ...")."""
        status = self.storage(storage)
        count = status["reason"].split()[0]
        return int(count) if status["state"] == "holding" and count.isdigit() else 0

    def wait_storage(self, name, state="running", timeout=30.0):
        """Waits until the storage is in that state; returns its status."""
        def reached():
            storage = self.storage(name)
            if storage["state"] == state:
                return storage
            raise Failure(f"{storage['state']}: {storage.get('reason')}")
        return wait_until(f"storage {name} of {self.name} is {state}", reached, timeout, 0.05)


def _named(things, name, kind, owner):
    for thing in things:
        if thing["name"] == name:
            return thing
    raise Failure(f"{owner} has no {kind} {name}, only {[thing['name'] for thing in things]}")
