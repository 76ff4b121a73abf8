#!/usr/bin/python3
"""The example of docs/on-disk.md: what a program reads that knows only the page, what `dst node inspect`
prints of it, and what it says of nodes that are spoiled."""

import json
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import SOURCE, Lab, check, dst, main, test

SECTOR, NODE_SECTORS, DATA_SECTORS = 512, 2048, 1840
COPIES = [1920, 1984]  # at which sectors
INTENT, UNWRITTEN, STALE = 1, 2, 3
STORAGE_ID = bytes(range(1, 17))


def crc32c(data, crc=0):
    """Bit by bit, as RFC 3720 has it; nothing of ours is used here."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def padded(text, width):
    return text.encode().ljust(width, b"\0")


def example_superblock():
    """As the tables of section 2 say."""
    nodes = [(0xC0, 2048, 0x1111, 0, 0b101, "L: /dev/sdc"),
             (0xC1, 2048, 0x2222, 1, 0b101, "R: far:10809/disk0"),
             (0xC2, 128, 0x3333, 0xFF, 0b110, "R: third:10809/witness")]
    path = [(0xA, 7)]
    header = struct.pack(">8sII16sQQQBBBBI", b"DST meta", 1, 0, STORAGE_ID, 42, 0xC1, DATA_SECTORS,
                         16, 8, 1, 1, 10000)
    header += struct.pack(">QQQQQQ", 0xB, 3, 0xA, 2, 0x4EAD, 5)
    header += struct.pack(">HHBBHQ", len(path), len(nodes), len("vol0"), len("mirror"), 0, 0)
    header += padded("vol0", 64) + padded("mirror", 64)
    block = header.ljust(0x400, b"\0")
    block += b"".join(struct.pack(">QQ", *age) for age in path)
    block = block.ljust(0x2400, b"\0")
    for cookie, size, instance, slot, flags, kind in nodes:
        block += struct.pack(">QQQBBBB60s", cookie, size, instance, slot, flags, len(kind), 0,
                             kind.encode())
    block = block.ljust(0x7FF0, b"\0") + b"DST meta" + bytes(4)
    return block + struct.pack(">I", crc32c(block))


def bitmap_sector(kind, slot, index, regions=()):
    """As section 3 says."""
    bits = bytearray(496)
    for region in regions:
        bits[region // 8] |= 0x80 >> region % 8
    header = struct.pack(">4sBBHI", b"DSTb", kind, slot, 0, index)
    return header + struct.pack(">I", crc32c(STORAGE_ID + header + bits)) + bytes(bits)


def bitmap(kind, slot=0, regions=()):
    return bitmap_sector(kind, slot, 0, regions) + b"".join(
        bitmap_sector(kind, slot, index) for index in range(1, 8))


def hexdump(data):
    lines = []
    for at in range(0, len(data), 16):
        line = data[at:at + 16]
        if not any(line):
            continue
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in line)
        lines.append(f"{at:04x}  {line[:8].hex(' ')}  {line[8:].hex(' ')}  |{text}|")
    return "\n".join(lines)


def documented():
    """The blocks of the page's example, by their names."""
    with open(os.path.join(SOURCE, "docs/on-disk.md"), encoding="utf-8") as file:
        return dict(re.findall(r"^```(\w+)\n(.*?)\n```$", file.read(), re.MULTILINE | re.DOTALL))


def undump(text, size):
    data = bytearray(size)
    for line in text.splitlines():
        at, digits = re.match(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} ? ?)+) \|", line).groups()
        row = bytes.fromhex(digits)
        data[int(at, 16):int(at, 16) + len(row)] = row
    return bytes(data)


def example_node(lab, name="node"):
    """A file with the documented bytes; bits that the page doesn't show are clear."""
    blocks = documented()
    superblock = undump(blocks["superblock"], 0x8000)
    intent = undump(blocks["intent"], SECTOR) + bitmap(INTENT)[SECTOR:]
    bitmaps = intent + bitmap(UNWRITTEN) + b"".join(bitmap(STALE, slot) for slot in range(8))
    path = lab.path(name)
    with open(path, "wb") as file:
        file.write(b"\xda" * DATA_SECTORS * SECTOR + bitmaps + superblock * 2)
    check(os.path.getsize(path) == NODE_SECTORS * SECTOR, "the parts don't add up")
    return path


def overwrite(path, sector, data):
    with open(path, "r+b") as file:
        file.seek(sector * SECTOR)
        file.write(data)


def check_refused(path, *words):
    outcome = dst("node", "inspect", path)
    check(outcome.code == 1 and outcome.stdout == "", f"not refused: {outcome}")
    check(len(outcome.stderr.splitlines()) == 1, f"not one line: {outcome}")
    for word in words:
        check(word in outcome.stderr, f"does not say '{word}': {outcome.stderr}")


@test
def the_example_is_what_the_tables_say(lab: Lab):
    blocks = documented()
    check(blocks["superblock"] == hexdump(example_superblock()), "the superblock differs")
    check(blocks["intent"] == hexdump(bitmap_sector(INTENT, 0, 0, [0, 9])), "the bitmap differs")


@test
def inspect_prints_the_example_as_documented(lab: Lab):
    outcome = dst("node", "inspect", example_node(lab))
    check(outcome.code == 0, f"{outcome}")
    check(outcome.stdout.rstrip("\n") == documented()["inspect"], f"it prints:\n{outcome.stdout}")


@test
def inspect_speaks_json(lab: Lab):
    outcome = dst("node", "inspect", "--json", example_node(lab))
    found = json.loads(outcome.stdout)
    check(found["cookie"] == f"{0xC1:016x}" and found["sequence"] == 42, f"{found}")
    check(found["age"] == {"id": f"{0xB:016x}", "generation": 3}, f"{found}")
    check([node["type"] for node in found["nodes"]][1] == "R: far:10809/disk0", f"{found}")
    check(found["bitmaps"][0] == {"kind": "intent", "slot": None, "set": 2, "damaged_sectors": 0},
          f"{found['bitmaps']}")
    check(len(found["bitmaps"]) == 4, f"{found['bitmaps']}")


@test
def inspect_looks_through_an_export_and_at_a_disk_in_use(lab: Lab):
    path = example_node(lab)
    exporter = lab.daemon("exporter", export=[{"name": "node", "device": path}])
    expected = documented()["inspect"]
    for target in (exporter.uri("node"), path):
        outcome = dst("node", "inspect", target)
        check(outcome.stdout.rstrip("\n") == expected, f"{target}: {outcome}")
    exporter.kill()
    uri = exporter.uri("node")
    check_refused(uri, uri)


@test
def a_spoiled_copy_or_bitmap_is_survived_and_told(lab: Lab):
    path = example_node(lab)
    overwrite(path, COPIES[0] + 3, b"x")
    overwrite(path, DATA_SECTORS + 16, b"x")  # stale 0
    outcome = dst("node", "inspect", path)
    check(outcome.code == 0, f"{outcome}")
    check("copy 0 has damaged metadata: wrong checksum; copy 1 good" in outcome.stdout, f"{outcome}")
    check("15   1 damaged sectors, counted as set" in outcome.stdout, f"{outcome}")


@test
def what_is_no_node_is_refused_with_what_it_is(lab: Lab):
    path = example_node(lab)
    for sector in COPIES:
        overwrite(path, sector, b"x")
    check_refused(path, path, "has damaged metadata: wrong checksum")
    newer = bytearray(example_superblock())
    newer[11] = 2
    newer[-4:] = struct.pack(">I", crc32c(newer[:-4]))
    overwrite(path, COPIES[1], newer)
    check_refused(path, "has metadata of version 2, and this program knows version 1")
    overwrite(path, COPIES[0], bytes(2 * 0x8000))
    check_refused(path, "it is blank where a node has its metadata")
    overwrite(path, COPIES[0], b"\xda" * 2 * 0x8000)
    check_refused(path, "it holds something else where a node has its metadata")
    check_refused(lab.file("short", "32k"), "has 64 sectors, too few for a node")
    check_refused(lab.path("nothing"), "no such file")


@test
def a_node_that_has_grown_is_found_where_it_ended_before(lab: Lab):
    path = example_node(lab)
    os.truncate(path, 4 << 20)
    check_refused(path, "blank", "--size")
    outcome = dst("node", "inspect", path, "--size", "1M")
    check(outcome.stdout.rstrip("\n") == documented()["inspect"], f"{outcome}")
    outcome = dst("node", "inspect", path, "--size", "8M")
    check("never ended at sector 16384" in outcome.stderr, f"{outcome}")


main()
