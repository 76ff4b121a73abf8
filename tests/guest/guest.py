"""Runs a script in a kernel of its own: Debian's, in qemu, without anything of the host's kernel.

    with Guest(folder, script, disks=[...]) as guest:
        guest.wait_for("written")     # until the script says so: `say written`
        guest.cut_power()             # or: guest.finish()

The guest emulates its processors (`-accel tcg`), so it runs anywhere and is slow. Its disks are files
of the host; it has no network but its own loopback.
"""

import os
import queue
import subprocess
import sys
import threading
import time

import guest_image
import guest_kernel

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab_process import Failure, _die_with_parent, check

BUILD = os.environ.get("DST_BUILD", os.path.join(guest_image.HERE, "../../build"))
DST = os.environ.get("DST", os.path.join(BUILD, "dst"))

# What a healthy kernel never says.
_BROKEN = ["BUG:", "Oops", "Kernel panic", "WARNING: CPU", "blocked for more than",
           "I/O error, dev", "Buffer I/O error"]
_SHOWN = 4000
# Seconds before the end of a guest that hangs in which it tells what it waits for.
_TELLING = 45


class Guest:
    """One boot. Whatever happens, its qemu has ended when the `with` block has."""

    def __init__(self, folder, script, disks=(), memory="512M", timeout=400.0, may_say=()):
        """`disks`: files, /dev/vda, /dev/vdb ... in the guest. `timeout`: the guest's whole life, in
        seconds. `may_say`: of `_BROKEN`, what this test brings about."""
        self.console_path = os.path.join(folder, "console")
        self._may_say = may_say
        self._lines = queue.Queue()
        self._seen = []
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        kernel = guest_kernel.kernel()
        initrd = os.path.join(folder, "initrd")
        with open(initrd, "wb") as file:
            file.write(guest_image.make(kernel, DST, script, int(timeout) - _TELLING))
        argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi",
                "-smp", "2", "-m", memory,
                "-cpu", "Westmere,+rdrand", "-nodefaults", "-no-reboot", "-display", "none",
                "-kernel", kernel.image, "-initrd", initrd, "-append",
                "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off nokaslr "
                "random.trust_cpu=on tsc=reliable no_timer_check",
                "-chardev", f"file,id=console,path={self.console_path}",
                "-serial", "chardev:console", "-serial", "stdio"]
        for disk in disks:
            argv += ["-drive", f"file={disk},if=virtio,format=raw,cache=writeback,discard=unmap"]
        try:
            self._qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, preexec_fn=_die_with_parent)
        except OSError as error:
            raise guest_kernel.CannotRun(
                f"qemu-system-x86_64 does not start: {error}; tools/install-packages test") from None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut_power()

    def cut_power(self):
        """Ends the guest at once, whatever it does."""
        self._qemu.kill()
        self._qemu.wait(30)
        self._reader.join(30)

    def wait_for(self, text):
        """Reads what the script says until a line contains `text`, and returns that line."""
        while True:
            line = self._next_line()
            if line is None or line.startswith(("guest: ended", "fail: ")):
                self._fail(f"the guest ended, and never said '{text}'")
            if text in line:
                return line

    def finish(self):
        """Waits until the script has ended; fails unless it did well and the kernel is healthy."""
        while (line := self._next_line()) is not None:
            if line.startswith("guest: ended with"):
                if line.split()[-1] != "0":
                    self._fail("the script failed")
                break
        else:
            self._fail("the guest ended before its script")
        said = self._console()
        for words in _BROKEN:
            if words in said and words not in self._may_say:
                self._fail(f"the guest's kernel said '{words}'")
        return self._seen

    def _next_line(self):
        try:
            line = self._lines.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            self._fail(f"the guest was not done after {self._timeout:g} s")
        if line is not None:
            self._seen.append(line)
            print(f"    {line}", flush=True)
        return line

    def _read(self):
        for line in self._qemu.stdout:
            self._lines.put(line.decode(errors="replace").rstrip())
        self._lines.put(None)

    def _console(self):
        with open(self.console_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _fail(self, why):
        time_limit = time.monotonic() + 5  # what it says on its way out belongs to the report
        while time.monotonic() < time_limit and self._reader.is_alive():
            self._reader.join(0.1)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                print(f"    {line}")
        raise Failure(f"{why}; its console:\n{self._console()[-_SHOWN:]}")


def disk(folder, name, size):
    """A sparse file of `size` bytes, for a guest's disk."""
    path = os.path.join(folder, name)
    check(not os.path.exists(path), f"{path} is there already")
    with open(path, "wb") as file:
        file.truncate(size)
    return path
