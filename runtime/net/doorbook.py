"""Which connection of a ROUTER belongs to which name, where names are proved and not claimed."""

import logging

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS = 4
"""Connections of one name that are remembered: the newest, and those it has replaced."""
_MOST_LOGGED = 1000
"""Lines about further connections of a name; whoever has a key must not fill the disk with them."""


class Doorbook:
    """Which connection of a ROUTER belongs to which name, as the handshake has proved it.

    ZeroMQ numbers its connections upwards. Of several with the same key the newest speaks: after a
    network failure the old one may take long to die. A second process with the same key gets the
    name while it lasts, which is counted, and the first gets it back.
    """

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}
        self._connections: dict[bytes, list[bytes]] = {}
        """By name, oldest first."""
        self._others_logged = 0

    def connection_of(self, name: bytes) -> bytes | None:
        connections = self._connections.get(name)
        return connections[-1] if connections else None

    def newer_than(self, connection: bytes) -> bytes | None:
        newest = self._connections[self._names[connection]][-1]
        return None if newest == connection else newest

    def enter(self, connection: bytes, name: bytes) -> bool:
        """Take note of who speaks there now; whether that is news."""
        known = self._names.get(connection)
        if known == name:
            return False
        if known is not None:
            self.forget(connection)
        self._names[connection] = name
        connections = self._connections.setdefault(name, [])
        connections.append(connection)
        if len(connections) > 1:
            connections.sort(key=lambda other: _number(other, connection))
        others = [other for other in connections if other != connection]
        for gone in others[: 1 - _MOST_CONNECTIONS]:
            self.forget(gone)
        if others:
            self._log_another(name)
        return True

    def _log_another(self, name: bytes) -> None:
        self._others_logged += 1
        if self._others_logged <= _MOST_LOGGED:
            logger.info("%s has opened another connection", name.decode(errors="replace"))

    def forget(self, connection: bytes) -> None:
        self._connections[self._names.pop(connection)].remove(connection)


def _number(connection: bytes, reference: bytes) -> int:
    """How far a connection was opened after the reference (before: negative); 32 bits wrap."""
    distance = int.from_bytes(connection[1:], "big") - int.from_bytes(reference[1:], "big")
    return (distance + (1 << 31)) % (1 << 32) - (1 << 31)
