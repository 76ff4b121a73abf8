"""Processes that a test starts, and how it waits.

Every process is known by its pid, writes to a log file of its own, dies with the test (even if that
is killed), and can be killed, paused and resumed. Nothing here sleeps and hopes: each wait has a
condition, a bound, and a message that says what was waited for.
"""

import collections
import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

Outcome = collections.namedtuple("Outcome", "code stdout stderr")


class Failure(AssertionError):
    """What a test found to be wrong, in words."""


def check(condition, message):
    """Fails the test with `message` unless `condition` holds."""
    if not condition:
        raise Failure(message)


def wait_until(what, condition, timeout=10.0, interval=0.01):
    """Calls `condition` until it returns something true, and returns that.

    `what` completes the sentence "waited N s until ...". An exception of type Failure or OSError
    counts as 'not yet'; the last one is part of the message.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            last = condition()
            if last:
                return last
        except (Failure, OSError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise Failure(f"waited {timeout:g} s in vain until {what}; last seen: {last!r}")
        time.sleep(interval)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(argv, timeout=60.0, **keywords):
    """Runs a program to its end: Outcome(code, stdout, stderr), both as text."""
    argv = [str(arg) for arg in argv]
    try:
        done = subprocess.run(argv, text=True, capture_output=True, timeout=timeout,
                              preexec_fn=_die_with_parent, **keywords)
    except subprocess.TimeoutExpired:
        raise Failure(f"waited {timeout:g} s in vain until '{' '.join(argv)}' ended") from None
    return Outcome(done.returncode, done.stdout, done.stderr)


class Process:
    """A process that runs in the background. Ends with the `with` block, or with its lab."""

    def __init__(self, name, argv, log_path, **keywords):
        self.name = name
        self.argv = [str(arg) for arg in argv]
        self.log_path = log_path
        with open(log_path, "ab") as log:
            log.write(f"--- {' '.join(self.argv)}\n".encode())
            log.flush()
            keywords = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log} | keywords
            self._popen = subprocess.Popen(self.argv, preexec_fn=_die_with_parent, **keywords)
        self.pid = self._popen.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def exit_code(self):
        """None while it runs; negative if a signal ended it."""
        return self._popen.poll()

    def is_running(self):
        return self.exit_code is None

    def wait(self, timeout=30.0):
        """Waits for its end and returns its exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"waited {timeout:g} s in vain until {self.name} (pid {self.pid}) "
                          f"ended") from None

    def kill(self):
        """SIGKILL; returns when it is gone, its sockets too."""
        self._popen.kill()
        self._popen.wait(30)

    def terminate(self, timeout=15.0):
        """SIGTERM; returns the exit code."""
        self._popen.terminate()
        return self.wait(timeout)

    def pause(self):
        """SIGSTOP; returns when none of its threads runs any more."""
        self._popen.send_signal(signal.SIGSTOP)
        wait_until(f"{self.name} has stopped",
                   lambda: all(state in "TZ" for state in self._thread_states()))

    def resume(self):
        """SIGCONT."""
        self._popen.send_signal(signal.SIGCONT)

    def close(self):
        """Ends it, whatever it does or whoever has paused it."""
        if self._popen.returncode is None:
            self.kill()

    def rss_bytes(self):
        return self._status_bytes("VmRSS")

    def rss_peak_bytes(self):
        """The most since its start, or since `reset_rss_peak`."""
        return self._status_bytes("VmHWM")

    def reset_rss_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def descriptors(self):
        """How many file descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _status_bytes(self, field):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise Failure(f"{self.name} (pid {self.pid}) shows no {field}: is it dead?")

    def _thread_states(self):
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/stat", encoding="ascii",
                      errors="replace") as file:
                yield file.read().rpartition(")")[2].split()[0]


class ReadyPipe:
    """For `--ready-fd N`: the program writes a byte when it serves."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def wait(self, process, timeout=20.0):
        """Call after the process has inherited `writer`."""
        os.close(self.writer)
        ready, _, _ = select.select([self.reader], [], [], timeout)
        said = os.read(self.reader, 1) if ready else b""
        os.close(self.reader)
        if said:
            return
        how = "ended" if ready else f"said nothing for {timeout:g} s"
        if ready:
            process.wait(5)
        raise Failure(f"{process.name} {how} instead of becoming ready "
                      f"(exit code {process.exit_code}):\n{process.log_text()[-2000:]}")


class Ports:
    """Ports that nobody else takes: not other labs, not the kernel for outgoing connections.

    The latter matters: a port from the ephemeral range may be gone while its daemon is restarted.
    So each process locks a block of ports below that range.
    """

    FIRST, BLOCK, BLOCKS = 11000, 100, 200

    def __init__(self):
        folder = os.path.join(tempfile.gettempdir(), "dst-lab-ports")
        os.makedirs(folder, exist_ok=True)
        for number in range(self.BLOCKS):
            self._lock = open(os.path.join(folder, str(number)), "w", encoding="ascii")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._lock.close()
                continue
            self._free = iter(range(self.FIRST + number * self.BLOCK,
                                    self.FIRST + (number + 1) * self.BLOCK))
            return
        raise Failure(f"no block of ports is free, see the locks in {folder}")

    def take(self):
        """A port to which nothing is bound."""
        for port in self._free:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise Failure("this lab has used up its ports")


def can_connect(port, host="127.0.0.1"):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
