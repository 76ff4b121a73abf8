"""Faults under load: fio runs one after another while something happens again and again."""

import time


def fault_under_load(lab, uri, area, areas, times, fault, fio_options=({},)):
    """Calls `fault()` at random moments while fio writes and verifies; returns its results.

    Runs of fio go on until `times` calls have returned something true: what returns nothing did
    not count (nothing was in flight). Each run covers `area` bytes: first all `areas` of the device
    that nobody has written yet, then from the front again, as overwrites, with each of
    `fio_options` in turn. Every run must be clean.
    """
    counted = []
    run_number = 0
    while len(counted) < times:
        options = {"size": area, "offset": area * (run_number % areas)}
        options |= fio_options[run_number % len(fio_options)]
        fio = lab.fio(f"fio-{run_number}", uri, overwrites=run_number >= areas, **options)
        while fio.is_running() and len(counted) < times:
            # No wait for anything: a random moment.
            time.sleep(lab.random.uniform(0.03, 0.25))
            if fio.is_running() and (result := fault()):
                counted.append(result)
        fio.wait()
        run_number += 1
    lab.say(f"{len(counted)} faults, {run_number} runs of fio, all clean")
    return counted
