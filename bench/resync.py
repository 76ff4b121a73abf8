#!/usr/bin/python3
"""Measures a mirror's resync beside nbdcopy, between the same two exporters, in one run.

    tools/build && bench/resync.py [--rounds N] [--size SIZE] [--window SIZE]...

Exporters hold their content in memory, so that what is measured is who copies. Each round, in turn
for nbdcopy and for each window (`resync_size`), begins with new exporters: one full of data, one
blank. nbdcopy copies from the one to the other and flushes; a mirror with `init = "adopt"` is made
of them, and the time counts from when its first age is in force to when the second node is attached.
Printed are medians in MiB/s and the ratio to nbdcopy. Absolute figures belong to the machine.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from compare import DST, free_port, wait_for_port

MIB = 1 << 20
PATIENCE_S = 120


class Daemon:
    running = []

    def __init__(self, folder, name, body):
        self.port = free_port()
        self.config = pathlib.Path(folder) / f"{name}.toml"
        self.log = open(f"{self.config}.log", "w+", encoding="utf-8")
        self.config.write_text(f'run_dir = "{self.config}.run"\nstate_dir = "{self.config}.state"\n'
                               f'listen = ["127.0.0.1:{self.port}"]\n{body}', encoding="utf-8")
        self.process = subprocess.Popen([DST, "daemon", "--config", str(self.config)],
                                        stdout=self.log, stderr=self.log)
        Daemon.running.append(self)
        wait_for_port(self.port, self.process)

    def log_text(self):
        self.log.seek(0)
        return self.log.read()

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        Daemon.running.remove(self)


def time_of(line):
    """Seconds of the day, of a line of the log."""
    hours, minutes, seconds = re.match(r"\S+T(\d+):(\d+):([\d.]+)", line).groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def exporters(folder, size, image):
    """The end, where a mirror has its metadata, is blank."""
    pair = [Daemon(folder, f"exporter{at}",
                   f'[[export]]\nname = "e"\ndevice = "memory:{size + 2}M"\n') for at in range(2)]
    subprocess.run(["nbdcopy", image, f"nbd://127.0.0.1:{pair[0].port}/e"], check=True)
    return pair


def nbdcopy_seconds(folder, size, image):
    pair = exporters(folder, size, image)
    begun = time.monotonic()
    subprocess.run(["nbdcopy", "--flush"] + [f"nbd://127.0.0.1:{each.port}/e" for each in pair],
                   check=True)
    seconds = time.monotonic() - begun
    for each in pair:
        each.end()
    return seconds


def resync_seconds(folder, size, image, window):
    pair = exporters(folder, size, image)
    nodes = ", ".join(f'"R: 127.0.0.1:{each.port}/e"' for each in pair)
    head = Daemon(folder, "head", f'memory = "512M"\n[[storage]]\nname = "vol"\n'
                  f'algorithm = "mirror"\nnodes = [{nodes}]\ninit = "adopt"\n'
                  f'resync_size = "{window}"\n')
    deadline = time.monotonic() + PATIENCE_S
    ages = []
    # Asked seldom, for that costs the head time; its log has the times.
    while not (ages and ages[-1].count("R: ") == 2):
        if time.monotonic() > deadline:
            sys.exit(f"it is not in sync after {PATIENCE_S} s:\n{head.log_text()}")
        time.sleep(0.1)
        ages = [line for line in head.log_text().splitlines() if " in force, attached: " in line]
    seconds = time_of(ages[-1]) - time_of(ages[0])
    for each in [head, *pair]:
        each.end()
    return seconds % 86400


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=512, help="in MiB")
    parser.add_argument("--window", action="append", help="resync_size; as often as wanted")
    asked = parser.parse_args()
    windows = asked.window or ["1M", "16M", "128M"]
    ways = ["nbdcopy"] + windows
    found = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "image")
        with open(image, "wb") as file:
            for _ in range(asked.size):
                file.write(os.urandom(MIB))
        try:
            for _ in range(asked.rounds):
                for way in ways:
                    seconds = (nbdcopy_seconds(folder, asked.size, image) if way == "nbdcopy"
                               else resync_seconds(folder, asked.size, image, way))
                    found[way].append(asked.size / seconds)
        finally:
            for daemon in list(Daemon.running):
                daemon.end()
    base = statistics.median(found["nbdcopy"])
    for way in ways:
        median = statistics.median(found[way])
        print(f"{way:>8}  {median:7.0f} MiB/s  {median / base:5.2f}  "
              f"({min(found[way]):.0f} to {max(found[way]):.0f})")


main()
