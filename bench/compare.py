#!/usr/bin/python3
"""Measures this project's export beside nbdkit and qemu-storage-daemon, in one run.

    tools/build && bench/compare.py [--rounds N] [--seconds S] [--quick]

Every server runs pinned to core 1, every client to core 0; rounds alternate over the servers, so
that what else the machine does hits all of them alike. Two clients: `dst bench`, which batches, and
fio's NBD engine, which most people know. Printed are medians, the server's CPU per request (user and
system, from /proc), and the ratio to nbdkit memory. Beside it the floor: the same bytes over a bare
TCP connection (bench/tcp_floor.cc). Quote ratios of one run; absolute figures belong to the machine.

Every export is filled with data that is not zero first, so that nobody is measured on holes.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DST = os.environ.get("DST", str(ROOT / "build" / "dst"))
SIZE = "256M"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"{process.args[0]} does not listen on {port}")


class Server:
    """A server pinned to core 1, and the URI of its export."""

    def __init__(self, name, folder):
        self.name, self.port = name, free_port()
        self.uri = f"nbd://127.0.0.1:{self.port}/"
        self.file = pathlib.Path(folder) / f"{name.replace(' ', '-')}.img"
        command = getattr(self, "start_" + name.split()[0].replace("-", "_"))(name, folder)
        self.process = subprocess.Popen(["taskset", "-c", "1"] + command,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def start_dst(self, name, folder):
        device = f"memory:{SIZE}"
        if "file" in name:
            subprocess.run(["truncate", "-s", SIZE, self.file], check=True)
            device = str(self.file)
        config = pathlib.Path(folder) / f"{name.replace(' ', '-')}.toml"
        spin_us = 50 if "spinning" in name else 0
        cache = 'cache = "buffered"\n' if "file" in name else ""
        config.write_text(f'run_dir = "{config}.run"\nstate_dir = "{config}.state"\n'
                          f'listen = ["127.0.0.1:{self.port}"]\nspin_us = {spin_us}\n'
                          f'[[export]]\nname = "e"\ndevice = "{device}"\n{cache}')
        self.uri += "e"
        return [DST, "daemon", "--config", str(config)]

    def start_nbdkit(self, name, folder):
        plugin = ["memory", SIZE]
        if "file" in name:
            subprocess.run(["truncate", "-s", SIZE, self.file], check=True)
            plugin = ["file", str(self.file)]
        return ["nbdkit", "-f", "-p", str(self.port), "-i", "127.0.0.1"] + plugin

    def start_qemu_storage_daemon(self, name, folder):
        subprocess.run(["truncate", "-s", SIZE, self.file], check=True)
        self.uri += "e"
        return ["qemu-storage-daemon", "--blockdev",
                f"driver=file,node-name=f,filename={self.file}", "--nbd-server",
                f"addr.type=inet,addr.host=127.0.0.1,addr.port={self.port}",
                "--export", "nbd,id=e,node-name=f,name=e,writable=on"]

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_dst_bench(server, operation, size, depth, seconds, spin):
    command = ["taskset", "-c", "0", DST, "bench", server.uri, "--op", operation, "--size", size,
               "--depth", str(depth), "--seconds", str(seconds), "--json",
               "--spin-us", "50" if spin else "0"]
    if "checksums" not in server.name:
        command.append("--no-checksum")
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result["iops"], result["latency_us"]["mean"], result["requests"]


def run_fio(server, operation, size, depth, seconds, _):
    command = ["taskset", "-c", "0", "fio", "--name=x", "--ioengine=nbd", f"--uri={server.uri}",
               f"--rw=rand{operation}", f"--bs={size}", f"--iodepth={depth}", "--time_based",
               f"--runtime={seconds}", f"--size={SIZE}", "--norandommap", "--randrepeat=0",
               "--output-format=json", "--refill_buffers=0"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    job = json.loads(output[output.index("{"):])["jobs"][0][operation]
    return job["iops"], job["lat_ns"]["mean"] / 1000, job["total_ios"]


CLIENTS = {"dst bench": run_dst_bench, "fio": run_fio}
SHAPES = [("4k", 1), ("4k", 64), ("1M", 4)]


def measure(servers, arguments):
    """{(client, operation, size, depth, server): [(iops, latency, cpu per request)]}"""
    found = {}
    for number in range(arguments.rounds):
        for client, run in CLIENTS.items():
            for operation in ("read", "write"):
                for size, depth in SHAPES:
                    for server in servers:
                        if "spinning" in server.name and client == "fio":
                            continue
                        before = server.cpu_seconds()
                        iops, latency, requests = run(server, operation, size, depth,
                                                      arguments.seconds, "spinning" in server.name)
                        cpu = (server.cpu_seconds() - before) * 1e6 / max(requests, 1)
                        key = (client, operation, size, depth, server.name)
                        found.setdefault(key, []).append((iops, latency, cpu))
        print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr)
    return found


def floor_of(folder, operation, size, depth, poll):
    program = pathlib.Path(folder) / "tcp_floor"
    if not program.exists():
        subprocess.run(["clang++-19", "-O2", "-std=c++23", str(ROOT / "bench" / "tcp_floor.cc"),
                        "-o", str(program)], check=True)
    length = {"4k": 4096, "1M": 1 << 20}[size]
    shape = (28, length + 16) if operation == "read" else (length + 28, 16)
    output = subprocess.run([program, *map(str, shape), str(depth), str(poll)], check=True,
                            capture_output=True, text=True).stdout
    return float(output)


def report(found, servers, folder):
    for client in CLIENTS:
        for operation in ("read", "write"):
            for size, depth in SHAPES:
                print(f"\n{client}: {operation} {size}, depth {depth}")
                print(f"  {'server':26} {'requests/s':>12} {'GB/s':>6} {'mean us':>9} {'server CPU us':>14} "
                      f"{'of nbdkit memory':>17}")
                base = statistics.median(
                    x[0] for x in found[(client, operation, size, depth, "nbdkit memory")])
                for server in servers:
                    rows = found.get((client, operation, size, depth, server.name))
                    if not rows:
                        continue
                    iops, latency, cpu = (statistics.median(x[i] for x in rows) for i in range(3))
                    rate = iops * {"4k": 4096, "1M": 1 << 20}[size] / 1e9
                    print(f"  {server.name:26} {iops:12,.0f} {rate:6.2f} {latency:9.1f} {cpu:14.2f} "
                          f"{iops / base:16.2f}x")
                if client == "dst bench":
                    for poll in (0, 1):
                        name = "floor, " + ("spinning" if poll else "asleep")
                        rates = [floor_of(folder, operation, size, depth, poll) for _ in range(3)]
                        rate = statistics.median(rates)
                        print(f"  {name:26} {rate:12,.0f} {'':6} {depth * 1e6 / rate:9.1f} {'':14} "
                              f"{rate / base:16.2f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--quick", action="store_true", help="one round of half a second")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    arguments.seconds = max(1, int(arguments.seconds))  # fio counts whole seconds
    shared_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = tempfile.mkdtemp(prefix="dst-bench-", dir=shared_memory)
    servers = []
    try:
        for name in ("dst memory", "dst memory checksums", "dst memory spinning", "dst file",
                     "nbdkit memory", "nbdkit file", "qemu-storage-daemon file"):
            servers.append(Server(name, folder))
        for server in servers:
            subprocess.run([DST, "bench", server.uri, "--op", "write", "--sequential", "--size", "1M",
                            "--depth", "4", "--seconds", "2", "--no-checksum"], check=True,
                           stdout=subprocess.DEVNULL)
        report(measure(servers, arguments), servers, folder)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
