"""NBD servers that others wrote, as processes that are ready when the constructor returns.

A server that takes a listening socket from its parent gets one: who connects is queued by the
kernel from the first moment, so there is nothing to wait for.
"""

import os
import socket

from lab_process import Process, can_connect, check, wait_until

_SOCKET_ACTIVATION = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 0</dev/null', "sh"]
# For a program that insists on going to the background: it and its children are alone in a process
# namespace, and gone with it.
_PEN = ["unshare", "--pid", "--fork", "--kill-child=KILL",
        "sh", "-c", '"$@" && exec sleep infinity', "sh"]


class Server:
    """A foreign server on a port of its own; may be killed and started again there."""

    def __init__(self, name, argv, log_path, port, takes_socket=True, own=1):
        """`argv` gets the listening socket as descriptor 3, or else goes to the background. So many
        of its words are the program's, not the test's."""
        self.name = name
        self.port = port
        self.log_path = log_path
        self.process = None
        self._argv = argv
        self._own = own
        self._takes_socket = takes_socket
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        if not self._takes_socket:
            self.process = Process(self.name, [*_PEN, *self._argv], self.log_path)
            wait_until(f"{self.name} listens on port {self.port}", lambda: can_connect(self.port))
            return
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(128)
            self.process = Process(self.name, [*_SOCKET_ACTIVATION, *self._argv], self.log_path,
                                   stdin=listener)

    def kill(self):
        """SIGKILL; returns when nothing listens there any more."""
        self.process.kill()
        wait_until(f"{self.name} is gone from port {self.port}", lambda: not can_connect(self.port))

    def start_with(self, *args):
        """As `start`, of a server that was killed: with these arguments from now on."""
        self._argv = [*self._argv[:self._own], *args]
        self.start()

    def pause(self):
        check(self._takes_socket, f"{self.name} is in a pen, where it can only be killed")
        self.process.pause()

    def resume(self):
        self.process.resume()

    def close(self):
        self.process.close()

    def uri(self, export=""):
        return f"nbd://127.0.0.1:{self.port}/{export}"

    def remote(self, export=""):
        """How a daemon names this export as a node."""
        return f"R: 127.0.0.1:{self.port}/{export}"


def nbdkit(name, log_path, port, *args):
    """`nbdkit ARGS...`: plugin, its parameters, and filters; it serves any export name."""
    own = ["nbdkit", "--foreground", "--exit-with-parent"]
    return Server(name, [*own, *args], log_path, port, own=len(own))


def qemu_storage_daemon(name, log_path, port, file, export, node_options=""):
    """Serves `file` (raw) under the name `export`; `node_options` are added to its --blockdev."""
    blockdev = f"driver=file,node-name=disk,filename={file},discard=unmap{node_options}"
    return Server(name, ["qemu-storage-daemon", "--blockdev", blockdev,
                         "--nbd-server", "addr.type=fd,addr.str=3,max-connections=100",
                         "--export", f"type=nbd,id=e,node-name=disk,name={export},writable=on"],
                  log_path, port)


def nbd_server(name, log_path, port, file, export):
    """nbd-server of the NBD project, with `file` under the name `export`."""
    config = log_path + ".conf"
    with open(config, "w", encoding="ascii") as out:
        out.write(f"[generic]\nport = {port}\nlistenaddr = 127.0.0.1\nallowlist = true\n"
                  f"[{export}]\nexportname = {os.path.abspath(file)}\nflush = true\nfua = true\n"
                  f"trim = true\n")
    return Server(name, ["nbd-server", "-C", config], log_path, port, takes_socket=False)
