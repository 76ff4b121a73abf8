"""What a guest starts from: an initramfs (a cpio archive, made here), nothing installed anywhere.

It holds busybox, the programs below with the libraries that they are linked to, the kernel's modules,
`init` and `library.sh` of this folder, and the script of the test.
"""

import io
import os
import re
import shutil
import stat
import subprocess
import tempfile

from guest_kernel import CannotRun

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = ["mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair", "fio", "blkdiscard", "fallocate", "blockdev",
            "fusermount3"]


class Archive:
    """A cpio archive in the format that the kernel unpacks ('newc')."""

    def __init__(self):
        self._out = io.BytesIO()
        self._folders = set()
        self._count = 0

    def folder(self, path):
        path = path.strip("/")
        if not path or path in self._folders:
            return
        self.folder(os.path.dirname(path))
        self._folders.add(path)
        self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path, data, mode=0o755):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFREG | mode, data)

    def link(self, path, target):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, major, minor):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFCHR | 0o600, b"", (major, minor))

    def end(self):
        self._entry("TRAILER!!!", 0, b"")
        return self._out.getvalue()

    def _entry(self, path, mode, data, number=(0, 0)):
        self._count += 1
        name = path.encode() + b"\0"
        fields = [self._count, mode, 0, 0, 1, 0, len(data), 0, 0, *number, len(name), 0]
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + name)
        self._pad()
        self._out.write(data)
        self._pad()

    def _pad(self):
        self._out.write(bytes(-self._out.tell() % 4))


def make(kernel, dst, script, seconds):
    """The initramfs for a guest that runs `script` (sh), as bytes. `dst`: the program's path. After so
    many `seconds` it tells what it does."""
    archive = Archive()
    for folder in ["proc", "sys", "dev", "run", "tmp", "mnt", "root"]:
        archive.folder(folder)
    archive.device("/dev/console", 5, 1)
    archive.file("/bin/busybox", _content(_find("busybox", "busybox-static")))
    archive.link("/bin/sh", "busybox")
    libraries = {}
    for name in PROGRAMS:
        path = _find(name)
        archive.file(f"/bin/{name}", _content(path))
        libraries |= _libraries(path)
    archive.file("/bin/dst", _without_debug_information(dst))
    libraries |= _libraries(dst)
    for path, real in sorted(libraries.items()):
        archive.file(path, _content(real))
    for path in kernel.modules:
        archive.file(f"/modules/{os.path.basename(path)}", _content(path), 0o644)
    archive.file("/modules/order", "".join(f"{os.path.basename(path)}\n"
                                           for path in kernel.modules).encode(), 0o644)
    archive.file("/init", _content(os.path.join(HERE, "init")))
    archive.file("/library.sh", _content(os.path.join(HERE, "library.sh")), 0o644)
    archive.file("/script.sh", script.encode(), 0o644)
    archive.file("/seconds", str(seconds).encode(), 0o644)
    return archive.end()


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _find(name, package=None):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        raise CannotRun(f"{package or name} is missing: tools/install-packages test")
    return path


def _libraries(program):
    """{where the loader looks: the file} of all that it is linked to."""
    said = subprocess.run(["ldd", program], text=True, capture_output=True, check=False).stdout
    paths = re.findall(r"(/\S+) \(0x", said)
    return {path: os.path.realpath(path) for path in paths}


def _without_debug_information(program):
    with tempfile.NamedTemporaryFile() as smaller:
        try:
            subprocess.run(["objcopy", "--strip-debug", program, smaller.name], check=True,
                           capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotRun(f"{program} can't be put into a guest: {error}") from None
        return _content(smaller.name)
