"""Two hosts and a cable between them: network namespaces joined by a veth pair."""

import contextlib
import os

from lab_process import Process, check, run, wait_until

HEAD, EXPORTER = "10.77.0.1", "10.77.0.2"
_DEVICE = "cable"
_NOBODY = "02:00:00:00:00:99"


def _run(*argv):
    outcome = run(argv)
    check(outcome.code == 0, f"{' '.join(argv)}: {outcome.stderr.strip()}")


class Link:
    """The hosts `head` (10.77.0.1) and `exporter` (10.77.0.2), until the `with` block ends.

    A namespace lives as long as a process that does nothing else.
    """

    HOSTS = {"head": HEAD, "exporter": EXPORTER}

    def __init__(self, log_path):
        self._log_path = log_path
        self._holders = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for host in self.HOSTS:
                holder = stack.enter_context(
                    Process(host, ["unshare", "--net", "sleep", "infinity"], self._log_path))
                wait_until(f"host {host} has a network of its own", lambda pid=holder.pid:
                           os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"))
                self._holders[host] = holder
            _run("ip", "link", "add", "name", _DEVICE, "netns", str(self._holders["head"].pid),
                 "type", "veth",
                 "peer", "name", _DEVICE, "netns", str(self._holders["exporter"].pid))
            for host, address in self.HOSTS.items():
                self._ip_on(host, "address", "add", f"{address}/24", "dev", _DEVICE)
                self._ip_on(host, "link", "set", "dev", "lo", "up")
                self.plug_in(host)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def on(self, host):
        """What to put in front of a command that runs on that host."""
        return ["nsenter", f"--net=/proc/{self._holders[host].pid}/ns/net"]

    def pull_out(self, host):
        """The cable, at that end: neither side gets anything through."""
        self._ip_on(host, "link", "set", "dev", _DEVICE, "down")

    def plug_in(self, host):
        self._ip_on(host, "link", "set", "dev", _DEVICE, "up")

    def swallow_from(self, host):
        """Whatever that host sends is lost, silently: it goes to an address that nobody has."""
        self._ip_on(host, "neighbour", "replace", self._other(host), "lladdr", _NOBODY,
                    "nud", "permanent", "dev", _DEVICE)

    def deliver_from(self, host):
        self._ip_on(host, "neighbour", "delete", self._other(host), "dev", _DEVICE)

    def _other(self, host):
        return EXPORTER if host == "head" else HEAD

    def _ip_on(self, host, *args):
        _run(*self.on(host), "ip", *args)
