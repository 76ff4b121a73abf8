"""What the kernel knows of TCP connections."""

import collections

_ESTABLISHED = "01"
_CLOSE_WAIT = "08"

# `is_ended`: the other side has closed it.
Connection = collections.namedtuple("Connection", "is_ended unread_bytes")


def connections(port):
    """The open IPv4 connections to this local port, accepted or not."""
    found = []
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in list(file)[1:]:
            fields = line.split()
            if (int(fields[1].split(":")[1], 16) == port
                    and fields[3] in (_ESTABLISHED, _CLOSE_WAIT)):
                found.append(Connection(fields[3] == _CLOSE_WAIT,
                                        int(fields[4].split(":")[1], 16)))
    return found


def is_connected(port):
    """Whether anybody is connected to this local port."""
    return bool(connections(port))


def unread_bytes(port):
    """Bytes that have arrived at connections to this local port and were not read yet."""
    return sum(connection.unread_bytes for connection in connections(port))
