"""Faults under load: fio runs one after another while something is killed again and again."""

import time


def kill_under_load(lab, uri, area, areas, kills, kill_once, fio_options=()):
    """Calls `kill_once()` at random moments while fio writes and verifies; returns its results.

    Runs of fio go on until `kills` calls have returned something true: what returns nothing did not
    count (nothing was in flight). Each run covers `area` bytes: first all `areas` of the device that
    nobody has written yet, then from the front again, as overwrites. Every run must be clean.
    """
    counted = []
    run_number = 0
    while len(counted) < kills:
        options = dict(fio_options[run_number % len(fio_options)]) if fio_options else {}
        options |= {"size": area, "offset": area * (run_number % areas)}
        fio = lab.fio(f"fio-{run_number}", uri, overwrites=run_number >= areas, **options)
        while fio.is_running() and len(counted) < kills:
            # No wait for anything: a random moment.
            time.sleep(lab.random.uniform(0.03, 0.25))
            if fio.is_running() and (result := kill_once()):
                counted.append(result)
        fio.wait()
        run_number += 1
    lab.say(f"{len(counted)} kills, {run_number} runs of fio, all clean")
    return counted
