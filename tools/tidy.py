#!/usr/bin/env python3
"""Runs clang-tidy on every source of ours, two at a time: tools/tidy.py [FILE...]

Needs a configured and built build/ (compile_commands.json, the precompiled header).
A file that passed is not checked again until something it is made of changes: itself, the headers
of ours that it includes, its command, .clang-tidy or clang-tidy. build/tidy-cache holds the keys.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

TIDY = "clang-tidy-19"
CACHE = Path("build/tidy-cache")
INCLUDE = re.compile(rb'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)


def made_of(path, seen):
    """Adds to `seen` the files of ours that `path` is made of, itself included."""
    if path in seen:
        return seen
    seen.add(path)
    for header in INCLUDE.findall(path.read_bytes()):
        for folder in (Path("src"), Path("."), path.parent):
            candidate = Path(os.path.normpath(folder / header.decode()))
            if candidate.is_file():
                made_of(candidate, seen)
                break
    return seen


def key_of(path, command, common):
    digest = hashlib.sha256(common + command.encode())
    for part in sorted(made_of(path, set())):
        digest.update(str(part).encode() + b"\0" + part.read_bytes())
    return digest.hexdigest()


def check(path, command, common):
    """Returns what clang-tidy has to say, or nothing if all is well."""
    passed = CACHE / key_of(path, command, common)
    if passed.exists():
        return ""
    result = subprocess.run([TIDY, "--quiet", "-p", "build", str(path)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode == 0:
        passed.touch()
        return ""
    return result.stdout or result.stderr


def main():
    os.chdir(Path(__file__).resolve().parent.parent)
    root = Path.cwd()
    CACHE.mkdir(parents=True, exist_ok=True)
    common = Path(".clang-tidy").read_bytes() + subprocess.run(
        [TIDY, "--version"], check=True, capture_output=True).stdout
    commands = {}
    for entry in json.loads(Path("build/compile_commands.json").read_text()):
        path = Path(entry["file"])
        if path.is_relative_to(root) and not path.is_relative_to(root / "build") and path.exists():
            commands[path.relative_to(root)] = entry["command"]
    wanted = [Path(name) for name in sys.argv[1:]] or sorted(commands)
    for path in wanted:
        if path not in commands:
            sys.exit(f"{path}: not in build/compile_commands.json, so not a source of this build")

    failed = False
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for said in pool.map(lambda path: check(path, commands[path], common), wanted):
            if said:
                print(said, flush=True)
                failed = True
    sys.exit(1 if failed else 0)


main()
