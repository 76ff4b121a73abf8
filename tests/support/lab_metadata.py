"""What lies on a node of a mirror, read and written as docs/on-disk.md draws it: another reader than
the product's own."""

import struct

from lab_process import check

SUPERBLOCK_BYTES = 32768
PAGE_BYTES = 4096
SECTOR_BYTES = 512
_BITS_A_SECTOR = 3968
_SECTORS_A_PAGE = PAGE_BYTES // SECTOR_BYTES


def _make_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _make_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class Metadata:
    """The metadata of a node whose end is that of the file. Nobody may be using it."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            end = file.seek(0, 2) // PAGE_BYTES * PAGE_BYTES
            self.superblocks_at = end - 2 * SUPERBLOCK_BYTES
            file.seek(self.superblocks_at)
            block = file.read(SUPERBLOCK_BYTES)
        check(block[:8] == b"DST meta", f"{path} has no superblock")
        check(struct.unpack(">I", block[-4:])[0] == crc32c(block[:-4]),
              f"the checksum of the superblock of {path} is wrong")
        self.version, self.flags = struct.unpack_from(">II", block, 0x8)
        self.storage_id = block[0x10:0x20]
        self.data_size = struct.unpack_from(">Q", block, 0x30)[0] * SECTOR_BYTES
        self.region_size = 1 << block[0x38]
        self.slots = block[0x39]
        self.slot = block[0x3A]
        self.regions = -(-self.data_size // self.region_size)
        self.pages = -(-self.regions // (_BITS_A_SECTOR * _SECTORS_A_PAGE))
        self.bitmaps_at = self.superblocks_at - (2 + self.slots) * self.pages * PAGE_BYTES

    def intent(self):
        """The regions that have intent, as a set of their numbers."""
        return self._bitmap(0, 1)

    def stale(self, slot):
        return self._bitmap(2 + slot, 3)

    def damage_intent(self, sector):
        """Spoils the checksum of one sector of the intent bitmap; returns the regions it is for."""
        with open(self.path, "r+b") as file:
            file.seek(self.bitmaps_at + sector * SECTOR_BYTES + 12)
            checksum = file.read(4)
            file.seek(-4, 1)
            file.write(bytes(byte ^ 0xFF for byte in checksum))
        first = sector * _BITS_A_SECTOR
        return range(first, min(first + _BITS_A_SECTOR, self.regions))

    def become_version(self, version):
        """Both superblocks say that a program of this version wrote them."""
        with open(self.path, "r+b") as file:
            for copy in range(2):
                file.seek(self.superblocks_at + copy * SUPERBLOCK_BYTES)
                block = bytearray(file.read(SUPERBLOCK_BYTES))
                struct.pack_into(">I", block, 8, version)
                struct.pack_into(">I", block, len(block) - 4, crc32c(block[:-4]))
                file.seek(-SUPERBLOCK_BYTES, 1)
                file.write(block)

    def _bitmap(self, number, kind):
        found = set()
        with open(self.path, "rb") as file:
            file.seek(self.bitmaps_at + number * self.pages * PAGE_BYTES)
            data = file.read(self.pages * PAGE_BYTES)
        for index in range(self.pages * _SECTORS_A_PAGE):
            sector = data[index * SECTOR_BYTES:(index + 1) * SECTOR_BYTES]
            first = index * _BITS_A_SECTOR
            if first >= self.regions:
                break
            header = sector[:12]
            checksum = struct.unpack_from(">I", sector, 12)[0]
            check(header[:5] == b"DSTb" + bytes([kind]) and
                  checksum == crc32c(self.storage_id + header + sector[16:]),
                  f"{self.path}: sector {index} of bitmap {number} is damaged")
            bits = int.from_bytes(sector[16:], "big")
            found |= {first + at for at in range(_BITS_A_SECTOR)
                      if bits >> (_BITS_A_SECTOR - 1 - at) & 1 and first + at < self.regions}
        return found
