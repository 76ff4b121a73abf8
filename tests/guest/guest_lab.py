"""What guest tests share: a folder for each test, its disks, and the report of how it went.

    @test
    def a_sentence(lab):
        with lab.guest("script of sh; library.sh has what it may use") as guest:
            guest.finish()

    main()
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback

import guest
import guest_kernel
from guest import Failure, Guest

DISK_BYTES = 340 << 20  # sparse; xfs takes no less than 300 MiB

_tests = []


def test(function):
    _tests.append(function)
    return function


class GuestLab:
    """Three disks for exporters, which last over boots, and a fourth for what daemons keep."""

    def __init__(self, folder):
        self.folder = folder
        self.disks = [guest.disk(folder, name, DISK_BYTES) for name in ["vda", "vdb", "vdc"]]
        self.disks.append(guest.disk(folder, "vdd", 64 << 20))

    def guest(self, script, way=None, **keywords):
        prefix = f"WAY={way}\n" if way else ""
        return Guest(self.folder, prefix + script, disks=self.disks, **keywords)


def main():
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("-k", metavar="WORD", default="", help="only tests with it in their name")
    options = parser.parse_args()
    failed = 0
    for function in [one for one in _tests if options.k in one.__name__]:
        folder = tempfile.mkdtemp(prefix="dst-guest-")
        begun = time.monotonic()
        print(f"{function.__name__} ...", flush=True)
        try:
            function(GuestLab(folder))
            print(f"ok    {function.__name__} ({time.monotonic() - begun:.0f} s)", flush=True)
        except (Failure, guest_kernel.CannotRun) as error:
            failed += 1
            print(f"FAIL  {function.__name__}: {error}", flush=True)
        except Exception:  # a bug of the test
            failed += 1
            traceback.print_exc()
        finally:
            shutil.rmtree(folder)
    sys.exit(1 if failed or not _tests else 0)
