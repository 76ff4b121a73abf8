"""Runs the commands of a document, each on the host that its prompt names.

A host is a folder and a loopback address of its own: its files (/etc/dst, /run/dst, /var/lib/dst,
/dev/sdX) are in the folder, and its name stands for the address. What a document has is:

    ```sh                      commands, `HOST$ COMMAND`; below each, lines that its output has:
    HOST$ COMMAND              "a...b" is one line that has a, and behind it b
    ```
    <!-- file: HOST... PATH --> and a block of toml: that file is written
    <!-- do: HOST WHAT -->      something happens that no command does (`Host.happens`)
    <!-- wait: HOST NAME STATE -->
    <!-- load: HOST NAME -->    a client begins to write
"""

import os
import pty
import re
import select
import signal
import subprocess
import time

from lab import DST, Failure, check
from lab_daemon import Daemon

COMMAND_MAX_S = 90
SHOW_MAX_S = 10
ENDLESS = re.compile(r"--(watch|follow)\b")


class Host(Daemon):
    """One of the document's hosts: a daemon that systemctl starts and stops."""

    def __init__(self, lab, name, address, disks):
        folder = lab.path(name)
        super().__init__(name, folder, 10809, {})
        lab.note_log(name, self.log_path)
        self.address = address
        self.config_path = f"{folder}/etc/dst/dst.toml"
        self.paths = {"/etc/dst": f"{folder}/etc/dst", "/run/dst": f"{folder}/run",
                      "/var/lib/dst": f"{folder}/state"}
        for disk, size in disks.items():
            self.paths[disk] = lab.file(f"{name}{disk.replace('/', '-')}", size)
        os.makedirs(os.path.dirname(self.config_path))

    def write_config(self):
        """The configuration is what the document has written."""

    def systemctl(self, verb):
        if verb in ("stop", "restart"):
            self.stop()
        if verb in ("start", "restart", "enable"):
            self.start()

    def happens(self, what):
        """What an administrator meets, and does not do."""
        if what in ("stop-hard", "restart"):
            self.kill()
        if what in ("start", "restart"):
            self.start()
        if what == "corrupt-state":
            with open(f"{self.folder}/state/runtime.toml", "a", encoding="utf-8") as file:
                file.write("[[storage]\n")


class Document:
    """`hosts`: Host by name. `say(text)` tells what is done."""

    def __init__(self, path, hosts, lab):
        with open(path, encoding="utf-8") as file:
            self._lines = file.read().splitlines()
        self._hosts = hosts
        self._lab = lab
        self._loads = 0
        self.commands = 0

    def run(self):
        """Everything in its order. Fails with the line of the document that does not hold."""
        at = 0
        while at < len(self._lines):
            line = self._lines[at]
            at += 1
            if match := re.fullmatch(r"<!-- (\w+): (.*) -->", line):
                block = None
                if match[1] == "file":
                    check(self._lines[at] == "```toml", f"line {at}: no block of toml follows")
                    end = self._lines.index("```", at)
                    block = "\n".join(self._lines[at + 1:end]) + "\n"
                    at = end + 1
                self._act(at, match[1], match[2].split(), block)
            elif line.startswith("```sh"):
                end = self._lines.index("```", at)
                self._run_block(at, self._lines[at:end])
                at = end + 1

    def _act(self, number, action, words, block):
        if action == "file":
            for name in words[:-1]:
                host = self._hosts[name]
                text = f'run_dir = "/run/dst"\nstate_dir = "/var/lib/dst"\n{block}'
                with open(self._mapped(host, words[-1]), "w", encoding="utf-8") as file:
                    file.write(self._mapped(host, text))
        elif action == "do":
            self._hosts[words[0]].happens(words[1])
        elif action == "wait":
            self._hosts[words[0]].wait_storage(words[1], words[2])
        elif action == "load":
            self._loads += 1
            host = self._hosts[words[0]]
            self._lab.process(f"load{self._loads}", [
                DST, "bench", f"nbd://{host.address}/{words[1]}", "--op", "write", "--seconds",
                "3600"])
        else:
            raise Failure(f"line {number}: nobody knows how to '{action}'")

    def _run_block(self, number, lines):
        at = 0
        while at < len(lines):
            match = re.fullmatch(r"(\w+)\$ (.*)", lines[at])
            check(match, f"line {number + at + 1}: no prompt of a host: {lines[at]}")
            begin, at = at, at + 1
            expected = []
            while at < len(lines) and not re.match(r"\w+\$ ", lines[at]):
                expected.append(lines[at])
                at += 1
            self._run_command(number + begin + 1, self._hosts[match[1]], match[2], expected)

    def _run_command(self, number, host, command, expected):
        self.commands += 1
        begun = time.monotonic()
        where = f"line {number}: {host.name}$ {command}"
        if match := re.fullmatch(r"systemctl (?:(enable) --now|(\w+)) dst( \|\| true)?", command):
            try:
                host.systemctl(match[1] or match[2])
            except Failure as failure:
                check(match[3], f"{where}: {failure}")
            output = ""
        elif ENDLESS.search(command):
            output = self._show(host, command)
        else:
            environment = os.environ | {
                "DST_SOCKET": host.socket_path,
                "PATH": f"{os.path.dirname(os.path.abspath(DST))}:{os.environ['PATH']}"}
            done = subprocess.run(["bash", "-c", self._mapped(host, command)], text=True,
                                  capture_output=True, timeout=COMMAND_MAX_S, env=environment,
                                  check=False)
            output = done.stdout
            check(done.returncode == 0,
                  f"{where}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        for text in expected:
            pieces = [piece for piece in self._mapped(host, text).split("...") if piece.strip()]
            pattern = ".*".join(re.escape(piece.strip()) for piece in pieces)
            check(re.search(pattern, output), f"{where}: no '{text}' in\n{output}")
        self._lab.say(f"{time.monotonic() - begun:5.1f} s  {where}")

    def _show(self, host, command):
        """What a command shows at a terminal that runs until Ctrl-C, which must end it well."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["DST_SOCKET"] = host.socket_path
            os.environ["PATH"] = f"{os.path.dirname(os.path.abspath(DST))}:{os.environ['PATH']}"
            os.execvp("bash", ["bash", "-c", "exec " + self._mapped(host, command)])
        output = b""
        deadline = time.monotonic() + SHOW_MAX_S
        while time.monotonic() < deadline and b"\n" not in output:
            if select.select([terminal], [], [], 0.1)[0]:
                output += os.read(terminal, 65536)
        os.write(terminal, b"\x03")
        while select.select([terminal], [], [], 1)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        code = os.waitstatus_to_exitcode(status)
        check(code in (0, -signal.SIGINT), f"{command}: Ctrl-C ended it with {code}")
        return output.decode(errors="replace")

    def _mapped(self, host, text):
        """What stands for the document's names here."""
        for name, other in self._hosts.items():
            text = re.sub(rf"(?<![\w-]){name}(?![\w-])", other.address, text)
        for path, here in host.paths.items():
            text = re.sub(re.escape(path) + r"(?![\w-])", here, text)
        text = text.replace("10.0.0.0/24", "127.0.0.0/8")
        return text.replace("0.0.0.0", host.address)
