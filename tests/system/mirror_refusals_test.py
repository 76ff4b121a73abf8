#!/usr/bin/python3
"""What a mirror refuses, or survives: each with a line that says what, why and what to do."""

import itertools
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, test, wait_until
from lab_metadata import Metadata
from lab_mirror import (check_copies_equal, disk_of, mirror_config, start_exporters, start_mirror,
                        wait_in_sync)


def check_line(lab, what, line, *words, most=400):
    """`line` is one line of at most so many characters, and all the words stand in it."""
    lab.say(f"{what}: {line}")
    check(line and "\n" not in line and len(line) <= most, f"{what}: no line: {line!r}")
    missing = [word for word in words if word not in line]
    check(not missing, f"{what}: the line does not say {missing}: {line}")


def wait_reason(head, *words, state="waiting"):
    """Waits until the storage is in that state for a reason that has these words; returns it."""
    def reached():
        storage = head.storage("vol")
        if storage["state"] == state and all(word in storage["reason"] for word in words):
            return storage["reason"]
        raise Failure(f"{storage['state']}: {storage['reason']}")
    return wait_until(f"the storage is {state} because of {words}", reached, timeout=15)


def refused_command(head, *args):
    """A command that must be refused: its one line."""
    outcome = head.dst(*args)
    check(outcome.code == 1 and outcome.stdout == "", f"{args}: {outcome}")
    return outcome.stderr.rstrip("\n")


def remotes(exporters):
    return [exporter.remote("disk") for exporter in exporters]


def written_mirror(lab, exporters):
    """Makes a mirror that holds something, and stops it cleanly."""
    head = start_mirror(lab, remotes(exporters), "first")
    lab.fio("fio", head.uri("vol"), size="4M").wait()
    head.stop()
    return head


@test
def a_second_head_waits_until_the_first_has_stopped(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    first = start_mirror(lab, remotes(exporters), "first")
    fio = lab.fio("fio", first.uri("vol"), size="32M")
    second = lab.daemon("second", **mirror_config(remotes(exporters)))
    check_line(lab, "second head", wait_reason(second, "held by head"),
               "is connected", "R: 127.0.0.1", "--force")
    third = lab.daemon("third")
    words = [word for node in remotes(exporters) for word in ("--node", node)]
    check_line(lab, "storage create", refused_command(third, "storage", "create", "vol",
                                                      "--algorithm", "mirror", *words),
               "held by head", "is connected")
    fio.wait()
    check(first.storage("vol")["state"] == "running", f"{first.storage('vol')}")
    first.stop()
    wait_in_sync(second)


@test
def a_node_of_another_storage_is_refused(lab: Lab):
    exporters = start_exporters(lab, 4, "64M")
    written_mirror(lab, exporters[:2])
    # As a node of a new storage.
    config = mirror_config(remotes([exporters[2], exporters[1]]))
    config["storage"][0]["name"] = "other"
    config["export"][0]["device"] = "storage:other"
    other = lab.daemon("other", **config)
    line = wait_until("it is refused", lambda: "belongs to" in (
        reason := other.storage("other")["reason"]) and reason)
    check_line(lab, "new storage", line, "belongs to the storage vol", "zero the last 64 KiB",
               exporters[1].remote("disk"))
    other.stop()
    # In the place of a node that this storage had.
    config = mirror_config(remotes([exporters[3]]))
    config["storage"][0]["name"] = config["export"][0]["name"] = "stranger"
    config["export"][0]["device"] = "storage:stranger"
    stranger = lab.daemon("stranger", **config)
    stranger.wait_storage("stranger")
    stranger.stop()
    exporters[1].stop()
    exporters[3].stop()
    os.replace(disk_of(lab, exporters[3]), disk_of(lab, exporters[1]))
    exporters[1].start()
    head = lab.daemon("head", **mirror_config(remotes(exporters[:2])))
    check_line(lab, "exchanged", wait_reason(head, "belongs to"), exporters[1].remote("disk"),
               "belongs to the storage stranger")


@test
def a_disk_that_is_blank_and_in_the_place_of_a_node_is_named(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    written_mirror(lab, exporters)
    exporters[1].stop()
    lab.file("exporter1.disk", "64M")
    exporters[1].start()
    head = lab.daemon("head", **mirror_config(remotes(exporters)))
    check_line(lab, "blank", wait_reason(head, "is blank", state="degraded"),
               exporters[1].remote("disk"), "not the disk that was there")
    check(len(head.storage("vol")["nodes"]) == 3, f"{head.storage('vol')['nodes']}")


@test
def a_disk_that_is_configured_and_no_node_is_named(lab: Lab):
    exporters = start_exporters(lab, 3, "64M")
    written_mirror(lab, exporters[:2])
    head = lab.daemon("head", **mirror_config(remotes(exporters)))
    check_line(lab, "one more", wait_reason(head, "no node", state="degraded"),
               exporters[2].remote("disk"), "is blank")
    node = head.node("vol", exporters[2].remote("disk"))
    check(node["state"] == "notsync", f"{node}")


@test
def one_disk_by_two_names_makes_no_mirror(lab: Lab):
    exporters = start_exporters(lab, 1, "64M")
    names = [exporters[0].remote("disk"), f"R: localhost:{exporters[0].port}/disk"]
    head = lab.daemon("head", **mirror_config(names))
    check_line(lab, "twice", wait_reason(head, "same disk"), *names)


@test
def a_storage_of_another_name_is_not_made_anew(lab: Lab):
    exporters = start_exporters(lab, 5, "64M")
    written_mirror(lab, exporters)
    config = mirror_config(remotes(exporters))
    config["storage"][0]["name"] = "renamed"
    config["export"][0]["device"] = "storage:renamed"
    head = lab.daemon("head", **config)
    line = wait_until("it is refused", lambda: "belongs to" in (
        reason := head.storage("renamed")["reason"]) and reason)
    check_line(lab, "renamed", line, "call it by that name", *remotes(exporters), most=700)


@test
def a_node_that_is_too_small_is_refused(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    small = lab.daemon("small", export=[{"name": "disk", "device": lab.file("small.disk", "100k")}])
    new = lab.daemon("new", **mirror_config(remotes([exporters[0], small])))
    check_line(lab, "new storage", wait_reason(new, "too small"), small.remote("disk"),
               "102400", "172032")
    new.stop()
    written_mirror(lab, exporters)
    # A disk that has shrunk.
    exporters[1].stop()
    os.truncate(disk_of(lab, exporters[1]), 32 << 20)
    exporters[1].start()
    head = lab.daemon("head", **mirror_config(remotes(exporters)))
    check_line(lab, "shrunk", wait_reason(head, "waits for"), exporters[1].remote("disk"),
               "has 65536 sectors and had 131072")


@test
def metadata_of_a_newer_version_is_refused(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    written_mirror(lab, exporters)
    exporters[1].stop()
    Metadata(disk_of(lab, exporters[1])).become_version(2)
    exporters[1].start()
    head = lab.daemon("head", **mirror_config(remotes(exporters)))
    check_line(lab, "newer", wait_reason(head, "version 2"), exporters[1].remote("disk"),
               "newer program")


@test
def damaged_bitmaps_are_survived(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    head = written_mirror(lab, exporters)
    disks = [disk_of(lab, exporter) for exporter in exporters]
    size = Metadata(disks[0]).data_size
    with open(disks[0], "rb") as disk:
        front = disk.read(4 << 20)
    for damaged, is_crash in itertools.product(([0], [1], [0, 1]), (False, True)):
        if is_crash:
            head.start()
            wait_in_sync(head)
            head.kill()
        regions = [Metadata(disks[number]).damage_intent(0) for number in damaged]
        check(len(regions[0]) >= 64, f"only {regions} were damaged")
        head.start()
        storage = wait_in_sync(head)
        copied = storage["resync"]["total"] * 512
        lab.say(f"intent damaged on {damaged}, {'crash' if is_crash else 'clean stop'}: "
                f"{copied >> 20} MiB resynced")
        # Nothing, if it is written that nothing was under way; all, if no node can tell what was.
        check(is_crash or copied == 0, f"{storage}")
        check(not is_crash or damaged != [0, 1] or copied > size - (1 << 20), f"{storage}")
        head.stop()
        check_copies_equal(disks, size)
        with open(disks[1], "rb") as disk:
            check(disk.read(4 << 20) == front, "the content has changed")
    warnings = [line for line in head.process.log_text().splitlines() if "is damaged" in line]
    check(warnings, "no line in the log tells of the damage")
    check_line(lab, "damaged", warnings[-1], "is damaged for", "count as changed")


@test
def a_storage_in_use_is_not_removed(lab: Lab):
    exporters = start_exporters(lab, 2, "64M")
    head = start_mirror(lab, remotes(exporters))
    check_line(lab, "storage remove", refused_command(head, "storage", "remove", "vol"),
               "storage 'vol' is in use by export 'vol'", "remove that first")
    wait_in_sync(head)
    head.do("export", "remove", "vol")
    head.do("storage", "remove", "vol")
    check(head.status()["storages"] == [], f"{head.status()['storages']}")


main()
