#!/usr/bin/python3
"""The guest's kernel: Debian's own, and the module ublk_drv, which Debian does not switch on.

Fetched and built once, then kept outside of the tree: $XDG_CACHE_HOME/dst/guest (~/.cache/dst/guest).
Packages are unpacked, never installed. ublk_drv is built from the one file of the kernel's source
that it consists of, against the headers of the same version.

    guest_kernel.py        fetches and builds what is missing, and prints where it is
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile

SERIES = "6.1"
RECIPE = 1  # one more whenever what is kept below changes

# What a guest loads; those that they depend on come with them.
MODULES = ["virtio_pci", "virtio_blk", "virtio_rng", "crc32c_generic", "ext4", "xfs", "fuse", "loop",
           "nbd"]


class CannotRun(Exception):
    """This machine can't run guests; the text says why and what would help."""


class Kernel:
    """`image`: what qemu boots. `modules`: files in an order in which they can be loaded."""

    def __init__(self, folder):
        self.folder = folder
        self.image = os.path.join(folder, "vmlinuz")
        with open(os.path.join(folder, "order"), encoding="utf-8") as file:
            self.modules = [os.path.join(folder, name) for name in file.read().split()]


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(base, "dst", "guest")
    os.makedirs(folder, exist_ok=True)
    return folder


def kernel():
    """The Kernel, from the cache or made now (half a minute and a download of 220 MB)."""
    cache = cache_folder()
    place = os.path.join(cache, f"linux-{SERIES}-{RECIPE}")
    with open(os.path.join(cache, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(place):
            made = tempfile.mkdtemp(prefix="making-", dir=cache)
            try:
                _make(made)
                os.rename(os.path.join(made, "done"), place)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return Kernel(place)


def _run(argv, folder):
    done = subprocess.run(argv, cwd=folder, text=True, capture_output=True, timeout=900,
                          env=os.environ | {"LC_ALL": "C"}, check=False)
    if done.returncode != 0:
        raise CannotRun(f"the guest's kernel can't be had: '{' '.join(argv)}' failed:\n"
                        f"{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def _make(folder):
    release, version = _newest(folder)
    base = release.removesuffix("-amd64")
    packages = [f"linux-image-{release}", f"linux-headers-{release}", f"linux-headers-{base}-common",
                f"linux-kbuild-{SERIES}", f"linux-source-{SERIES}"]
    _run(["apt-get", "download", "-q", *(f"{name}={version}" for name in packages)], folder)
    for name in os.listdir(folder):
        if name.endswith(".deb"):
            _run(["dpkg", "-x", name, "unpacked"], folder)
            os.remove(os.path.join(folder, name))
    done = os.path.join(folder, "done")
    os.mkdir(done)
    shutil.copy(f"{folder}/unpacked/boot/vmlinuz-{release}", f"{done}/vmlinuz")
    files = _module_files(f"{folder}/unpacked/lib/modules/{release}")
    files["ublk_drv"] = _build_ublk(folder, release)
    order = []
    for name in [*MODULES, "ublk_drv"]:
        _add_with_needs(name, files, order)
    for name in order:
        shutil.copy(files[name], f"{done}/{name}.ko")
    with open(f"{done}/order", "w", encoding="utf-8") as file:
        file.write("".join(f"{name}.ko\n" for name in order))


def _newest(folder):
    """Release and package version of the kernel that Debian's linux-image-amd64 depends on."""
    try:
        depends = _run(["apt-cache", "depends", "linux-image-amd64"], folder)
    except CannotRun:  # no lists at all
        depends = ""
    found = re.search(rf"Depends: linux-image-({re.escape(SERIES)}\S+)", depends)
    if not found:
        _run(["apt-get", "update", "-qq"], folder)
        depends = _run(["apt-cache", "depends", "linux-image-amd64"], folder)
        found = re.search(rf"Depends: linux-image-({re.escape(SERIES)}\S+)", depends)
    if not found:
        raise CannotRun(f"the package sources of this machine have no Debian kernel {SERIES} "
                        f"(linux-image-amd64): guests are Debian 12's")
    policy = _run(["apt-cache", "policy", f"linux-image-{found[1]}"], folder)
    return found[1], re.search(r"Candidate: (\S+)", policy)[1]


def _build_ublk(folder, release):
    """ublk_drv.ko. The headers name each other by the path where they would be installed."""
    sources = f"{folder}/unpacked/usr/src"
    headers = f"{sources}/linux-headers-{release}"
    with open(f"{headers}/Makefile", encoding="utf-8") as file:
        makefile = file.read()
    with open(f"{headers}/Makefile", "w", encoding="utf-8") as file:
        file.write(makefile.replace("/usr/src/", f"{sources}/"))
    member = f"linux-source-{SERIES}/drivers/block/ublk_drv.c"
    _run(["tar", "-xJf", f"{sources}/linux-source-{SERIES}.tar.xz", "--occurrence=1", member],
         folder)
    os.mkdir(f"{folder}/module")
    shutil.copy(f"{folder}/{member}", f"{folder}/module")
    with open(f"{folder}/module/Makefile", "w", encoding="utf-8") as file:
        file.write("obj-m := ublk_drv.o\n")
    _run(["make", "-C", headers, f"M={folder}/module", "modules"], folder)
    return f"{folder}/module/ublk_drv.ko"


def _module_files(folder):
    return {name.removesuffix(".ko").replace("-", "_"): os.path.join(path, name)
            for path, _, names in os.walk(folder) for name in names if name.endswith(".ko")}


def _add_with_needs(name, files, order):
    """Adds a module to `order` behind those that it needs, which its file names."""
    if name in order:
        return
    with open(files[name], "rb") as file:
        needs = re.search(rb"\0depends=([^\0]*)\0", file.read())
    for need in needs[1].decode().split(",") if needs and needs[1] else []:
        _add_with_needs(need.replace("-", "_"), files, order)
    order.append(name)


if __name__ == "__main__":
    print(kernel().folder)
