"""fio as a client that writes and verifies."""

import json
import os

from lab_process import Process, check

WRITE_AND_VERIFY = {"rw": "randwrite", "bs": "4k", "iodepth": 16, "verify": "crc32c",
                    "verify_fatal": 1, "do_verify": 1,
                    "thread": 1}  # else its job is a process of its own, which outlives it



def pattern_of(number):
    """Options for an area that an earlier run has written.

    fio's checksums vouch for a block and its place, not for its age: a stale block of an earlier
    run would pass. So every eight bytes are a number of this run's own, or the block's offset.
    """
    return {"verify": "pattern", "verify_pattern": f"%o0x{number:016x}"}


class Fio:
    """One run of fio with its NBD engine, in the background."""

    def __init__(self, name, folder, uri, seed, options, argv_prefix=()):
        self.name = name
        self._output = f"{folder}/{name}.json"
        options = {"ioengine": "nbd", "uri": uri, "randseed": seed, "name": name,
                   "verify_state_save": 0, "output-format": "json",
                   "output": self._output} | options
        words = (f"--{key}={value}" for key, value in options.items())
        self.process = Process(name, [*argv_prefix, "fio", *words], f"{folder}/{name}.log",
                               cwd=folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def is_running(self):
        return self.process.is_running()

    def wait(self, timeout=110.0):
        """Waits for its end; fails on any error; returns the first job of its JSON output."""
        code = self.process.wait(timeout)
        job = self.result()
        check(code == 0 and job["error"] == 0,
              f"{self.name} ended with exit code {code}, error {os.strerror(job['error'])}:\n"
              f"{self.process.log_text()[-2000:]}")
        return job

    def result(self):
        """The first job of its JSON output, whatever came of it."""
        check(os.path.exists(self._output), f"{self.name} wrote no result, exit code "
              f"{self.process.exit_code}:\n{self.process.log_text()[-2000:]}")
        with open(self._output, encoding="utf-8", errors="replace") as file:
            text = file.read()
        check("{" in text, f"{self.name} wrote no JSON: {text[-2000:]}")
        return json.loads(text[text.index("{"):])["jobs"][0]

    def close(self):
        self.process.close()
