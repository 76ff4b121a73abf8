#!/usr/bin/python3
"""Commands to a daemon whose storage holds requests: each ends in its time, and keeps no other from
its turn; and two daemons do not share what they remember."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import DST, Lab, check, main, test, wait_until
from lab_daemon import dst
from lab_mirror import check_copies_equal, disk_of, start_exporters, start_mirror, wait_in_sync

STOP_MAX_S = 10


def start_holding(lab, **settings):
    """A head whose mirror of three has lost two of its nodes; and the exporters."""
    exporters = start_exporters(lab, 3, "64M")
    head = start_mirror(lab, [each.remote("disk") for each in exporters], grace="500ms", **settings)
    for each in exporters[1:]:
        each.kill()
    wait_until("it holds", lambda: head.storage("vol")["state"] == "holding")
    return head, exporters


def timed(action):
    begun = time.monotonic()
    outcome = action()
    return outcome, time.monotonic() - begun


@test
def a_storage_that_holds_is_stopped(lab: Lab):
    head, exporters = start_holding(lab)
    head.do("export", "remove", "vol")
    outcome, took = timed(lambda: head.dst("storage", "stop", "vol"))
    lab.say(f"{took:.1f} s: {outcome.stderr.strip()}")
    check(took < STOP_MAX_S and outcome.code == 1 and "after a crash" in outcome.stderr, f"{outcome}")
    check(head.storage("vol")["state"] == "stopped", f"{head.storage('vol')}")
    for each in exporters[1:]:
        each.start()
    head.do("storage", "start", "vol")
    size = wait_in_sync(head)["size"] * 512
    check_copies_equal([disk_of(lab, each) for each in exporters], size)


@test
def a_storage_that_holds_is_not_attached(lab: Lab):
    head, _ = start_holding(lab)
    outcome, took = timed(lambda: head.dst("attach", "vol", "--via", "fuse"))
    lab.say(f"{took:.1f} s: {outcome.stderr.strip()}")
    check(outcome.code == 1, f"{outcome}")
    head.do("export", "add", "other", "--device", "memory:1M")
    _, took = timed(lambda: head.stop(timeout=15))
    check(took < STOP_MAX_S, f"the daemon took {took:.1f} s to end")


@test
def a_daemon_ends_while_a_command_waits(lab: Lab):
    head, _ = start_holding(lab)
    head.do("export", "remove", "vol")
    command = lab.process("stop", [DST, "storage", "stop", "vol", "--socket", head.socket_path])
    _, took = timed(lambda: head.stop(timeout=25))
    lab.say(f"{took:.1f} s")
    check(took < 2 * STOP_MAX_S, f"the daemon took {took:.1f} s to end")
    command.wait()


@test
def two_daemons_do_not_share_a_state_dir(lab: Lab):
    exporters = start_exporters(lab, 1, "64M")
    head = start_mirror(lab, [exporters[0].remote("disk")])
    other = lab.prepare_daemon("other", state_dir=head.config["state_dir"])
    other.write_config()
    outcome = dst("daemon", "--config", other.config_path)
    lab.say(outcome.stderr.strip().splitlines()[-1])
    check(outcome.code == 1 and "another daemon" in outcome.stderr and str(head.pid) in outcome.stderr,
          f"{outcome}")
    check(head.storage("vol")["state"] == "running", f"{head.storage('vol')}")
    head.kill()
    other.start()  # a killed one holds nothing


main()
