#!/usr/bin/python3
"""The tree at <run_dir>/sysfs: every file of the original's sysfs.txt, used as real sysfs is."""

import errno
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Failure, Lab, check, main, run, test, wait_until
from lab_api import Api, value_of
from lab_tree import NODE_FILES, STORAGE_FILES, Tree, Watched

SECTORS_PER_MIB = 2048


class Linear:
    """A storage of two local nodes and a remote one, exported."""

    def __init__(self, lab):
        self.exporter = lab.daemon("exporter", export=[
            {"name": "disk", "device": lab.file("far", "16M")}])
        self.remote = self.exporter.remote("disk")
        self.head = lab.daemon("head", storage=[
            {"name": "vol0", "algorithm": "linear", "metadata": "none",
             "nodes": [f"L: {lab.file('a', '16M')}", f"L: {lab.file('b', '16M')}", self.remote]}],
            export=[{"name": "vol0", "device": "storage:vol0"}])
        self.head.wait_storage("vol0")
        self.tree = Tree(self.head)

    def node(self, place):
        """The folder of the node at that place of the storage."""
        node = self.head.storage("vol0")["nodes"][place]
        return f"n-{node['start']}-{node['cookie']}"


def shell(script, **variables):
    return run(["sh", "-c", script], env=os.environ | variables)


def error_of(function, *args):
    """The name of the errno that it fails with; '' if it doesn't."""
    try:
        function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""


@test
def every_file_of_the_seed_is_there_with_its_value_and_its_mode(lab: Lab):
    linear = Linear(lab)
    tree, status = linear.tree, linear.head.status()
    check(tree.list("/") == ["devices"] and tree.list() == ["vol0"], f"{tree.list('/')}")
    folders = tree.nodes("vol0")
    check(len(folders) == 3, f"{folders}")
    check(tree.list("vol0") == sorted([*STORAGE_FILES, *folders]), f"{tree.list('vol0')}")
    for file, mode in STORAGE_FILES.items():
        check(tree.mode("vol0", file) == mode, f"{file}: {tree.mode('vol0', file):o}")
    for folder in folders:
        check(tree.list("vol0", folder) == sorted(NODE_FILES), f"{tree.list('vol0', folder)}")
        check(tree.mode("vol0", folder) == 0o755, f"{folder}")
        for file, mode in NODE_FILES.items():
            check(tree.mode("vol0", folder, file) == mode, f"{file}")
            check(os.stat(tree.path("vol0", folder, file)).st_size == 4096, f"size of {file}")
    check(tree.everything() == tree.expected(status), f"{tree.everything()}\n{status}")
    check(tree.read("vol0/alg") == "linear" and tree.read("vol0/name") == "vol0", "alg, name")
    third = linear.node(2)
    check(third.startswith(f"n-{32 * SECTORS_PER_MIB}-"), third)
    check(tree.read("vol0", third, "type") == linear.remote, tree.read("vol0", third, "type"))
    check(tree.read("vol0", third, "size") == str(16 * SECTORS_PER_MIB), "size")
    check(tree.read("vol0", third, "state") == "sync", "state")
    check(tree.read("vol0/nodes").splitlines()[2]
          == f"{third} {32 * SECTORS_PER_MIB} {16 * SECTORS_PER_MIB} {linear.remote}", "nodes")
    check("connected" in tree.read("vol0", third, "flags").split(), "flags")


@test
def a_shell_finds_and_reads_it_as_sysfs(lab: Lab):
    linear = Linear(lab)
    found = shell('find "$T" -type f | wc -l; find "$T" -name state -exec cat {} + ; '
                  'ls -l "$T/devices/vol0/alg"; grep -rsh linear "$T" | sort -u; '
                  'test -w "$T/devices/vol0/alg"; df "$T" >/dev/null; echo "$?"; du -s "$T"',
                  T=linear.tree.root)
    lines = found.stdout.splitlines()
    check(lines[0] == str(4 + 3 * 10) and lines[1:4] == ["sync"] * 3, found.stdout)
    check(lines[4].startswith("-r--r--r-- 1 root root 4096"), lines[4])
    check("linear" in lines and not found.stderr, f"{found}")


@test
def files_are_opened_read_and_written_as_those_of_sysfs(lab: Lab):
    linear = Linear(lab)
    tree, head = linear.tree, linear.head
    node = tree.path("vol0", linear.node(0))
    alg = tree.path("vol0/alg")
    # As in sysfs, root may not do either what a file is not made for.
    check(error_of(os.open, alg, os.O_WRONLY) == "EACCES", "a file to read was opened to write")
    check(error_of(os.open, alg, os.O_RDWR) == "EACCES", "a file to read was opened to write")
    check(error_of(os.open, f"{node}/dirty", os.O_RDONLY) == "EACCES", "dirty was read")
    for function, *args in [(os.mkdir, tree.path("x")), (os.rmdir, node), (os.remove, alg),
                            (os.rename, alg, alg + "2"), (os.symlink, "x", tree.path("x")),
                            (os.link, alg, alg + "2"), (os.chmod, alg, 0o666),
                            (os.chown, alg, 1, 1), (os.mkfifo, tree.path("x")),
                            (os.open, tree.path("x"), os.O_CREAT | os.O_WRONLY)]:
        check(error_of(function, *args) in ("EPERM", "EACCES"),
              f"{function.__name__} {args}: {error_of(function, *args)}")
    check(error_of(os.stat, tree.path("x")) == "ENOENT", "there is an x")

    with open(alg, "rb", buffering=0) as file:
        check(file.read(3) == b"lin" and file.read(3) == b"ear" and file.read(3) == b"\n"
              and file.read(3) == b"", "reading in pieces")
        check(os.pread(file.fileno(), 100, 3) == b"ear\n", "reading from the middle")
        check(os.pread(file.fileno(), 100, 4096) == b"", "reading behind the end")

    # The first node of a linear has no second copy: what is in order is refused, not misread.
    for file, good in [("dirty", "1"), ("clean", "1"), ("resync_size", "4096"),
                       ("resync_timout", "100"), ("resync_timeout", "100")]:
        before = head.status()["storages"]
        for bad in ["x", "-1", "1 1", "\n", "1\0", "9" * 30, "1" + " " * 4000]:
            check(tree.write(bad, "vol0", linear.node(0), file) == "EINVAL", f"{bad!r} to {file}")
        check(tree.write(good, "vol0", linear.node(0), file) in ("EOPNOTSUPP", "ENOTSUP"),
              f"{good} to {file}: {tree.write(good, 'vol0', linear.node(0), file)}")
        check(head.status()["storages"] == before, f"a refused write to {file} changed something")
    check(tree.write("", "vol0", linear.node(0), "dirty") == "", "a write of nothing")
    check(tree.write("2", "vol0/remove_all_nodes") == "EINVAL", "2 to remove_all_nodes")


@test
def folders_come_and_go_at_once(lab: Lab):
    linear = Linear(lab)
    tree, head = linear.tree, linear.head
    for turn in range(20):
        head.do("node", "add", "vol0", f"L: {lab.file(f'more{turn}', '1M')}")
        check(len(tree.nodes("vol0")) == 4 + turn, f"turn {turn}: {tree.nodes('vol0')}")
        head.do("storage", "create", "other", "--algorithm", "linear", "--node", "L: memory:1M")
        check(tree.list() == ["other", "vol0"], f"turn {turn}: {tree.list()}")
        folder = tree.path("other", tree.nodes("other")[0])
        with open(f"{folder}/state", "rb", buffering=0) as state:
            check(state.read() == b"sync\n", "state of other")
            inside = subprocess.Popen(["cat"], cwd=folder, stdin=subprocess.PIPE,
                                      stdout=subprocess.DEVNULL)
            try:
                head.do("storage", "remove", "other")
                check(tree.list() == ["vol0"], f"turn {turn}: {tree.list()}")
                check(error_of(os.stat, folder) == "ENOENT", "the folder of a removed node")
                check(error_of(os.pread, state.fileno(), 10, 0) == "ENODEV",
                      "a file whose node was removed can still be read")
            finally:
                inside.communicate(timeout=10)


@test
def nodes_are_removed_only_from_a_storage_that_nobody_uses(lab: Lab):
    linear = Linear(lab)
    tree, head = linear.tree, linear.head
    fio = lab.fio("load", head.uri("vol0"), size="48M")
    wait_until("fio has begun", lambda: head.export("vol0")["clients"] == 1)
    check(tree.write("1\n", "vol0/remove_all_nodes") == "EBUSY", "removed under load")
    check(head.storage("vol0")["state"] == "running", f"{head.storage('vol0')}")
    fio.wait()
    head.do("export", "remove", "vol0")
    done = shell('echo 1 > "$F"', F=tree.path("vol0/remove_all_nodes"))
    check(done.code == 0, f"{done}")

    def is_empty():
        status = head.storage("vol0")
        check(status["state"] == "stopped" and status["nodes"] == [], f"{status}")
        check(tree.nodes("vol0") == [] and tree.read("vol0/nodes") == "", f"{tree.list('vol0')}")
        check(tree.read("vol0/name") == "vol0", "its name")
        start = head.dst("storage", "start", "vol0")
        check(start.code == 1 and "no nodes" in start.stderr, f"{start}")
    is_empty()
    head.stop()
    head.start()
    is_empty()

    # With the same nodes it is what it was.
    for node in [f"L: {lab.path('a')}", f"L: {lab.path('b')}", linear.remote]:
        head.do("node", "add", "vol0", node)
        if node.endswith("a"):
            check(head.storage("vol0")["state"] == "stopped", f"{head.storage('vol0')}")
            head.do("storage", "start", "vol0")
            head.wait_storage("vol0")
    head.do("export", "add", "vol0", "--device", "storage:vol0")
    lab.fio("again", head.uri("vol0"), size="48M", overwrites=True).wait()
    check(len(tree.nodes("vol0")) == 3, f"{tree.nodes('vol0')}")


@test
def poll_wakes_when_a_value_changes_and_only_then(lab: Lab):
    linear = Linear(lab)
    tree = linear.tree
    third = linear.node(2)
    with Watched(tree, "vol0", third, "flags") as flags, \
            Watched(tree, "vol0", linear.node(0), "flags") as other, \
            Watched(tree, "vol0/nodes") as nodes:
        check(not flags.has_changed(0.3), "a change before there was one")
        linear.exporter.kill()
        check(flags.has_changed(20), "poll(2) does not tell that the link is lost")
        check(flags.has_changed(0), "the change is forgotten before it was read")
        check("connected" not in flags.read().split(), flags.value)
        check(not flags.has_changed(0.3), "the change is told again after it was read")
        check(not other.has_changed(0), "another node's flags have changed")
        linear.exporter.start()
        check(flags.has_changed(20) and "connected" in flags.read().split(), flags.value)
        linear.head.do("node", "add", "vol0", f"L: {lab.file('more', '1M')}")
        check(nodes.has_changed(5) and len(nodes.read().splitlines()) == 4, nodes.value)
        check(not other.has_changed(0), "another node's flags have changed")


class Mirror:
    """A storage of two copies, exported, of which the first MiBs are filled."""

    FILLED = 32

    def __init__(self, lab, nodes):
        self.head = lab.daemon("head", storage=[
            {"name": "vol0", "algorithm": "mirror", "nodes": nodes}],
            export=[{"name": "vol0", "device": "storage:vol0"}])
        self.head.wait_storage("vol0")
        self.tree = Tree(self.head)
        # In the order in which they were given.
        self.folders = [line.split()[0] for node in nodes
                        for line in self.tree.read("vol0/nodes").splitlines()
                        if line.endswith(f" {node}")]
        check(sorted(self.folders) == self.tree.nodes("vol0"), f"{self.folders}")
        lab.fio("fill", self.head.uri("vol0"), size=f"{self.FILLED}M", bs="1M").wait()

    def resync_seconds(self, folder):
        """Has all of a node copied anew."""
        with Watched(self.tree, "vol0", folder, "state") as state:
            begun = time.monotonic()
            check(self.tree.write("1", "vol0", folder, "dirty") == "", "dirty")
            check(state.has_changed(0), "poll(2) does not tell of dirty")
            state.read()
            state.wait("sync", timeout=90)
            return time.monotonic() - begun


@test
def a_node_marked_dirty_is_copied_under_load_and_poll_tells_of_it(lab: Lab):
    exporters = [lab.daemon(f"exporter{i}", export=[
        {"name": "disk", "device": lab.file(f"far{i}", "64M")}]) for i in range(2)]
    mirror = Mirror(lab, [exporter.remote("disk") for exporter in exporters])
    tree, (first, second) = mirror.tree, mirror.folders
    load = lab.fio("load", mirror.head.uri("vol0"), overwrites=True, size=f"{mirror.FILLED}M",
                   rate="4M")
    wait_until("the load has begun", lambda: mirror.head.export("vol0")["clients"] == 1)
    with Watched(tree, "vol0", second, "state") as state, \
            Watched(tree, "vol0", first, "state") as other:
        check(state.value == "sync" and not state.has_changed(0.2), state.value)
        done = shell('echo 1 > "$F" && cat "$(dirname "$F")/state"',
                     F=tree.path("vol0", second, "dirty"))
        check(done.code == 0 and done.stdout == "notsync\n", f"{done}")
        check(state.has_changed(0) and state.read() == "notsync", "poll(2) does not tell of it")
        # It is the last one that has all of the data.
        check(tree.write("1", "vol0", first, "dirty") == "EPERM", "the last copy was marked dirty")
        state.wait("sync", timeout=60)
        # What it lacks is copied by itself; nobody may say that it has it. It can't be in sync again
        # before it is asked for that, for its exporter is stopped.
        exporters[1].pause()
        check(tree.write("1", "vol0", second, "dirty") == "", "dirty")
        check(tree.write("1", "vol0", second, "clean") == "EPERM", "a stale node was marked clean")
        check(state.read() == "notsync", f"a refused write has made it {state.value}")
        exporters[1].resume()
        state.wait("sync", timeout=60)
        check(not other.has_changed(0), "the other node's state has changed")
        error = tree.write("1\n", "vol0", second, "clean")
        check(error == "", f"clean of a node in sync: {error}")
    check(load.is_running(), "the load ended before the resync")
    load.wait()
    mirror.head.stop()


@test
def poll_wakes_on_a_node_that_is_lost_and_comes_back(lab: Lab):
    exporters = [lab.daemon(f"exporter{i}", export=[
        {"name": "disk", "device": lab.file(f"far{i}", "64M")}]) for i in range(2)]
    mirror = Mirror(lab, [exporter.remote("disk") for exporter in exporters])
    load = lab.fio("load", mirror.head.uri("vol0"), overwrites=True, size=f"{mirror.FILLED}M",
                   rate="4M")
    wait_until("the load has begun", lambda: mirror.head.export("vol0")["clients"] == 1)
    with Watched(mirror.tree, "vol0", mirror.folders[1], "state") as state:
        exporters[1].kill()
        state.wait("notsync", timeout=30)
        exporters[1].start()
        state.wait("sync", timeout=60)
    load.wait()


@test
def resync_size_and_timeout_change_at_once_and_stay_changed(lab: Lab):
    # A node that takes its time for each write: the larger the window, the more of it is written
    # at a time.
    slow = lab.nbdkit("slow", "--filter=delay", "memory", "64M", "delay-write=5ms")
    mirror = Mirror(lab, [f"L: {lab.file('disk', '64M')}", f"R: 127.0.0.1:{slow.port}/"])
    tree, head, (first, second) = mirror.tree, mirror.head, mirror.folders
    seconds = {}
    for sectors in (65536, 128):
        check(tree.write(f"{sectors}\n", "vol0", first, "resync_size") == "", "resync_size")
        for folder in mirror.folders:
            check(tree.read("vol0", folder, "resync_size") == str(sectors), "not read as written")
        seconds[sectors] = mirror.resync_seconds(second)
    lab.say(f"seconds of a resync of {mirror.FILLED} MiB, by resync_size in sectors: {seconds}")
    check(seconds[128] > 1.5 * seconds[65536], f"a larger window is not faster: {seconds}")

    check(tree.write("250", "vol0", second, "resync_timout") == "", "resync_timout")
    check(tree.read("vol0", first, "resync_timeout") == "250", "resync_timeout")
    check(tree.write("750\n", "vol0", first, "resync_timeout") == "", "resync_timeout")
    check(tree.read("vol0", second, "resync_timout") == "750", "resync_timout")
    kept = head.storage("vol0")["resync"]
    # Below a region, more than a quarter of the memory, or no number.
    for bad in ["127", "0", "-128", "131073", "x", "4096x", "4 096", str(1 << 64)]:
        check(tree.write(bad, "vol0", first, "resync_size") == "EINVAL", f"{bad} to resync_size")
    for bad in ["0", "-1", "1s", "86400001", str(1 << 64)]:
        check(tree.write(bad, "vol0", first, "resync_timout") == "EINVAL", f"{bad} to the timeout")
    check(head.storage("vol0")["resync"] == kept, "a refused write changed something")
    head.stop()
    head.start()
    head.wait_storage("vol0")
    check(tree.nodes("vol0") == sorted(mirror.folders), "the cookies are others after a restart")
    check(tree.read("vol0", first, "resync_size") == "128"
          and tree.read("vol0", first, "resync_timout") == "750", "forgotten by a restart")


@test
def what_a_killed_daemon_left_mounted_is_replaced_and_sigterm_unmounts(lab: Lab):
    linear = Linear(lab)
    tree, head = linear.tree, linear.head
    for _ in range(3):
        still_open = os.open(tree.path("vol0/alg"), os.O_RDONLY)
        head.kill()
        check(error_of(os.listdir, tree.root) in ("ENOTCONN", "ECONNABORTED"),
              f"of a killed daemon: {error_of(os.listdir, tree.root)}")
        head.start()
        check(tree.read("vol0/alg") == "linear", "alg after a restart")
        check(error_of(os.pread, still_open, 10, 0) in ("ENOTCONN", "ECONNABORTED", "EIO"),
              "a file of a daemon that was killed")
        error_of(os.close, still_open)
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        check(sum(tree.root in line for line in mounts) == 1, "mounts are stacked")
    still_open = os.open(tree.path("vol0/alg"), os.O_RDONLY)
    begun = time.monotonic()
    head.stop()
    check(not tree.is_mounted() and not os.path.exists(tree.root), "it is still mounted")
    check(time.monotonic() - begun < 10, f"stopping took {time.monotonic() - begun:.1f} s")
    check(error_of(os.pread, still_open, 10, 0) in ("ENOTCONN", "ECONNABORTED", "EIO"),
          f"a file of a daemon that ended: {error_of(os.pread, still_open, 10, 0)}")
    error_of(os.close, still_open)


@test
def somebody_unmounts_it_and_the_rest_goes_on(lab: Lab):
    linear = Linear(lab)
    check(run(["umount", linear.tree.root]).code == 0, "umount")
    linear.head.status()
    wait_until("the log says so", lambda: "unmounted" in linear.head.process.log_text())
    lab.fio("load", linear.head.uri("vol0"), size="8M").wait()
    linear.head.stop()


@test
def without_fuse_all_the_rest_works_with_one_warning(lab: Lab):
    # In a mount namespace of its own /dev/fuse is something else.
    hidden = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse; exec "$@"', "sh"]
    head = lab.daemon("head", argv_prefix=hidden, storage=[
        {"name": "vol0", "algorithm": "linear", "metadata": "none", "nodes": ["L: memory:16M"]}],
        export=[{"name": "vol0", "device": "storage:vol0"}])
    head.wait_storage("vol0")
    lab.fio("load", head.uri("vol0"), size="8M").wait()
    warnings = [line for line in head.process.log_text().splitlines()
                if "warning" in line]
    check(len(warnings) == 1 and "tree" in warnings[0], f"{warnings}")
    lab.say(warnings[0])
    head.stop()


@test
def a_writer_that_is_killed_lets_go_and_the_daemon_ends_in_time(lab: Lab):
    exporter = lab.daemon("exporter", export=[{"name": "disk", "device": lab.file("far", "4M")}])
    head = lab.daemon("head", storage=[
        {"name": "vol0", "algorithm": "linear", "metadata": "none",
         "nodes": [exporter.remote("disk")]}])
    head.wait_storage("vol0")
    tree = Tree(head)
    # While another change is under way, which takes its time, a write to the tree waits for it.
    slow = lab.process("slow", ["sh", "-c", 'exec "$0" "$@"', head.process.argv[0], "node", "add",
                                "vol0", "R: 127.0.0.1:1/none", "--socket", head.socket_path])
    wait_until("the change is under way", lambda: ":1/none: not" in head.process.log_text())

    def writer():
        return lab.process("writer", ["sh", "-c", 'echo 1 > "$0"', tree.path("vol0/remove_all_nodes")])
    first = writer()
    try:
        first.wait(1)
        raise Failure("the write did not wait")
    except Failure as waited:
        check("in vain" in str(waited), f"{waited}")
    first._popen.send_signal(signal.SIGKILL)
    first.wait(2)
    second = writer()
    begun = time.monotonic()
    head.stop()
    check(time.monotonic() - begun < 10, "stopping took too long")
    check(second.wait(2) != 0, "the write of a daemon that ended is said to be done")
    slow.wait(5)


main()
