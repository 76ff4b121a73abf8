#!/usr/bin/python3
"""Storages, nodes and exports are changed while the daemon runs and serves, and stay changed.

Also how a daemon ends: in time whatever hangs, and with everything flushed.
"""

import concurrent.futures
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import DST, Lab, check, main, run, test, wait_until
from lab_api import wait_for_write

SECTORS_PER_MIB = 2048
STOP_MAX_S = 10.0
COMMAND_MAX_S = 15.0  # a command waits for nodes 10 s at most


def create(name, *nodes):
    """The words of a command."""
    words = ["storage", "create", name, "--algorithm", "linear", "--metadata", "none"]
    for node in nodes:
        words += ["--node", node]
    return words


def fill(uri, byte, mib):
    """Writes that many MiB of the byte and flushes; fails on any error."""
    wrote = run(["qemu-io", "-f", "raw", "-t", "writeback", uri,
                 "-c", f"write -P {byte} 0 {mib}M", "-c", "flush"])
    check(wrote.code == 0, f"writing to {uri}: {wrote}")


def check_filled(uri, byte, mib):
    read = run(["qemu-io", "-f", "raw", "-r", uri, "-c", f"read -P {byte} 0 {mib}M"])
    check(read.code == 0 and "verification failed" not in read.stdout, f"reading {uri}: {read}")


def client_sees_mib(uri):
    size = run(["nbdinfo", "--size", uri])
    check(size.code == 0, f"{uri}: {size.stderr}")
    return int(size.stdout) / (1 << 20)


def lasting(status):
    """The part of a status that a restart may not change."""
    return {
        "storages": sorted((s["name"], s["algorithm"], s["size"], s["state"],
                            tuple((n["cookie"], n["type"], n["start"], n["size"])
                                  for n in s["nodes"]))
                           for s in status["storages"]),
        "exports": sorted((e["name"], e["device"], e["size"]) for e in status["exports"]),
    }


def settled(daemon):
    """Its status once no storage is forming any more."""
    def is_settled():
        status = daemon.status()
        return all(s["state"] in ("running", "stopped") for s in status["storages"]) and status
    return wait_until(f"all storages of {daemon.name} are formed", is_settled)


@test
def what_is_changed_at_run_time_survives_sigterm_and_sigkill(lab: Lab):
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("far", "8M")}])
    daemon = lab.daemon(
        "daemon",
        storage=[{"name": "configured", "algorithm": "linear", "metadata": "none",
                  "nodes": [f"L: {lab.file('configured', '4M')}"]},
                 {"name": "doomed", "algorithm": "linear", "nodes": ["L: memory:1M"]}],
        export=[{"name": "configured", "device": "storage:configured"},
                {"name": "doomed-disk", "device": lab.file("doomed", "1M")}])
    changes = [
        create("vol", f"L: {lab.file('near', '8M')}", exporter.remote("disk")),
        ["export", "add", "vol", "--device", "storage:vol", "--description", "made at run time"],
        ["export", "add", "disk", "--device", lab.file("disk", "1M"), "--read-only"],
        create("idle", f"L: {lab.file('idle', '1M')}"),
        ["storage", "stop", "idle"],
        ["storage", "remove", "doomed"],
        ["export", "remove", "doomed-disk"],
        ["node", "add", "configured", f"L: {lab.file('added', '4M')}"],
        create("upper", "L: storage:idle2"),
    ]
    changes.insert(-1, create("idle2", f"L: {lab.file('idle2', '1M')}"))
    for number, words in enumerate(changes):
        daemon.do(*words)
        before = lasting(settled(daemon))
        # Killed right after the answer: what was answered is durable.
        if number % 2:
            daemon.kill()
        else:
            daemon.stop()
        daemon.start()
        after = lasting(settled(daemon))
        check(before == after, f"the restart after {words} has changed\n{before}\ninto\n{after}")

    status = daemon.status()
    names = {s["name"]: s for s in status["storages"]}
    check(set(names) == {"configured", "vol", "idle", "idle2", "upper"}, f"{set(names)}")
    check(names["idle"]["state"] == "stopped" and names["idle"]["reason"], f"{names['idle']}")
    check(names["configured"]["size"] == 8 * SECTORS_PER_MIB, f"{names['configured']}")
    check({e["name"] for e in status["exports"]} == {"configured", "vol", "disk"}, f"{status}")
    check(any("configured" in warning for warning in status["warnings"]),
          f"status does not say what differs from the configuration: {status['warnings']}")

    fill(daemon.uri("vol"), 0x5A, 16)
    daemon.kill()
    daemon.start()
    check_filled(daemon.uri("vol"), 0x5A, 16)
    daemon.stop()
    exporter.stop()


@test
def a_storage_grows_under_load(lab: Lab):
    exporters = [lab.daemon(f"exporter{i}", export=[
        {"name": "disk", "device": lab.file(f"disk{i}", "16M")}]) for i in range(3)]
    head = lab.daemon(
        "head", storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                          "nodes": [exporters[0].remote("disk")]}],
        export=[{"name": "vol", "device": "storage:vol"}])
    head.wait_storage("vol")
    fill(head.uri("vol"), 0x11, 16)
    with lab.fio("load", head.uri("vol"), overwrites=True, size="12M", loops=1000) as load:
        wait_until("the load has begun", lambda: head.export("vol")["clients"] == 1)
        mib = 16
        for node in [exporters[1].remote("disk"), f"L: {lab.file('near', '16M')}",
                     exporters[2].remote("disk")]:
            head.do("node", "add", "vol", node)
            mib += 16
            check(head.storage("vol")["size"] == mib * SECTORS_PER_MIB, f"{head.storage('vol')}")
            check(head.export("vol")["size"] == mib * SECTORS_PER_MIB, f"{head.export('vol')}")
            check(client_sees_mib(head.uri("vol")) == mib, "a new client sees the old size")
            # What was added works, across its edge too, while the load goes on in front of it.
            lab.fio(f"added-{mib}", head.uri("vol"), bs="36k", size="16M",
                    offset=f"{(mib - 16) * 1024 - 20}k").wait()
            check(load.is_running(), f"the load ended:\n{load.process.log_text()}")
    status = settled(head)
    lab.fio("whole", head.uri("vol"), overwrites=True, size=f"{mib}M").wait()
    head.kill()
    head.start()
    check(lasting(status) == lasting(settled(head)), "the restart has changed the storage")
    head.stop()


@test
def what_can_not_be_noted_is_not_done(lab: Lab):
    daemon = lab.daemon("head")
    one, two = lab.file("one", "4M"), lab.file("two", "4M")
    daemon.do(*create("vol", f"L: {one}"))
    daemon.do(*create("idle", f"L: {two}"))
    daemon.do("storage", "stop", "idle")
    before = lasting(daemon.status())
    # A folder where the new state file would be written.
    in_the_way = os.path.join(daemon.config["state_dir"], "runtime.toml.new")
    os.mkdir(in_the_way)
    for command in (["node", "add", "vol", f"L: {lab.file('three', '4M')}"],
                    ["storage", "start", "idle"],
                    create("new", f"L: {lab.file('four', '4M')}"),
                    ["export", "add", "new", "--device", lab.file("five", "4M")]):
        outcome = daemon.dst(*command)
        check(outcome.code == 1 and "runtime.toml" in outcome.stderr, f"{command}: {outcome}")
        check(lasting(daemon.status()) == before, f"{command} is refused, but done")
    os.rmdir(in_the_way)
    daemon.kill()
    daemon.start()
    check(lasting(settled(daemon)) == before, "after a restart it is not as it was")
    # What is noted and then can't be done is taken back.
    outcome = daemon.dst("node", "add", "vol", f"L: {lab.path('nowhere')}")
    check(outcome.code == 1 and "nowhere" in outcome.stderr, f"{outcome}")
    daemon.kill()
    daemon.start()
    check(lasting(settled(daemon)) == before, "a node that could not be added was noted")


@test
def a_storage_is_stopped_started_and_removed_and_its_data_stay(lab: Lab):
    disk = lab.file("disk", "4M")
    daemon = lab.daemon("daemon")
    daemon.do(*create("vol", f"L: {disk}"))
    daemon.do("export", "add", "vol", "--device", "storage:vol")
    fill(daemon.uri("vol"), 0x77, 4)
    refused = daemon.dst("storage", "stop", "vol")
    check(refused.code == 1 and "vol" in refused.stderr, f"stopped while it is exported: {refused}")
    daemon.do("export", "remove", "vol")
    check(run(["nbdinfo", daemon.uri("vol")]).code != 0, "the removed export is still there")
    daemon.do("storage", "stop", "vol")
    check(daemon.storage("vol")["state"] == "stopped", f"{daemon.storage('vol')}")
    # It has let go of its disk.
    with lab.daemon("other", export=[{"name": "disk", "device": disk}]) as other:
        check_filled(other.uri("disk"), 0x77, 4)
    daemon.do("storage", "start", "vol")
    daemon.wait_storage("vol")
    daemon.do("export", "add", "again", "--device", "storage:vol")
    check_filled(daemon.uri("again"), 0x77, 4)
    daemon.do("export", "remove", "again")
    daemon.do("storage", "remove", "vol")
    check(daemon.status()["storages"] == [], f"{daemon.status()}")
    daemon.do("export", "add", "disk", "--device", disk)
    check_filled(daemon.uri("disk"), 0x77, 4)
    daemon.stop()


@test
def an_export_is_removed_under_load_and_its_clients_are_sent_away(lab: Lab):
    daemon = lab.daemon("daemon", export=[{"name": "disk", "device": lab.file("disk", "16M")},
                                          {"name": "other", "device": lab.file("other", "16M")}])
    doomed = lab.fio("doomed", daemon.uri("disk"), size="16M", loops=1000)
    other = lab.fio("other", daemon.uri("other"), size="16M")
    wait_until("both have begun", lambda: all(
        daemon.export(name)["clients"] == 1 for name in ("disk", "other")))
    daemon.do("export", "remove", "disk")
    check(doomed.process.wait(10) != 0, "its client did not notice")
    other.wait()
    daemon.do("export", "add", "disk", "--device", lab.path("disk"))
    check(client_sees_mib(daemon.uri("disk")) == 16, "it can't be added again")


@test
def of_commands_at_the_same_time_one_wins_and_nothing_leaks(lab: Lab):
    daemon = lab.daemon("daemon")
    disk = lab.file("disk", "1M")
    daemon.do(*create("warm", f"L: {disk}"))
    daemon.do("storage", "remove", "warm")
    descriptors = daemon.process.descriptors()
    # lab.run starts processes that die with their thread, so the threads stay until the end.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(5):
            outcomes = list(pool.map(lambda _: daemon.dst(*create("vol", f"L: {disk}")), range(8)))
            codes = sorted(outcome.code for outcome in outcomes)
            check(codes == [0] + [1] * 7, f"round {number}: {outcomes}")
            check(len(daemon.status()["storages"]) == 1, f"{daemon.status()}")
            outcomes = list(pool.map(lambda _: daemon.dst("storage", "remove", "vol"), range(8)))
            codes = sorted(outcome.code for outcome in outcomes)
            check(codes == [0] + [1] * 7, f"round {number}: {outcomes}")
    wait_until("the daemon has closed what it had opened",
               lambda: daemon.process.descriptors() <= descriptors)


@test
def sigterm_ends_a_daemon_in_time_although_requests_are_held(lab: Lab):
    for how in ("killed", "paused"):
        exporter = lab.daemon(f"exporter-{how}", export=[
            {"name": "disk", "device": lab.file(f"disk-{how}", "16M")}])
        head = lab.daemon(
            f"head-{how}", storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                                     "nodes": [exporter.remote("disk")]}],
            export=[{"name": "vol", "device": "storage:vol"}])
        head.wait_storage("vol")
        fill(head.uri("vol"), 0x42, 1)
        fio = lab.fio(f"fio-{how}", head.uri("vol"), size="8M", offset="8M", loops=1000)
        wait_until("fio has begun", lambda h=head: h.export("vol")["clients"] == 1)
        if how == "killed":
            exporter.kill()
            wait_until("requests wait", lambda h=head: h.waiting_requests("vol"))
        else:
            exporter.pause()  # nothing has told the head yet
        begin = time.monotonic()
        head.stop(STOP_MAX_S)
        lab.say(f"ended {time.monotonic() - begin:.1f} s after SIGTERM with its exporter {how}")
        check(fio.process.wait(10) != 0, "fio was told that its writes went well")
        if how == "killed":
            exporter.start()
        else:
            exporter.resume()
        head.start()
        head.wait_storage("vol")
        check_filled(head.uri("vol"), 0x42, 1)


def start_holding_head(lab):
    """A head whose storage holds the requests of a client, because its exporter is gone."""
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("disk", "16M")}])
    head = lab.daemon(
        "head", storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                          "nodes": [exporter.remote("disk")]}],
        export=[{"name": "vol", "device": "storage:vol"}])
    head.wait_storage("vol")
    lab.fio("fio", head.uri("vol"), size="16M", loops=1000)
    wait_for_write(head, "vol")
    exporter.kill()
    wait_until("requests wait", lambda: head.waiting_requests("vol"))
    return exporter, head


@test
def commands_are_answered_although_requests_are_held(lab: Lab):
    exporter, head = start_holding_head(lab)
    remove = lab.process("remove", [DST, "export", "remove", "vol", "--socket", head.socket_path])
    begin = time.monotonic()
    head.do("export", "add", "other", "--device", "memory:1M", timeout=COMMAND_MAX_S)
    fill(head.uri("other"), 0x33, 1)
    code = remove.wait(COMMAND_MAX_S)
    lab.say(f"removing the export ended after {time.monotonic() - begin:.1f} s with code {code}")
    exporter.start()
    head.wait_storage("vol")
    if code == 0:  # or else it was refused, and nothing has changed
        head.do("export", "add", "vol", "--device", "storage:vol")
    lab.fio("again", head.uri("vol"), overwrites=True, size="16M").wait()


@test
def a_storage_that_holds_requests_is_stopped_and_removed(lab: Lab):
    exporter, head = start_holding_head(lab)
    begin = time.monotonic()
    head.do("export", "remove", "vol", timeout=COMMAND_MAX_S)
    stop = head.dst("storage", "stop", "vol", timeout=COMMAND_MAX_S)
    lab.say(f"both took {time.monotonic() - begin:.1f} s")
    # Acknowledged changes that no flush has made durable are dropped: that must not go unsaid.
    said = stop.stderr + head.process.log_text()
    check("not be durable" in said, f"the stop has dropped changes without a word:\n{said}")
    head.do("storage", "remove", "vol", timeout=COMMAND_MAX_S)
    check(head.status()["storages"] == [] == head.status()["exports"], f"{head.status()}")
    exporter.start()
    head.do(*create("vol", exporter.remote("disk")))
    head.do("export", "add", "vol", "--device", "storage:vol")
    lab.fio("again", head.uri("vol"), overwrites=True, size="16M").wait()
    head.stop()


@test
def sigterm_ends_a_daemon_in_time_although_commands_wait_too(lab: Lab):
    exporter, head = start_holding_head(lab)
    remove = lab.process("remove", [DST, "export", "remove", "vol", "--socket", head.socket_path])
    add = lab.process("add", [DST, "node", "add", "vol", exporter.remote("nosuch"),
                              "--socket", head.socket_path])
    begin = time.monotonic()
    check(head.status()["storages"][0]["name"] == "vol", "status does not answer meanwhile")
    head.stop(STOP_MAX_S)
    lab.say(f"ended {time.monotonic() - begin:.1f} s after SIGTERM")
    for command in (remove, add):
        command.wait(5)


@test
def a_clean_stop_flushes_what_clients_have_not(lab: Lab):
    for how in ("daemon", "storage", "under load"):
        exporter = lab.lossy_exporter(f"exporter-{how[:6]}", lab.file(f"disk-{how}", "8M"), "disk")
        head = lab.daemon(f"head-{how[:6]}")
        head.do(*create("vol", exporter.remote()))
        head.do("export", "add", "vol", "--device", "storage:vol")
        with open(lab.path("image"), "wb") as image:
            image.write(b"\x99" * (2 << 20))
        copied = run(["nbdcopy", lab.path("image"), head.uri("vol")])  # does not flush
        check(copied.code == 0, copied.stderr)
        check(exporter.tally().unflushed_bytes == 2 << 20, f"{exporter.tally()}")
        if how == "storage":
            head.do("export", "remove", "vol")
            head.do("storage", "stop", "vol")
        else:
            if how == "under load":
                lab.fio("fio", head.uri("vol"), size="4M", offset="4M", loops=1000)
                wait_until("fio writes", lambda e=exporter: e.tally().changes > 200)
            head.stop()
        left = exporter.kill().unflushed_bytes
        check(left == 0, f"{how}: {left} bytes were not flushed")
        exporter.start()
        check_filled(exporter.uri(), 0x99, 2)


main()
