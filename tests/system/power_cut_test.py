#!/usr/bin/python3
"""An exporter loses its unflushed writes, again and again: the head writes them once more.

The exporter is the product's, over a file with a volatile cache (tests/tools/lossy_exporter.cc).
"""

import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, main, run, test, wait_until
from lab_load import fault_under_load

KILLS = 20


def start_head(lab, exporter):
    head = lab.daemon(
        "head",
        storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                  "nodes": [exporter.remote()]}],
        export=[{"name": "vol", "device": "storage:vol"}])
    head.wait_storage("vol")
    return head


@test
def twenty_power_cuts_under_load_lose_nothing(lab: Lab):
    exporter = lab.lossy_exporter("exporter", lab.file("disk", "32M"), "disk", latency_us=500)
    head = start_head(lab, exporter)

    among_reads = []  # cuts that met reads only: a quarter of all at most

    def kill_once():
        tally = exporter.kill()
        exporter.start()
        if lab.random.random() < 0.85:  # else cut again before, or while, the head comes back
            head.wait_connected("vol", exporter.remote())
        if tally.requests_in_flight and not tally.changes_in_flight:
            among_reads.append(tally)
        counts = tally.changes_in_flight or (tally.requests_in_flight
                                             and len(among_reads) <= KILLS // 4)
        return tally if counts else None

    # Without a flush, with one now and then, and with one often; and in the end some overwrites.
    kills = fault_under_load(lab, head.uri("vol"), area=16 << 20, areas=2, times=KILLS,
                            fault=kill_once,
                            fio_options=[{}, {"fsync": 500}, {"fsync": 50}])
    with_loss = [tally.unflushed_bytes for tally in kills if tally.unflushed_bytes > 0]
    lab.say(f"{len(with_loss)} cuts lost {sum(with_loss) >> 10} KiB, with "
            f"{sum(tally.requests_in_flight for tally in kills)} requests in flight, "
            f"{sum(tally.changes_in_flight for tally in kills)} of them changes")
    check(len(with_loss) >= 15, f"only {len(with_loss)} of {KILLS} cuts lost anything")

    # With the head gone nobody can repair anything: all must be on the disk by now.
    head.stop()
    left = exporter.kill().unflushed_bytes
    check(left == 0, f"{left} bytes are not flushed after the clean stop of the head")


@test
def a_power_cut_that_is_hidden_from_the_head_is_seen_by_the_verify(lab: Lab):
    """The teeth of the test above: the exporter lies, so the head has no reason to replay."""
    exporter = lab.lossy_exporter("exporter", lab.file("disk", "32M"), "disk", instance=4711)
    head = start_head(lab, exporter)
    fio = lab.fio("fio", head.uri("vol"), size="32M")
    wait_until("fio has written something", lambda: exporter.tally().unflushed_bytes > 1 << 20)
    lost = exporter.kill().unflushed_bytes
    exporter.start()
    fio.process.wait()
    error = fio.result()["error"]
    check(error == errno.EILSEQ, f"{lost} bytes were lost, and fio found error {error}")


@test
def a_plain_client_loses_unflushed_writes_at_a_power_cut(lab: Lab):
    """The teeth, once more: without a head in between the loss is there to see."""
    exporter = lab.lossy_exporter("exporter", lab.file("disk", "16M"), "disk")
    flushed = run(["qemu-io", "-f", "raw", "-t", "writeback", exporter.uri(),
                   "-c", "write -P 0xaa 0 1M", "-c", "flush"])
    check(flushed.code == 0, f"{flushed}")

    # nbdcopy flushes only when it is told to.
    with open(lab.path("image"), "wb") as image:
        image.write(b"\xbb" * (1 << 20))
    copied = run(["nbdcopy", lab.path("image"), exporter.uri()])
    check(copied.code == 0, f"{copied}")
    lost = exporter.kill().unflushed_bytes
    check(lost == 1 << 20, f"{lost} bytes were lost, not the 1 MiB that nbdcopy did not flush")
    exporter.start()
    old = run(["qemu-io", "-f", "raw", "-r", exporter.uri(), "-c", "read -P 0xaa 0 1M"])
    check(old.code == 0 and "Pattern verification failed" not in old.stdout,
          f"the flushed content is not back: {old.stdout}")


main()
