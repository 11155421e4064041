"""What the kernel has counted on this process's TCP connections.

    /proc/self/fd -> every connected TCP socket, whoever opened it -> getsockopt(TCP_INFO)

ZeroMQ hides its descriptors; its monitors would deliver them one event at a time, this asks for
all of them when somebody wants to know. A few system calls per socket, so once a second is nothing.
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass

# struct tcp_info of linux/tcp.h; the last field we read came with Linux 4.19.
_RTT_US = struct.Struct("=68xI")
_TOTAL_RETRANS = struct.Struct("=100xI")
_BYTES_ACKED_RECEIVED = struct.Struct("=120xQQ")
_MIN_RTT_US = struct.Struct("=148xI")
_BYTES_SENT_RETRANSMITTED = struct.Struct("=200xQQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class TcpConnection:
    """One connection as this end sees it; bytes are those of the stream, without TCP/IP headers."""

    local: str
    """`host:port`, as in a tcp:// endpoint."""
    peer: str
    bytes_sent: int
    """Each byte of the stream once, however often the kernel had to send it."""
    bytes_retransmitted: int
    """What it had to send again; under load even loopback does."""
    bytes_received: int
    rtt_us: int
    """Smoothed round-trip time."""
    min_rtt_us: int
    retransmits: int
    """Segments sent again since the connection was opened."""


def connections() -> list[TcpConnection]:
    """Every established TCP connection of this process, in the order of its descriptors.

    Raises:
        OSError: no descriptor is left to look with; nothing is known then, which is not the same as
            no connection.
    """
    found: list[TcpConnection] = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        connection = _look_at_duplicate(int(name))
        if connection is not None:
            found.append(connection)
    return found


def _look_at_duplicate(descriptor: int) -> TcpConnection | None:
    try:
        # ZeroMQ's own thread may close the descriptor at any time: look at a duplicate of it.
        duplicate = os.dup(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:  # closed since the folder was read
            return None
        raise
    try:
        return inspect(duplicate)
    finally:
        os.close(duplicate)


def inspect(descriptor: int) -> TcpConnection | None:
    """What the kernel says of one descriptor, which stays open and needs no other; None if it is
    no connected TCP socket.
    """
    try:
        end = socket.socket(fileno=descriptor)
    except OSError:  # not a socket
        return None
    try:
        if end.proto != socket.IPPROTO_TCP:
            return None
        local, peer = _address(end.getsockname()), _address(end.getpeername())
        info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    except OSError:  # listening, or closed by the peer in this moment
        return None
    finally:
        end.detach()
    _, bytes_received = _BYTES_ACKED_RECEIVED.unpack_from(info)
    all_sent, sent_again = _BYTES_SENT_RETRANSMITTED.unpack_from(info)
    return TcpConnection(
        local=local,
        peer=peer,
        bytes_sent=all_sent - sent_again,
        bytes_retransmitted=sent_again,
        bytes_received=bytes_received,
        rtt_us=_first(_RTT_US, info),
        min_rtt_us=_first(_MIN_RTT_US, info),
        retransmits=_first(_TOTAL_RETRANS, info),
    )


def _first(layout: struct.Struct, info: bytes) -> int:
    return layout.unpack_from(info)[0]


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
