#!/usr/bin/env python3
"""Checks that the layout is the architecture: prints `file:line: what, why` a violation, exits 1 if any.

- Includes between the folders of src/ point only one way: a folder includes itself and those before it.
- Only io/uring knows the kernel, and only attach/ and the folders that build the tree know io/uring.
- No production file knows that it may be simulated.
- ARCHITECTURE.md lists the folders that exist, and no others.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ORDER = "base async io block metadata nbd node algorithm storage export attach tree control cli".split()

KERNEL = re.compile(
    r"liburing\.h|liburing/.*|linux/.*|asm/.*|netinet/.*|net/.*|arpa/.*|netdb\.h|poll\.h"
    r"|sys/(socket|un|uio|epoll|eventfd|timerfd|signalfd|sendfile|syscall|ioctl|mman)\.h"
    r"|fcntl\.h|unistd\.h|fuse.*\.h"
)
# Who may include a kernel header beside io/uring.
ALSO_ALLOWED = {
    # The API's socket and the terminal are waited for by threads of their own, never by a reactor.
    "sys/eventfd.h": {"control"},
    "sys/socket.h": {"control"},
    "sys/un.h": {"control"},
    # base: what a disk is; cli: how large a terminal is.
    "sys/ioctl.h": {"base", "cli"},
    "sys/mman.h": {"base"},
    # Decodes and encodes requests of the kernel; io/uring/ has the mount and waits.
    "fuse_lowlevel.h": {"tree"},
    "poll.h": {"control", "cli", "tree"},
    "fcntl.h": {"control", "cli", "tree"},
    "unistd.h": {"control", "cli", "tree"},
}
# Those who build the tree, and what is about this kernel alone.
KNOWS_URING = {"attach", "control", "cli"}

INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')
# sim, Sim and SIM as a word of an identifier (sim_clock, SimClock, kSim), but not simple, similar, SIMD.
SIMULATION = re.compile(
    r"(?<![A-Za-z])[sS]im(?![a-z])|(?<=[a-z])Sim(?![a-z])|(?<![A-Za-z])SIM(?![A-Za-z])|(?i:simulat)"
)

violations = 0


def violation(path, line, what, why):
    global violations
    violations += 1
    print(f"{path}:{line}: {what}, {why}")


def is_for_tests(path):
    return path.stem.endswith(("_test", "_benchmark")) or path.stem == "test_support"


def check_include(path, number, folder, quote, header):
    is_test = is_for_tests(path)
    in_uring = path.parts[1:3] == ("io", "uring")
    target = header.split("/")[0]
    if quote == "<" and (target not in ORDER or "/" not in header):
        allowed = in_uring or is_test or folder in ALSO_ALLOWED.get(header, ())
        if KERNEL.fullmatch(header) and not allowed:
            others = [f"{other}/" for other in sorted(ALSO_ALLOWED.get(header, ()))]
            violation(path, number, f"includes <{header}>",
                      f"which only {' and '.join(['io/uring/'] + others)} may")
    elif target not in ORDER or "/" not in header:
        violation(path, number, f'includes "{header}"',
                  'which does not start with a folder of src/ (write "folder/file.h")')
    elif ORDER.index(target) > ORDER.index(folder):
        violation(path, number, f'includes "{header}"',
                  f"but {target}/ comes after {folder}/ in the order of the layers")
    elif header.startswith("io/uring/") and not (in_uring or is_test or folder in KNOWS_URING):
        violation(path, number, f'includes "{header}"',
                  "but only attach/ and those who build the tree (control/, cli/) may know what is under the seam")


def check_source(path):
    folder = path.parts[1]
    is_test = is_for_tests(path)
    if folder not in ORDER or len(path.parts) < 3:
        violation(path, 1, "is in no known folder of src/", f"which are: {' '.join(ORDER)}")
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            check_include(path, number, folder, *match.groups())
        if not is_test and (match := SIMULATION.search(line)):
            violation(path, number, f"says '{match.group()}'",
                      "but production code does not know that it may be simulated")


def check_map(files):
    """A line of ARCHITECTURE.md that starts with `name/`, indented or in a list or table, lists a folder."""
    document = Path("ARCHITECTURE.md")
    if not document.exists():
        return
    listed = {}
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if match := re.match(r"[\s|*-]*`?((?:[\w.-]+/)+)", line):
            listed.setdefault(match.group(1).rstrip("/").removeprefix("src/"), number)

    main = {file.parts[0] for file in files if len(file.parts) > 1}
    main |= {file.parts[1] for file in files if file.parts[0] == "src" and len(file.parts) > 2}
    for folder in sorted(main - set(listed)):
        if not folder.startswith("."):
            violation(document, 1, f"does not list {folder}/", "which exists")
    everything = {f"/{parent}" for file in files for parent in file.parents}
    for folder, number in listed.items():
        if not any(other.endswith(f"/{folder}") for other in everything):
            violation(document, number, f"lists {folder}/", "which does not exist")


def main():
    os.chdir(Path(__file__).resolve().parent.parent)
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"],
                           check=True, capture_output=True, text=True).stdout.split("\0")
    files = [Path(name) for name in sorted(set(names)) if name and Path(name).is_file()]
    for path in files:
        if path.parts[0] == "src" and path.suffix in (".cc", ".h"):
            check_source(path)
    check_map(files)
    sys.exit(1 if violations else 0)


main()
