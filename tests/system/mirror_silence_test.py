#!/usr/bin/python3
"""One of three exporters falls silent: writes wait once, as long as `grace` says, then go on."""

import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, test
from lab_history import History, Writer
from lab_mirror import (check_copies_equal, disk_of, start_exporters, start_mirror, wait_in_sync)

GRACE = 3.0
# What takes longer has been held up, on a busy machine, too.
LONG = 0.5


def summary(times):
    took = sorted(each.answered - each.sent for each in times)
    return (f"{len(took)} writes, median {statistics.median(took) * 1e3:.2f} ms, "
            f"longest {took[-1] * 1e3:.1f} ms")


def median(times):
    return statistics.median(each.answered - each.sent for each in times)


def rate(times, begin, end):
    return sum(1 for each in times if begin <= each.answered < end) / (end - begin)


@test
def a_stopped_exporter_delays_writes_once_by_grace(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters],
                        grace=f"{GRACE:g}s", takeover="8s")
    history = History(2048)
    with Writer(history, head.port, "vol", lab.random, depth=4, fua_each=1 << 30,
                flush_each=0) as writer:
        # All regions are written by then.
        begin = time.monotonic() + 2
        time.sleep(5)  # load, with everybody there
        exporters[1].pause()
        stopped = time.monotonic()
        time.sleep(GRACE + 6)  # load, without it
        resumed = time.monotonic()
        exporters[1].resume()
        wait_in_sync(head)
        in_sync = time.monotonic()
        time.sleep(1)
        writer.stop()
    history.check(head.port, "vol")

    times = writer.times
    before = [each for each in times if begin <= each.answered < stopped]
    held = [each for each in times if each.answered - each.sent > LONG]
    longest = max((each.answered - each.sent for each in held), default=0.0)
    over = max((each.answered for each in held), default=stopped)
    after = [each for each in times if over <= each.sent and each.answered < resumed]
    back = [each for each in times if each.answered >= resumed]
    check(held and after and before, f"nothing was held up, or all was: {summary(times)}")
    rates = rate(times, begin, stopped), rate(times, over, resumed)
    lab.say(f"before: {summary(before)}, {rates[0]:.0f} a second")
    lab.say(f"stopped: {len(held)} writes held up, longest {longest:.2f} s, with grace {GRACE:g} s")
    lab.say(f"after: {summary(after)}, {rates[1]:.0f} a second")
    lab.say(f"resumed: in sync after {in_sync - resumed:.2f} s; {summary(back)}")

    check(longest <= GRACE + 1, f"a write waited {longest:.2f} s")
    check(longest >= GRACE / 2, f"the longest wait was {longest:.2f} s: was it detached too early?")
    check(all(stopped - LONG <= each.sent <= stopped + GRACE + 1 for each in held),
          f"writes were held up more than once: {[each.sent - stopped for each in held]}")
    # By the middle one: what else this machine does stops all of it now and then, for long.
    check(median(after) <= 2 * median(before),
          f"with two exporters a write takes {median(after) * 1e3:.2f} ms, with three "
          f"{median(before) * 1e3:.2f} ms")
    check_copies_equal([disk_of(lab, exporter) for exporter in exporters],
                       head.storage("vol")["size"] * 512)


main()
