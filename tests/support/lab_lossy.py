"""The exporter that loses its unflushed writes when it is killed: tests/tools/lossy_exporter.cc."""

import collections
import os
import re
import struct

from lab_process import Process, ReadyPipe, check

BUILD = os.environ.get("DST_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))

# `struct Tally` of tests/tools/lossy_file.h
Tally = collections.namedtuple(
    "Tally", "unflushed_bytes requests_in_flight changes_in_flight changes flushes")


class LossyExporter:
    """May be killed and started again on the same file and port; each kill is a power cut.

    `instance`: a lie, to be the same instance after each of them; 0 for the truth.
    """

    def __init__(self, name, folder, port, file, export, latency_us=0, host="127.0.0.1",
                 argv_prefix=(), instance=0):
        self.name = name
        self.host = host
        self.port = port
        self.export = export
        self.log_path = f"{folder}/{name}.log"
        self.process = None
        self._tally_path = f"{folder}/{name}.tally"
        self._trace_path = f"{folder}/{name}.trace"
        self._argv = [*argv_prefix, os.path.join(BUILD, "lossy_exporter"),
                      "--listen", f"{host}:{port}", "--file", file, "--name", export,
                      "--tally", self._tally_path, "--trace", self._trace_path,
                      "--reservations", f"{folder}/{name}.reservations",
                      "--latency-us", latency_us, "--instance", instance]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Returns itself when it serves."""
        ready = ReadyPipe()
        self.process = Process(self.name, [*self._argv, "--ready-fd", ready.writer],
                               self.log_path, pass_fds=[ready.writer])
        ready.wait(self.process)
        return self

    def kill(self):
        """A power cut; returns the tally as it was at that moment."""
        self.process.kill()
        return self.tally()

    def tally(self):
        """What it has counted since its start."""
        with open(self._tally_path, "rb") as file:
            return Tally(*struct.unpack("=5Q", file.read()))

    def trace(self):
        """What became of its connections, as lines, since its first start."""
        with open(self._trace_path, encoding="ascii") as file:
            return file.read().splitlines()

    def check_sessions(self):
        """Fails unless each session was answered only after all older connections were gone, with
        none of their changes in flight: what is gone can't write. Returns how many there were.
        """
        opened, gone = [], set()
        for line in self.trace():
            number = int(line.split()[0])
            if line.endswith("gone"):
                gone.add(number)
            elif match := re.search(r"hello answered, (\d+) changes in flight", line):
                left = [older for older in opened if older not in gone]
                check(not left and match[1] == "0",
                      f"session {number} was answered while older ones, {left}, could still write "
                      f"and {match[1]} changes were in flight: {self.trace()}")
                opened.append(number)
        return len(opened)

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    def close(self):
        if self.process:
            self.process.close()

    def uri(self):
        return f"nbd://{self.host}:{self.port}/{self.export}"

    def remote(self):
        """How a daemon names it as a node."""
        return f"R: {self.host}:{self.port}/{self.export}"
