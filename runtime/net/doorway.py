"""How many connections one listening socket holds at once, and which of them are cut off.

    ZeroMQ accepts -> Doorway.opened -> beyond the bound: shut down the oldest without a key
    ZeroMQ closes  -> Doorway.closed

libzmq has no option for it: a backlog bounds what waits to be accepted, HANDSHAKE_IVL how long a
handshake may take, and in these seconds connections take descriptors until none is left. A client
with a key needs milliseconds to show it, so that cutting off the *oldest* which has shown none
keeps the door open for guests while strangers fill it. Where all have shown one, the newest goes.
"""

import contextlib
import resource
import socket

from runtime.net.tcp_info import inspect
from runtime.net.traffic import curve_handshake_bytes

_STRANGERS = 64
"""Connections without a key that may stand at once, however few guests there are."""
_PER_GUEST = 4
"""Connections of one guest: the newest, and those it has replaced (runtime/net/doorbook.py)."""
_SHOWN_A_KEY_BYTES = curve_handshake_bytes(is_server=True)
"""What we have sent over a connection whose handshake is complete, at least."""


def most_connections(num_guests: int) -> int:
    """The bound of a socket with so many listed keys: half of the open files at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PER_GUEST * num_guests + _STRANGERS
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, soft // 2), num_guests + _STRANGERS)


class Doorway:
    """The connections of one listening CURVE socket, by descriptor."""

    def __init__(self, endpoint: str, most: int) -> None:
        """Args:
        endpoint: where the socket listens, tcp://address:port.
        most: connections that may stand at once.
        """
        self.endpoint = endpoint
        self._port = endpoint.rpartition(":")[2]
        self._most = most
        self._open: dict[int, bool] = {}
        """Oldest first: whether it has shown a key, as far as we have looked."""
        self.cut = 0
        """Connections cut off so far."""

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, descriptor: int) -> None:
        """A connection has been accepted; cuts one off if that makes too many."""
        self._open.pop(descriptor, None)  # its number was used before
        self._open[descriptor] = False
        if len(self._open) > self._most:
            self._cut_one(descriptor)

    def closed(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def _cut_one(self, newest: int) -> None:
        for descriptor in [d for d, has_key in self._open.items() if not has_key]:
            connection = inspect(descriptor)
            if connection is None or connection.local.rpartition(":")[2] != self._port:
                self.closed(descriptor)  # gone, before anybody has told us
            elif connection.bytes_sent >= _SHOWN_A_KEY_BYTES:
                self._open[descriptor] = True
                continue
            else:
                self._cut(descriptor)
            return
        self._cut(newest)

    def _cut(self, descriptor: int) -> None:
        """End the connection and leave its descriptor to libzmq, which sees the end and closes."""
        self.closed(descriptor)
        self.cut += 1
        with contextlib.suppress(OSError):
            end = socket.socket(fileno=descriptor)
            try:
                end.shutdown(socket.SHUT_RDWR)
            finally:
                end.detach()
