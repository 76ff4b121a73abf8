"""The exporter that loses its unflushed writes when it is killed (tests/tools/lossy_exporter.cc)."""

import collections
import os
import struct

from lab_process import Process, ReadyPipe

BUILD = os.environ.get("DST_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))

# `struct Tally` of tests/tools/lossy_file.h
Tally = collections.namedtuple(
    "Tally", "unflushed_bytes requests_in_flight changes_in_flight changes flushes")


class LossyExporter:
    """May be killed and started again on the same file and port; each kill is a power cut."""

    def __init__(self, name, folder, port, file, export, latency_us=0, host="127.0.0.1",
                 argv_prefix=()):
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
                      "--latency-us", latency_us]

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
