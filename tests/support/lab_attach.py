"""Attached devices as tests see them: names in /dev, file systems on them, and what is left behind.

Whatever happens, a test leaves no mount, no loop device and no process that keeps one: `attach`
registers the cleaning, which uses nothing of the daemon that is tested.
"""

import json
import os
import signal
import time

from lab_process import Process, check, run, wait_until

KEEPER = "dst-keep-loop"


def attach(lab, daemon, name, *options):
    """`dst attach NAME`; returns what it printed last, the name of the device."""
    clean_up_after(lab)
    return daemon.do("attach", name, *options, timeout=30).split()[-1]


def clean_up_after(lab):
    """Takes away, when the test ends, what is mounted and attached below the lab's folder."""
    if not getattr(lab, "cleans_attachments", False):
        lab.cleans_attachments = True
        lab.first_at_end(_let_go, lab.folder)
        lab.at_end(_clean_up, lab.folder)


def _let_go(folder):
    """Who waits for a device must not be in the way of the end: what is waited for fails."""
    for place in reversed(mounts_below(folder)):
        if place.startswith(folder) and "/run/disk/" in place:
            run(["umount", "--force", "--lazy", place])


def _clean_up(folder):
    for place in reversed(mounts_below(folder)):
        run(["umount", "--lazy", place])
    for device in loops_of(folder):
        run(["losetup", "--detach", device])
    for pid in keepers():
        if _belongs_to(pid, folder):
            os.kill(pid, signal.SIGKILL)


def _belongs_to(pid, folder):
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(link.startswith(folder) for link in links)


def mounts_below(folder):
    """Mount points there, the lowest first, but for the trees of daemons."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        places = [line.split()[4] for line in mounts]
    return [place for place in places
            if place.startswith(folder + "/") and not place.endswith("/run/sysfs")]


def loops_of(folder):
    """Loop devices on files there."""
    listed = json.loads(run(["losetup", "--json", "--list"]).stdout or '{"loopdevices": []}')
    return [loop["name"] for loop in listed["loopdevices"]
            if (loop["back-file"] or "").startswith(folder + "/")]


def keepers():
    """Pids of the processes that keep loop devices."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                if comm.read().strip() == KEEPER:
                    found.append(int(pid))
        except OSError:
            continue
    return found


def parent_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[1])


def wait_nothing_left(lab, timeout=10.0):
    """Waits until no mount and no loop device of this lab is there."""
    wait_until("nothing of it is mounted", lambda: not mounts_below(lab.folder), timeout)
    wait_until("it has no loop device", lambda: not loops_of(lab.folder), timeout)


def do(*argv, timeout=60.0):
    """Runs a program that must succeed; returns its standard output."""
    outcome = run(argv, timeout=timeout)
    check(outcome.code == 0, f"{' '.join(map(str, argv))}: exit code {outcome.code}: "
                             f"{outcome.stdout[-1500:]}{outcome.stderr[-1500:]}")
    return outcome.stdout


MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
CHECK = {"ext4": ["e2fsck", "-f", "-n"], "xfs": ["xfs_repair", "-n"]}


def make_filesystem(kind, device):
    do(*MAKE[kind], device, timeout=120)


def check_filesystem(kind, device):
    do(*CHECK[kind], device, timeout=120)


class Mount:
    """A file system that is mounted for the length of a `with` block, or until `unmount`."""

    def __init__(self, lab, device, name="mounted"):
        clean_up_after(lab)
        self.path = lab.path(name)
        self._device = device

    def __enter__(self):
        os.makedirs(self.path, exist_ok=True)
        do("mount", self._device, self.path)
        return self

    def __exit__(self, *_):
        if os.path.ismount(self.path):
            run(["umount", "--lazy", self.path])

    def unmount(self):
        do("umount", self.path, timeout=60)


def fio(lab, name, target, **options):
    """Starts fio on a file or device: writes, then verifies."""
    options = {"filename": target, "ioengine": "io_uring", "direct": 1, "rw": "randwrite",
               "bs": "4k", "iodepth": 32, "verify": "crc32c", "verify_fatal": 1, "do_verify": 1,
               "verify_state_save": 0, "randseed": lab.random.randrange(1, 1 << 31), "name": name,
               "thread": 1} | options
    return lab.process(name, ["fio", *(f"--{key}={value}" for key, value in options.items())],
                       cwd=lab.folder)


def ends_well(process: Process, timeout=100.0):
    """Waits for its end; fails unless it succeeded."""
    code = process.wait(timeout)
    check(code == 0, f"{process.name} ended with exit code {code}: {process.log_text()[-2000:]}")


def timed(function, *args):
    """How long it took, in seconds, and what it returned."""
    begin = time.monotonic()
    result = function(*args)
    return time.monotonic() - begin, result
