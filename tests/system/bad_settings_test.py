#!/usr/bin/python3
"""Bad configurations and commands: each is refused with one line that names the thing, and changes
nothing."""

import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from lab import Lab, check, dst, main, run, test, to_toml

REFUSED, USAGE = 1, 2


def check_refusal(what, outcome, words, code=REFUSED):
    """One line on standard error, in which all `words` stand; nothing on standard output."""
    lines = outcome.stderr.splitlines()
    check(outcome.code == code, f"{what}: exit code {outcome.code}, not {code}: {outcome}")
    check(len(lines) == 1, f"{what}: {len(lines)} lines on standard error, not one: {outcome}")
    check(outcome.stdout == "", f"{what}: it prints: {outcome.stdout}")
    missing = [word for word in words if word not in lines[0]]
    check(not missing, f"{what}: the refusal does not name {missing}: {lines[0]}")
    check(len(lines[0]) < 400, f"{what}: a line of {len(lines[0])} characters: {lines[0]}")


def snapshot(folder):
    """Every file below the folder that says something, with its content."""
    files = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                content = file.read()
            if name == "runtime.toml" and b"[[" not in content:
                continue  # what was noted was taken back
            files[os.path.join(path, name)] = hashlib.sha256(content).hexdigest()
    return files


def check_config_refused(lab, what, text, words, start_only=False):
    """Neither `check-config` nor the daemon takes this configuration.

    `start_only`: only the daemon can know. "@" in the text stands for what every one needs.
    """
    folder = lab.path(f"refused-{len(os.listdir(lab.folder))}")
    os.makedirs(folder)
    path = f"{folder}/bad.toml"
    needed = to_toml({"run_dir": f"{folder}/run", "state_dir": f"{folder}/state",
                      "listen": [f"127.0.0.1:{lab.port()}"]})
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("@\n", needed))
    if not start_only:
        check_refusal(f"check-config, {what}", dst("check-config", path), words)
    started = dst("daemon", "--config", path, "--log-level", "error", timeout=20)
    check_refusal(f"daemon, {what}", started, words)
    left = [name for name in snapshot(folder) if name.endswith(("runtime.toml", ".sock"))]
    check(not left, f"{what}: the refused daemon has left {left}")
    return started


@test
def bad_configurations_are_refused_with_their_line(lab: Lab):
    disk = lab.file("disk", "1M")
    # needed: three lines, so what follows "@" begins at line 4
    for what, text, words in [
            ("an unknown key", "@\nmemroy = \"64M\"\n", ["bad.toml:4", "memroy", "memory"]),
            ("an unknown table", "@\n[[exports]]\nname = \"a\"\n", ["bad.toml:4", "exports"]),
            ("an unknown key of an export",
             f'@\n[[export]]\nname = "a"\ndevice = "{disk}"\nacess = []\n',
             ["bad.toml:7", "acess"]),
            ("an unknown key of a storage",
             f'@\n[[storage]]\nname = "a"\nalgorithm = "linear"\nnodes = ["L: {disk}"]\n'
             'resink = 1\n',
             ["bad.toml:8", "resink"]),
            ("a wrong type", "@\nmemory = true\n", ["bad.toml:4", "memory"]),
            ("a wrong type in a list", "@\n[[storage]]\nname = \"a\"\nalgorithm = \"linear\"\n"
             "nodes = [5]\n", ["bad.toml:7", "nodes"]),
            ("a string where a list belongs", f'@\n[[storage]]\nname = "a"\nalgorithm = "linear"\n'
             f'nodes = "L: {disk}"\n', ["bad.toml:7", "nodes"]),
            ("a number where a name belongs", f'@\n[[export]]\nname = 7\ndevice = "{disk}"\n',
             ["bad.toml:5", "name"]),
            ("a size that is none", "@\nmemory = \"lots\"\n", ["bad.toml:4", "memory", "lots"]),
            ("a duration without a unit", f'@\n[[storage]]\nname = "a"\nalgorithm = "linear"\n'
             f'nodes = ["L: {disk}"]\ngrace = "5"\n', ["bad.toml:8", "grace"]),
            ("a bad address", "listen = [\"127.0.0.1:99999\"]\n", ["bad.toml:1", "99999"]),
            ("no TOML", "@\nthis is not toml\n", ["bad.toml:4"]),
            ("a key twice", "@\nmemory = \"64M\"\nmemory = \"65M\"\n", ["bad.toml:5", "memory"]),
            ("no name", f'@\n[[export]]\ndevice = "{disk}"\n', ["bad.toml:4", "name"]),
            ("no device", '@\n[[export]]\nname = "a"\n', ["bad.toml:4", "device"]),
            ("no nodes", '@\n[[storage]]\nname = "a"\nalgorithm = "linear"\nnodes = []\n',
             ["bad.toml:", "nodes"]),
            ("a name with a slash", f'@\n[[export]]\nname = "a/b"\ndevice = "{disk}"\n',
             ["bad.toml:5", "a/b"]),
            ("an export twice", f'@\n[[export]]\nname = "twin"\ndevice = "memory:1M"\n'
             f'[[export]]\nname = "twin"\ndevice = "{disk}"\n', ["bad.toml:7", "twin"]),
            ("a storage twice", '@\n[[storage]]\nname = "twin"\nalgorithm = "linear"\n'
             'nodes = ["L: memory:1M"]\n[[storage]]\nname = "twin"\nalgorithm = "linear"\n'
             'nodes = ["L: memory:2M"]\n', ["bad.toml:8", "twin"]),
            ("a disk twice", f'@\n[[export]]\nname = "a"\ndevice = "{disk}"\n'
             f'[[export]]\nname = "b"\ndevice = "{disk}"\n', ["bad.toml:7", disk]),
            ("an unknown storage", '@\n[[export]]\nname = "a"\ndevice = "storage:nosuch"\n',
             ["bad.toml:", "nosuch"]),
            ("storages that stand on each other", '@\n[[storage]]\nname = "a"\n'
             'algorithm = "linear"\nnodes = ["L: storage:b"]\n[[storage]]\nname = "b"\n'
             'algorithm = "linear"\nnodes = ["L: storage:a"]\n', ["bad.toml:"]),
            ("memory of no size", '@\n[[export]]\nname = "a"\ndevice = "memory:0"\n',
             ["bad.toml:6", "memory", "size"]),
            ("a node that is no node", '@\n[[storage]]\nname = "a"\nalgorithm = "linear"\n'
             'nodes = ["X: here"]\n', ["bad.toml:7", "X: here"]),
            ("timers that contradict each other", '@\n[[storage]]\nname = "a"\n'
             'algorithm = "linear"\nnodes = ["L: memory:1M"]\nhold = "1s"\ngrace = "2s"\n',
             ["bad.toml:", "hold", "grace"])]:
        check_config_refused(lab, what, text, words)


@test
def what_only_the_world_knows_is_refused_at_the_start(lab: Lab):
    def refused(what, text, words):
        check_config_refused(lab, what, text, words, start_only=True)

    def export(device):
        return f'@\n[[export]]\nname = "a"\ndevice = "{device}"\n'
    missing = lab.path("nosuch")
    refused("a missing disk", export(missing), ["bad.toml:4", missing])
    refused("a folder as a disk", export(lab.folder), [lab.folder])
    refused("an empty disk", export(lab.file("empty", 0)), [lab.path("empty")])
    refused("a disk of 511 bytes", export(lab.file("small", 511)), [lab.path("small")])
    refused("an unknown algorithm", '@\n[[storage]]\nname = "a"\nalgorithm = "nosuch"\n'
            'nodes = ["L: memory:1M"]\n', ["nosuch"])
    refused("a missing algorithm file", f'@\n[[algorithm]]\nfile = "{missing}.so"\n',
            [f"{missing}.so"])
    with open(lab.path("text.so"), "w", encoding="ascii") as file:
        file.write("no shared object\n")
    refused("an algorithm file that is none", f'@\n[[algorithm]]\nfile = "{lab.path("text.so")}"\n',
            [lab.path("text.so")])

    disk = lab.file("disk", "1M")
    owner = lab.daemon("owner", export=[{"name": "disk", "device": disk}])
    before = owner.status()["exports"]
    refused("a disk in use", export(disk), [disk])
    port = f"127.0.0.1:{owner.port}"
    folder = lab.path("x")
    refused("a port in use", to_toml({"run_dir": f"{folder}/run", "state_dir": f"{folder}/state",
                                      "listen": [port]}), [port])
    refused("a run_dir in use", to_toml({
        "run_dir": owner.config["run_dir"], "state_dir": f"{folder}/state",
        "listen": [f"127.0.0.1:{lab.port()}"]}), [owner.socket_path])
    refused("a state_dir that is a file", to_toml({
        "run_dir": f"{folder}/run", "state_dir": disk, "listen": []}), ["state_dir", disk])
    check(owner.status()["exports"] == before, "the daemon that was there has changed")
    check(run(["nbdinfo", "--size", owner.uri("disk")]).stdout.strip() == str(1 << 20),
          "the daemon that was there does not serve any more")

    check_refusal("a missing configuration", dst("daemon", "--config", missing), [missing])
    check_refusal("a missing configuration", dst("check-config", missing), [missing])
    check_refusal("a folder as configuration", dst("check-config", lab.folder), [lab.folder])
    check_refusal("no daemon", dst("status", "--socket", missing), [missing])


class House:
    """A daemon with a storage and an export, and things that it can't use."""

    def __init__(self, lab):
        self.lab = lab
        self.other = lab.daemon("other", export=[
            {"name": "disk", "device": lab.file("other-disk", "1M")},
            {"name": "read-only", "device": lab.file("read-only-disk", "1M"), "read_only": True}])
        self.empty = lab.nbdkit("empty-server", "memory", "0")
        self.daemon = lab.daemon(
            "daemon",
            storage=[{"name": "vol", "algorithm": "linear", "metadata": "none",
                      "nodes": [f"L: {lab.file('node', '1M')}"]}],
            export=[{"name": "vol", "device": "storage:vol"},
                    {"name": "disk", "device": lab.file("disk", "1M")}])
        self.daemon.wait_storage("vol")

    def picture(self):
        """All that a refused command may not change."""
        status = self.daemon.status()
        del status["time"], status["memory"]["used"]
        return json.dumps(status, indent=1), snapshot(self.daemon.folder + "/state")

    def refused(self, args, words, code=REFUSED):
        what = "dst " + " ".join(args)
        before = self.picture()
        check_refusal(what, self.daemon.dst(*args, timeout=30), words, code)
        after = self.picture()
        check(before == after, f"{what}: refused, but something has changed:\n{before}\n{after}")


@test
def bad_commands_are_refused_and_change_nothing(lab: Lab):
    house = House(lab)
    missing = lab.path("nosuch")
    lab.file("empty", 0)
    other, free = house.other, lab.file("free", "1M")
    bad_nodes = [
        (f"L: {missing}", [missing]),
        (f"L: {lab.path('empty')}", [lab.path("empty")]),
        ("L: memory:0", ["memory", "size"]),
        (f"L: {lab.path('other-disk')}", [lab.path("other-disk")]),
        (f"L: {lab.path('disk')}", [lab.path("disk")]),
        (f"L: {lab.path('node')}", [lab.path("node")]),
        ("L: storage:nosuch", ["nosuch"]),
        (other.remote("nosuch"), ["nosuch", str(other.port)]),
        ("Q: what", ["Q: what"]),
        ("", []),
    ]
    for node, words in bad_nodes:
        house.refused(["storage", "create", "new", "--algorithm", "linear", "--metadata", "none",
                       "--node", node], words)
        house.refused(["storage", "create", "new", "--algorithm", "linear", "--metadata", "none",
                       "--node", f"L: {free}", "--node", node], words)
        house.refused(["node", "add", "vol", node], words)

    # These might come yet, so a command waits for them for a while.
    nobody = lab.port()
    house.refused(["storage", "create", "new", "--algorithm", "linear", "--metadata", "none",
                   "--node", house.empty.remote("any")], [str(house.empty.port), "no sectors"])
    house.refused(["storage", "create", "new", "--algorithm", "linear", "--metadata", "none",
                   "--node", "R: no-such-host.invalid/disk"], ["no-such-host.invalid"])
    house.refused(["node", "add", "vol", f"R: 127.0.0.1:{nobody}/disk"], [f"127.0.0.1:{nobody}"])

    create = ["storage", "create", "new", "--metadata", "none", "--node", f"L: {free}"]
    house.refused([*create, "--algorithm", "nosuch"], ["nosuch"])
    house.refused([*create, "--algorithm", "linear", "--hold", "1s", "--grace", "2s"],
                  ["hold", "grace"])
    house.refused([*create, "--algorithm", "linear", "--option", "nosuch=1"], ["nosuch"])
    house.refused(["storage", "create", "vol", "--algorithm", "linear", "--node", f"L: {free}"],
                  ["vol"])
    house.refused(["storage", "create", "a/b", "--algorithm", "linear", "--node", f"L: {free}"],
                  ["a/b"])
    house.refused(["node", "add", "nosuch", f"L: {free}"], ["nosuch"])
    for verb in ("start", "stop", "remove"):
        house.refused(["storage", verb, "nosuch"], ["nosuch"])
    house.refused(["storage", "start", "vol"], ["vol"])
    house.refused(["storage", "stop", "vol"], ["vol", "export"])
    house.refused(["storage", "remove", "vol"], ["vol", "export"])

    for device, words in [(missing, [missing]), (lab.path("empty"), [lab.path("empty")]),
                          ("memory:0", ["memory", "size"]), ("storage:nosuch", ["nosuch"]),
                          (lab.path("other-disk"), [lab.path("other-disk")]),
                          (lab.path("disk"), [lab.path("disk")]),
                          (lab.path("node"), [lab.path("node")])]:
        house.refused(["export", "add", "new", "--device", device], words)
    # Of two users of a disk the newcomer is to blame, whoever comes first in a configuration.
    house.refused(["storage", "create", "new", "--algorithm", "linear", "--node",
                   f"L: {lab.path('disk')}"], ["storage 'new': ", "in use by export 'disk'"])
    house.refused(["export", "add", "disk", "--device", free], ["disk"])
    house.refused(["export", "add", "new", "--device", free, "--access", "everybody=rw"],
                  ["everybody"])
    house.refused(["export", "add", "new", "--device", free, "--access", "10.0.0.0/8=rwx"], ["rwx"])
    house.refused(["export", "remove", "nosuch"], ["nosuch"])

    house.refused(["algorithm", "load", f"{missing}.so"], [f"{missing}.so"])
    house.refused(["algorithm", "load", free], [free])
    house.refused(["algorithm", "unload", "nosuch"], ["nosuch"])
    house.refused(["algorithm", "unload", "linear"], ["linear"])

    for args, words in [(["frobnicate"], ["frobnicate"]), (["storage"], ["dst storage"]),
                        (["storage", "frobnicate"], ["frobnicate"]),
                        (["storage", "create"], ["NAME"]), (["node", "add", "vol"], ["NODE"]),
                        (["status", "--frobnicate"], ["--frobnicate"]), ([], ["dst"])]:
        house.refused(args, words, code=USAGE)
    check(run(["nbdinfo", "--size", house.daemon.uri("vol")]).stdout.strip() == str(1 << 20),
          "the storage does not serve any more")


@test
def a_read_only_export_is_no_node_of_a_writable_storage_or_makes_it_read_only(lab: Lab):
    house = House(lab)
    created = house.daemon.dst("storage", "create", "new", "--algorithm", "linear", "--metadata",
                               "none", "--node", house.other.remote("read-only"))
    if created.code != 0:
        check_refusal("a read-only node", created, ["read-only"])
        return
    check("readonly" in house.daemon.storage("new")["nodes"][0]["flags"], "its flag is missing")
    house.daemon.do("export", "add", "new", "--device", "storage:new")
    told = run(["nbdinfo", "--json", house.daemon.uri("new")])
    check(json.loads(told.stdout)["exports"][0]["is_read_only"], f"its export hides it: {told}")


main()
