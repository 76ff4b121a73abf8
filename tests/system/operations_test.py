#!/usr/bin/python3
"""Every command of docs/operations.md does what the document says, in its order, on three hosts."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import SOURCE, Lab, check, main, test
from lab_document import Document, Host


@test
def every_command_of_the_document_holds(lab: Lab):
    # A network of its own on the loopback interface, so that all of them may listen at one port.
    network = f"127.{lab.random.randrange(64, 255)}.{lab.random.randrange(1, 255)}"
    hosts = {}
    for number, name in enumerate(["alpha", "beta", "gamma"], 1):
        hosts[name] = lab.enter(Host(lab, name, f"{network}.{number}",
                                     {"/dev/sdb": "64M", "/dev/sdc": "64M"}))
    document = Document(f"{SOURCE}/docs/operations.md", hosts, lab)
    document.run()
    check(document.commands > 50, f"only {document.commands} commands were found")


main()
