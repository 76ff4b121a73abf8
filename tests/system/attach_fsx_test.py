#!/usr/bin/python3
"""Random operations on an attached mirror, compared with a model in memory: tests/tools/fsx.cc."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import BUILD, Lab, main, test
from lab_attach import attach, ends_well, wait_nothing_left
from lab_mirror import mirror_config, wait_in_sync

OPERATIONS = 200_000


def mirror_in_memory(lab, **settings):
    head = lab.daemon("head", **mirror_config(["L: memory:40M", "L: memory:40M"], **settings))
    wait_in_sync(head)
    return head


def run_fsx(lab, target, operations, name="fsx", **keywords):
    return lab.process(name, [os.path.join(BUILD, "fsx"), target, "--operations", operations,
                              "--seed", lab.random.randrange(1 << 32)], **keywords)


def agrees_with_the_model(lab, *options):
    head = mirror_in_memory(lab)
    target = attach(lab, head, "vol", "--via", "fuse", *options)
    fsx = run_fsx(lab, target, OPERATIONS)
    ends_well(fsx, 280)
    lab.say(fsx.log_text().splitlines()[-1])
    # Both copies say the same.
    head.do("storage", "verify", "vol")
    head.do("detach", "vol")
    wait_nothing_left(lab)


@test
def a_loop_device_agrees_with_the_model(lab: Lab):
    agrees_with_the_model(lab)


@test
def a_file_agrees_with_the_model(lab: Lab):
    agrees_with_the_model(lab, "--file")


main()
