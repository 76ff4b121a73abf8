#!/usr/bin/python3
"""The command as a person sees it: at a terminal of 80 columns, with completion and manual pages;
and as a program sees it, without any of that."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import BUILD, DST, Lab, check, dst, main, run, test, wait_until
from lab_mirror import STORAGE, fill, start_exporters, start_mirror

COLUMNS, LINES = 80, 24
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """A program at a terminal of 80 columns and 24 lines."""

    def __init__(self, *argv, **environment):
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm"} | environment)
            os.execv(argv[0], argv)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.output = ""

    def read(self, seconds):
        """More of its output, if any comes; False at its end."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        try:
            self.output += os.read(self._fd, 65536).decode(errors="replace")
            return True
        except OSError:
            return False

    def until(self, what, condition, timeout=20.0):
        deadline = time.monotonic() + timeout
        while not condition(self.output):
            check(time.monotonic() < deadline, f"waited in vain until {what}: {self.output!r}")
            check(self.read(0.1) or condition(self.output), f"it ended before {what}: "
                                                            f"{self.output!r}")

    def type(self, text):
        os.write(self._fd, text.encode())

    def end(self):
        """Reads to the end; the exit code."""
        while self.read(10):
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self):
        """What is seen, without colours."""
        return ESCAPE.sub("", self.output.replace("\r", "")).splitlines()


def check_fits(lines):
    long = [line for line in lines if len(line) > COLUMNS]
    check(not long, f"wider than the terminal: {long}")


@test
def at_a_terminal_status_has_colours_and_fits(lab: Lab):
    exporters = start_exporters(lab, 2, 16 << 20)
    head = start_mirror(lab, [each.remote("disk") for each in exporters], grace="1s")
    exporters[1].kill()
    fill(lab, head, 8 << 20)
    for words in (["status"], ["what-if", STORAGE], ["storage", "list"], ["export", "list"],
                  ["doctor"]):
        terminal = Terminal(DST, *words, DST_SOCKET=head.socket_path)
        terminal.end()
        check(terminal.output, f"{words}: nothing is shown")
        check_fits(terminal.lines())
        check("\x1b[3" in terminal.output or words[-1] == "list", f"{words}: no colours")
        plain = Terminal(DST, *words, DST_SOCKET=head.socket_path, NO_COLOR="1")
        plain.end()
        check("\x1b" not in plain.output, f"{words}: colours although NO_COLOR is set")
        piped = head.dst(*words)
        check("\x1b" not in piped.stdout + piped.stderr, f"{words}: colours in a pipe")
    lines = [line for line in head.do("status").splitlines() if "degraded" in line]
    check(len(lines) == 1 and exporters[1].remote("disk") in lines[0],
          "in a pipe a storage is one line, with its reason")


@test
def watch_is_a_live_screen_that_survives_a_restart_and_leaves_nothing_behind(lab: Lab):
    head = lab.daemon("head", storage=[{"name": STORAGE, "algorithm": "linear",
                                        "nodes": ["L: memory:1M"]}])
    terminal = Terminal(DST, "status", "--watch", "--socket", head.socket_path)
    terminal.until("the storage is shown", lambda text: "running" in text)
    check(terminal.output.startswith("\x1b[?1049h"), f"no screen of its own: {terminal.output!r}")
    head.do("storage", "stop", STORAGE)
    terminal.until("the change is shown", lambda text: "stopped" in text)
    for number in range(40):
        head.do("export", "add", f"export{number}", "--device", "memory:64K")
    terminal.until("it says that there is more", lambda text: "more lines" in text)
    head.kill()
    terminal.until("it says that nobody answers", lambda text: "dst:" in text)
    head.start()
    terminal.until("it is shown again",
                   lambda text: "stopped" in text.rsplit("dst:", 1)[1])
    screens = terminal.output.split("\x1b[H")[1:]
    check(all(screen.count("\n") < LINES for screen in screens), "it scrolls")
    terminal.type("\x03")
    check(terminal.end() == 0, "Ctrl-C is no way to end it")
    check(terminal.output.endswith("\x1b[?25h\x1b[?1049l"), f"left behind: {terminal.output[-80:]!r}")


@test
def long_work_has_a_bar_at_a_terminal_alone(lab: Lab):
    exporters = start_exporters(lab, 2, 64 << 20)
    head = start_mirror(lab, [each.remote("disk") for each in exporters], resync_size="64K")
    fill(lab, head, 60 << 20)
    terminal = Terminal(DST, "storage", "verify", STORAGE, "--socket", head.socket_path)
    check(terminal.end() == 0, terminal.output)
    check("verify of vol [" in terminal.output and " %" in terminal.output, terminal.output)
    head.do("node", "mark-dirty", STORAGE, exporters[1].remote("disk"))
    terminal = Terminal(DST, "storage", "wait", STORAGE, "--socket", head.socket_path)
    check(terminal.end() == 0, terminal.output)
    check("resync of vol [" in terminal.output, terminal.output)
    check_fits(terminal.output.replace("\r", "\n").replace("\x1b[K", "").splitlines())
    piped = head.dst("storage", "verify", STORAGE)
    check(piped.stderr == "" and "\r" not in piped.stdout, f"a bar in a pipe: {piped}")
    exporters[1].kill()
    wait_until("it is noticed",
               lambda: not head.node(STORAGE, exporters[1].remote("disk"))["connected"])
    late = head.dst("storage", "wait", STORAGE, "--timeout", "1s")
    check(late.code == 1 and exporters[1].remote("disk") in late.stderr, f"{late}")


@test
def apply_shows_the_plan_and_asks_before_it_does_anything(lab: Lab):
    head = lab.daemon("head", export=[{"name": "old", "device": "memory:1M"}])
    wanted = lab.path("wanted.toml")

    def want(text):
        with open(wanted, "w", encoding="utf-8") as file:
            file.write(text)

    def names():
        return sorted(each["name"] for each in head.status()["exports"])

    want('[[export]]\nname = "new"\ndevice = "memory:1M"\n')
    refused = head.dst("apply", wanted)
    check(refused.code == 1 and "--yes" in refused.stderr and "1. add export 'new'"
          in refused.stdout, f"{refused}")
    for answer in ("\n", "n\n", "\x04"):
        terminal = Terminal(DST, "apply", wanted, "--socket", head.socket_path)
        terminal.until("it asks", lambda text: "[y/N]" in text)
        terminal.type(answer)
        check(terminal.end() == 1 and names() == ["old"], f"{answer!r}: {terminal.output}")
    check(head.dst("apply", wanted, "--dry-run").code == 0 and names() == ["old"], "not dry")
    terminal = Terminal(DST, "apply", wanted, "--socket", head.socket_path)
    terminal.until("it asks", lambda text: "[y/N]" in text)
    terminal.type("y\n")
    check(terminal.end() == 0 and names() == ["new", "old"], terminal.output)
    check("nothing to do" in head.do("apply", wanted), "it is not idempotent")
    diff = head.dst("config", "diff")
    check(diff.code == 1 and diff.stdout == "+ export 'new'\n", f"{diff}")
    head.do("apply", wanted, "--prune", "--yes")
    check(names() == ["new"], f"{names()}")
    # What can't be done says which step it was, and what was done before it.
    want('[[export]]\nname = "first"\ndevice = "memory:1M"\n'
         f'[[export]]\nname = "second"\ndevice = "{lab.path("nowhere")}"\n')
    failed = head.dst("apply", wanted, "--yes")
    check(failed.code == 1 and "step 2 of 2" in failed.stderr and "1 done" in failed.stderr
          and failed.stderr.count("\n") == 1, f"{failed}")
    check(names() == ["first", "new"], f"{names()}")
    # And what is wrong with the file, its line.
    want('[[export]]\nname = "first"\ndevicee = "memory:1M"\n')
    failed = head.dst("apply", wanted, "--yes")
    check(failed.code == 1 and f"{wanted}:3:" in failed.stderr, f"{failed}")
    missing = head.dst("apply", lab.path("missing"))
    check(missing.code == 1 and missing.stderr.count("\n") == 1, f"{missing}")
    # What the daemon runs can be written to a file, and is nothing new then.
    want(head.do("config", "show"))
    check("nothing to do" in head.do("apply", wanted), "it does not know its own configuration")
    check(head.dst("config", "diff", wanted).code == 0, "it differs from itself")


@test
def bash_completes_verbs_options_values_and_names(lab: Lab):
    head = lab.daemon("head", storage=[{"name": "some-storage", "algorithm": "linear",
                                        "nodes": ["L: memory:1M"]}])
    script = lab.path("completion")
    with open(script, "w", encoding="utf-8") as file:
        file.write(dst("completion", "bash").stdout)

    def completed(line):
        words = line.split(" ")
        code = f"""
            source {script}
            COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
            compopt() {{ :; }}
            _dst; printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = run(["bash", "-c", code], env=os.environ | {"DST_SOCKET": head.socket_path})
        check(done.code == 0 and not done.stderr, f"{line}: {done}")
        return set(done.stdout.split())

    check({"status", "storage", "what-if", "doctor"} <= completed(f"{DST} "), "verbs")
    check(completed(f"{DST} storage cr") == {"create"}, "a verb of a verb")
    check(completed(f"{DST} storage create vol --gr") == {"--grace"}, "an option")
    check(completed(f"{DST} daemon --log-level ") == {"debug", "info", "warning", "error"},
          f"values: {completed(f'{DST} daemon --log-level ')}")
    check("some-storage" in completed(f"{DST} storage stop "), "names of storages")
    check("--socket" in completed(f"{DST} what-if --s"), "options of all verbs")
    check(script in completed(f"{DST} check-config {script[:-3]}"), "files")


@test
def manual_pages_and_completion_are_installed_and_man_can_read_them(lab: Lab):
    prefix = lab.path("prefix")
    installed = run(["cmake", "--install", BUILD, "--prefix", prefix], timeout=120)
    check(installed.code == 0, f"{installed}")
    pages = sorted(os.listdir(f"{prefix}/share/man/man1"))
    check("dst.1" in pages and "dst-storage.1" in pages and "dst-what-if.1" in pages, f"{pages}")
    check(os.path.exists(f"{prefix}/share/bash-completion/completions/dst"), "no completion")
    for page in pages:
        with open(f"{prefix}/share/man/man1/{page}", encoding="utf-8") as file:
            text = file.read()
        check(text == dst("man", *page[:-2].split("-", 1)[1:]).stdout, f"{page} is another text")
        shown = run(["groff", "-man", "-Tascii", "-ww", f"{prefix}/share/man/man1/{page}"])
        check(shown.code == 0 and not shown.stderr, f"{page}: {shown.stderr}")


@test
def wrong_usage_is_one_line_that_names_the_way_out(lab: Lab):
    head = lab.daemon("head")
    for words in (["nonsense"], ["storage"], ["storage", "nonsense"], ["what-if"],
                  ["apply", "a", "b"], ["completion", "fish"], ["storage", "wait", "v",
                  "--timeout", "soon"], ["apply", "f", "--yes", "--dry-run"], ["config"]):
        wrong = head.dst(*words)
        check(wrong.code == 2 and wrong.stderr.count("\n") == 1 and "--help" in wrong.stderr
              and not wrong.stdout, f"{words}: {wrong}")
    for words in (["what-if", "../x"], ["what-if", "nowhere"], ["storage", "wait", "nowhere"],
                  ["man", "nonsense"], ["man", "--to", "/nowhere"]):
        wrong = head.dst(*words)
        check(wrong.code == 1 and wrong.stderr.count("\n") == 1, f"{words}: {wrong}")


main()
