"""What the kernel knows of TCP connections."""

_ESTABLISHED = "01"
_CLOSE_WAIT = "08"


def _connections(port):
    """/proc/net/tcp's fields of each open IPv4 connection to this local port."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in list(file)[1:]:
            fields = line.split()
            if (int(fields[1].split(":")[1], 16) == port
                    and fields[3] in (_ESTABLISHED, _CLOSE_WAIT)):
                yield fields


def is_connected(port):
    """Whether anybody is connected to this local port."""
    return any(True for _ in _connections(port))


def unread_bytes(port):
    """Bytes that have arrived at connections to this local port and were not read yet."""
    return sum(int(fields[4].split(":")[1], 16) for fields in _connections(port))
