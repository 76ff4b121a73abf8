"""A lab for tests of whole daemons.

    #!/usr/bin/python3
    import os, sys
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
    from lab import Lab, check, main, test

    @test
    def a_killed_exporter_fails_no_request(lab: Lab):
        disk = lab.file("disk", "64M")
        exporter = lab.daemon("exporter", export=[{"name": "disk", "device": disk}])
        head = lab.daemon("head", storage=[{"name": "vol", "algorithm": "linear",
                                            "nodes": [exporter.remote("disk")]}],
                          export=[{"name": "vol", "device": "storage:vol"}])
        fio = lab.fio("load", head.uri("vol"), size="64M")
        exporter.kill()
        exporter.start()
        fio.wait()

    main()

Each test gets a Lab: a folder, ports, a seed, and every process that it started; whatever happens,
all of them are gone afterwards. The runner prints a line per test; when one fails it prints the
logs of all its processes, and keeps the folder.

    x_test.py [-k WORD] [--seed N] [--keep]
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
import traceback

import lab_servers
from lab_daemon import DST, Daemon, dst, to_toml
from lab_fio import WRITE_AND_VERIFY, Fio, pattern_of
from lab_lossy import LossyExporter, Tally
from lab_process import (Failure, Outcome, Ports, Process, ReadyPipe, can_connect, check, run,
                         wait_until)
from lab_servers import Server

__all__ = ["DST", "BUILD", "SOURCE", "Daemon", "Failure", "Fio", "Lab", "LossyExporter", "Outcome",
           "Process", "ReadyPipe", "Server", "Tally", "can_connect", "check", "dst", "main", "run",
           "test", "to_toml", "wait_until"]

SOURCE = os.environ.get("DST_SOURCE",
                        os.path.abspath(os.path.join(os.path.dirname(__file__), "../..")))
BUILD = os.environ.get("DST_BUILD", os.path.join(SOURCE, "build"))

_LOG_SHOWN_BYTES = 6000
_tests = []


def test(function):
    """Marks a function of one argument, the Lab, as a test. Its name is a sentence."""
    _tests.append(function)
    return function


def size_bytes(size):
    """4096, "64k", "64M", "1G": as bytes."""
    units = {"k": 10, "K": 10, "M": 20, "G": 30, "T": 40}
    text = str(size)
    return int(text[:-1]) << units[text[-1]] if text[-1] in units else int(text)


class Lab:
    """What one test works with. Ends everything that it started."""

    def __init__(self, ports, seed):
        self.folder = tempfile.mkdtemp(prefix="dst-lab-")
        self.seed = seed
        self.random = random.Random(seed)
        self._ports = ports
        self._logs = {}
        self._stack = contextlib.ExitStack()
        self._first = []

    def close(self, keep=False):
        for function, args in reversed(self._first):
            function(*args)
        self._stack.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        """A path in the lab's folder."""
        return os.path.join(self.folder, name)

    def file(self, name, size):
        """Makes an empty disk: a sparse file. Returns its path."""
        with open(self.path(name), "wb") as file:
            file.truncate(size_bytes(size))
        return self.path(name)

    def port(self):
        """A free port of 127.0.0.1 that stays ours, whether something listens on it or not."""
        return self._ports.take()

    def enter(self, context):
        """Leaves the context manager when the test ends; returns what it gives."""
        return self._stack.enter_context(context)

    def at_end(self, function, *args):
        """Calls the function when the test ends, last one first."""
        self._stack.callback(function, *args)

    def first_at_end(self, function, *args):
        """Calls the function when the test ends, while all that it started still runs."""
        self._first.append((function, args))

    def process(self, name, argv, **keywords):
        """Starts any program in the background."""
        log_path = self._log(name, self.path(name + ".log"))
        return self.enter(Process(name, argv, log_path, **keywords))

    def prepare_daemon(self, name, argv_prefix=(), log_level=None, **config):
        """A dst daemon that was not started yet. `config`: see `daemon`."""
        daemon = Daemon(name, self.path(name), self.port(), config, argv_prefix, log_level)
        self._log(name, daemon.log_path)
        return self.enter(daemon)

    def daemon(self, name, **config):
        """Starts a dst daemon and returns when it serves.

        `config`: top-level keys of its configuration; `export`, `storage` and `algorithm` are lists
        of dicts. Folders and a port to listen on are given unless set. Also `log_level` and
        `argv_prefix` (say, ["ip", "netns", "exec", "a"]).
        """
        return self.prepare_daemon(name, **config).start()

    def nbdkit(self, name, *args):
        """nbdkit with these arguments (plugin, parameters, filters)."""
        return self._server(lab_servers.nbdkit, name, *args)

    def qemu_storage_daemon(self, name, file, export, node_options=""):
        return self._server(lab_servers.qemu_storage_daemon, name, file, export, node_options)

    def nbd_server(self, name, file, export):
        return self._server(lab_servers.nbd_server, name, file, export)

    def lossy_exporter(self, name, file, export, **options):
        """Starts an exporter of `file` that loses what was not flushed when it is killed."""
        exporter = LossyExporter(name, self.folder, self.port(), file, export, **options)
        self._log(name, exporter.log_path)
        return self.enter(exporter).start()

    def fio(self, name, uri, overwrites=False, argv_prefix=(), **options):
        """Starts fio against `uri`: random writes of 4k at depth 16, each block once, then a verify
        of all, unless `options` say otherwise (`size` must be among them). Set `overwrites` for an
        area that was written before: a stale block must not pass for a new one."""
        self._log(name, self.path(name + ".log"))
        seed = self.random.randrange(1, 1 << 31)
        pattern = pattern_of(self.random.getrandbits(64)) if overwrites else {}
        return self.enter(Fio(name, self.folder, uri, seed, WRITE_AND_VERIFY | pattern | options,
                              argv_prefix))

    def say(self, text):
        """A line for who reads the test's output: numbers that were measured, say."""
        print(f"      {text}", flush=True)

    def note_log(self, name, path):
        """It is shown if the test fails."""
        self._log(name, path)

    def print_logs(self):
        for name, path in self._logs.items():
            with open(path, "rb") as file:
                text = file.read()
            cut = f" (the last {_LOG_SHOWN_BYTES} bytes)" if len(text) > _LOG_SHOWN_BYTES else ""
            print(f"----- log of {name}{cut}, {path}")
            print(text[-_LOG_SHOWN_BYTES:].decode(errors="replace"), end="")
        print("-----", flush=True)

    def _server(self, make, name, *args):
        log_path = self._log(name, self.path(name + ".log"))
        return self.enter(make(name, log_path, self.port(), *args))

    def _log(self, name, path):
        self._logs[name] = path
        with open(path, "ab"):
            return path


def main():
    """Runs the tests of the calling script; ends the program, with 1 if one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", metavar="WORD", default="", help="only tests with WORD in their name")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--keep", action="store_true", help="keep the folders of all tests")
    options = parser.parse_args()
    check(os.access(DST, os.X_OK), f"there is no program {DST}: build it, or set DST")

    ports = Ports()
    chosen = [function for function in _tests if options.k in function.__name__]
    check(chosen, f"no test has {options.k!r} in its name")
    failed = [function.__name__ for function in chosen if not _run_one(function, ports, options)]
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed {' '.join(failed)}".rstrip(),
          flush=True)
    sys.exit(1 if failed else 0)


def _run_one(function, ports, options):
    lab = Lab(ports, options.seed)
    begin = time.monotonic()
    passed = False
    try:
        function(lab)
        passed = True
    except Exception as error:  # pylint: disable=broad-except
        if not isinstance(error, Failure):
            traceback.print_exc(file=sys.stdout)
        print(f"FAILED {function.__name__}, --seed {options.seed}: {error}")
        _print_place(error)
    finally:
        keep = options.keep or not passed
        if not passed:
            lab.print_logs()
        lab.close(keep)
        kept = f", kept in {lab.folder}" if keep else ""
        print(f"{'ok    ' if passed else 'FAILED'} {time.monotonic() - begin:6.1f} s  "
              f"{function.__name__} (seed {options.seed}{kept})", flush=True)
    return passed


def _print_place(error):
    """Where in the test it failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if os.path.dirname(frame.filename) != os.path.dirname(__file__)]
    for frame in frames:
        print(f"  at {frame.filename}:{frame.lineno}: {frame.line}")
