#!/usr/bin/python3
"""A node of a mirror that was away gets what it missed, and not more."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until
from lab_metadata import Metadata
from lab_mirror import (check_copies_equal, disk_of, fill, start_exporters, start_mirror,
                        wait_detached, wait_in_sync, wait_settled)

MIB = 1 << 20
CHANGED = 16 * MIB
GRACE = "500ms"


def qemu_io(uri, commands):
    argv = ["qemu-io", "-f", "raw", "-t", "writeback", uri]
    for command in commands:
        argv += ["-c", command]
    done = run(argv, timeout=120)
    check(done.code == 0 and "failed" not in done.stdout, f"{done.stdout[-500:]}{done.stderr}")


def bytes_written(exporter):
    """By the process of the exporter to its disk."""
    with open(f"/proc/{exporter.pid}/io", encoding="ascii") as file:
        return int(dict(line.split(": ") for line in file)["write_bytes"])


def change_while_away(lab, head, away, commands, places, others):
    """Changes 16 MiB at so many places while `away` is gone; checks what its return costs."""
    node = away.remote("disk")
    region = Metadata(disk_of(lab, away)).region_size
    most = CHANGED + places * region
    away.kill()  # though everything has intent yet, from what was written a moment ago
    wait_detached(head, node)
    qemu_io(head.uri("vol"), commands)
    stale = head.node("vol", node)["stale"] * 512
    check(CHANGED <= stale <= most, f"{stale} bytes are stale, of {CHANGED} that were changed")

    away.start()
    storage = wait_in_sync(head)
    resync = storage["resync"]
    written = bytes_written(away)
    lab.say(f"16 MiB at {places} places: {stale / MIB:.2f} MiB were stale, at most "
            f"{most / MIB:.2f}; resync {resync['done'] * 512 / MIB:.2f} of "
            f"{resync['total'] * 512 / MIB:.2f} MiB; {written / MIB:.2f} MiB written")
    check(resync["done"] == resync["total"] == stale // 512, f"status says {resync}, not {stale}")
    # Beside the data: all bitmaps in use, and superblocks of a few ages.
    check(CHANGED <= written <= most + 2 * MIB, f"{written} bytes were written to it")
    check_copies_equal([disk_of(lab, each) for each in [away, *others]], storage["size"] * 512)


@test
def what_changed_is_copied_and_at_most_a_region_a_place_more(lab: Lab):
    exporters = start_exporters(lab, 2, "1G")
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters], grace=GRACE)
    size = head.storage("vol")["size"] * 512
    fill(lab, head, size)

    one_piece = lab.random.randrange(0, size - CHANGED, 512)
    change_while_away(lab, head, exporters[0],
                      [f"write -P {lab.random.randrange(1, 256)} {one_piece} {CHANGED}", "flush"],
                      1, exporters[1:])

    places, length = 64, CHANGED // 64
    step = size // places
    offsets = [step * number + lab.random.randrange(0, step - 2 * length, 512)
               for number in range(places)]
    change_while_away(lab, head, exporters[1],
                      [f"write -P {lab.random.randrange(1, 256)} {offset} {length}"
                       for offset in offsets] + ["flush"],
                      places, exporters[:1])


@test
def a_resync_that_is_interrupted_goes_on_where_it_was(lab: Lab):
    """The returning exporter, then the head, are killed in the middle of it."""
    exporters = start_exporters(lab, 2, "768M")
    head = start_mirror(lab, [exporter.remote("disk") for exporter in exporters], grace=GRACE)
    size = head.storage("vol")["size"] * 512
    away, node = exporters[0], exporters[0].remote("disk")
    away.kill()
    wait_detached(head, node)
    fill(lab, head, size)
    stale = head.node("vol", node)["stale"]
    check(stale * 512 >= size, f"only {stale} sectors are stale after all was written")

    # Else a killed head would begin from all of them.
    wait_settled([disk_of(lab, exporters[1])])

    left = [stale]
    for victim in [away, away, head]:
        if not away.process.is_running():
            away.start()
        wait_until("a part of it is copied", lambda: (
            0 < head.node("vol", node)["stale"] < left[-1] * 0.9), timeout=30, interval=0.005)
        storage = head.storage("vol")
        before = next(each["stale"] for each in storage["nodes"] if each["type"] == node)
        # What was copied and not made durable yet is copied again: 64 MiB at most, and what was
        # cleared in the bits since they were written last, half a second ago.
        most = before + (64 << 11) + storage["resync"]["rate"] * 0.7 / 512
        victim.kill()
        if victim is head:
            head.start()
            head.wait_storage("vol", "degraded")
        left.append(head.node("vol", node)["stale"])
        check(left[-1] <= most, f"{left[-1]} sectors were stale after the kill, and {before} "
                                f"before it, at most {most:.0f}")
        check(left[-1] > 0, "it was copied before it could be interrupted")
    if not away.process.is_running():
        away.start()
    wait_in_sync(head)
    lab.say(f"stale at each start: {[f'{sectors // 2048} MiB' for sectors in left]}")
    check_copies_equal([disk_of(lab, exporter) for exporter in exporters], size)


main()
