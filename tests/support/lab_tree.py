"""The tree of a daemon, used as a shell or a program would use sysfs."""

import errno
import os
import select
import stat

from lab_process import check, wait_until

STORAGE_FILES = {"alg": 0o444, "name": 0o444, "nodes": 0o444, "remove_all_nodes": 0o200}
NODE_FILES = {"clean": 0o200, "dirty": 0o200, "resync_size": 0o644, "resync_timout": 0o644,
              "resync_timeout": 0o644, "state": 0o444, "flags": 0o444, "size": 0o444,
              "start": 0o444, "type": 0o444}


class Tree:
    """`<run_dir>/sysfs` of a daemon. Paths are below `devices`, unless they begin with a slash."""

    def __init__(self, daemon):
        self.root = f"{daemon.config['run_dir']}/sysfs"

    def path(self, *parts):
        joined = "/".join(parts)
        return self.root + joined if joined.startswith("/") else f"{self.root}/devices/{joined}"

    def is_mounted(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            return any(line.split()[4] == self.root for line in mounts)

    def list(self, *parts):
        return sorted(os.listdir(self.path(*parts)))

    def read(self, *parts):
        """The value; fails unless it is lines that end with a newline."""
        with open(self.path(*parts), encoding="utf-8") as file:
            text = file.read()
        check(not text or text.endswith("\n"), f"{parts}: {text!r} does not end with a newline")
        return text[:-1]

    def write(self, value, *parts):
        """One write(2); the name of its errno, or of that of opening, or ''."""
        try:
            with open(self.path(*parts), "wb", buffering=0) as file:
                data = value.encode() if isinstance(value, str) else value
                written = file.write(data)
                check(written == len(data), f"{parts}: {written} of {len(data)} bytes were taken")
        except OSError as error:
            return errno.errorcode[error.errno]
        return ""

    def nodes(self, storage):
        """Names of the folders of its nodes."""
        return [name for name in self.list(storage) if name.startswith("n-")]

    def mode(self, *parts):
        return stat.S_IMODE(os.stat(self.path(*parts)).st_mode)

    def everything(self):
        """{path below devices: value} of all that can be read; what goes meanwhile is left out."""
        values = {}
        for folder, _, files in os.walk(self.path()):
            for name in files:
                if (STORAGE_FILES | NODE_FILES).get(name, 0o444) & 0o444 == 0:
                    continue
                path = os.path.relpath(os.path.join(folder, name), self.path())
                try:
                    values[path] = self.read(path)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        raise
        return values

    def expected(self, status):
        """What `everything` has to be for that status of `dst status --json`."""
        values = {}
        for storage in status["storages"]:
            name = storage["name"]
            lines = []
            for node in storage["nodes"]:
                if int(node["cookie"], 16) == 0:
                    continue
                folder = f"n-{node['start']}-{node['cookie']}"
                lines.append(f"{folder} {node['start']} {node['size']} {node['type']}")
                resync = storage["resync"]
                for file, value in {"state": node["state"], "flags": " ".join(node["flags"]),
                                    "size": node["size"], "start": node["start"],
                                    "type": node["type"], "resync_size": resync["size"],
                                    "resync_timout": resync["timeout"],
                                    "resync_timeout": resync["timeout"]}.items():
                    values[f"{name}/{folder}/{file}"] = str(value)
            values |= {f"{name}/alg": storage["algorithm"], f"{name}/name": name,
                       f"{name}/nodes": "\n".join(lines)}
        return values


class Watched:
    """An open file of the tree that is polled."""

    def __init__(self, tree, *parts):
        self._fd = os.open(tree.path(*parts), os.O_RDONLY)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI | select.POLLERR)
        self.value = self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)

    def read(self):
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.value = os.read(self._fd, 4096).decode().rstrip("\n")
        return self.value

    def has_changed(self, timeout):
        """poll(2), for so many seconds: whether it says that the value is another."""
        events = self._poll.poll(timeout * 1000)
        return bool(events) and bool(events[0][1] & select.POLLPRI)

    def wait(self, value, timeout=20.0):
        """Polls until the value is this one; reads only when poll(2) says so."""
        def reached():
            return self.value == value or (self.has_changed(1.0) and self.read() == value)
        wait_until(f"poll(2) has told of {value}", reached, timeout)
