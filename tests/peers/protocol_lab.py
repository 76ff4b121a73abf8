"""What the tests of docs/protocol.md share: exports to speak with, and refusals."""

from protocol_peer import Refused
from peer_lab import MIB, check

SIZE = 16 * MIB


def exporter(lab, **config):
    return lab.daemon("exporter", export=[
        {"name": "disk", "device": lab.file("disk", SIZE)},
        {"name": "other", "device": f"memory:{SIZE}"}], **config)


def slow_exporter(lab, delay_s=2):
    """Of a disk whose writes take that long."""
    disk = lab.nbdkit("slow", "--filter=delay", "memory", str(SIZE), f"wdelay={delay_s}")
    daemon = lab.daemon("exporter", storage=[{"name": "vol", "algorithm": "linear",
                                              "nodes": [disk.remote()]}],
                        export=[{"name": "disk", "device": "storage:vol"}])
    daemon.wait_storage("vol")
    return daemon


def refusal(peer, export, **fields):
    """The reply with which a HELLO is refused, and its text."""
    try:
        answer = peer.hello(export, **fields)
    except Refused as refused:
        return refused.reply, refused.text
    return None, answer


def check_refused(reply, what, peer, export="disk", **fields):
    got, text = refusal(peer, export, **fields)
    check(got == reply, f"{what}: {got and got - (1 << 31)} ({text}), expected {reply - (1 << 31)}")
    check(text, f"{what}: no text for the user")
