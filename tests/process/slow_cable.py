"""A cable with a known delay between a host and the bridge, for tests.

    host ── port ─▶ reader ─▶ queue of (due time, frame) ─▶ writer ─▶ stub ── bridge
    host ── port ◀─ writer ◀─ queue ◀─ reader ◀──────────────────────── stub ── bridge

What `tests.process.delay_proxy` does to one connection, this does to every frame of a host,
whatever its address and port: programs keep their address book, handshakes and acknowledgements
take their time too, and the kernel's own round-trip times show it. Frames are taken and put back by
packet sockets, in order, at some tens of microseconds of processor each: for thousands of frames a
second, not for a hundred thousand.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 64 << 20
_LARGEST_FRAME = 1 << 16
_LOOK_UP_S = 0.1
"""How soon a thread sees that the cable is being taken away."""


class SlowCable:
    """Joins two interfaces of the network namespace that the caller is in.

    Attributes:
        delay_s: from the first interface to the second; may be set while running.
        delay_back_s: from the second to the first; may be set while running.
    """

    def __init__(self, first: str, second: str, delay_s: float, delay_back_s: float) -> None:
        self.delay_s = delay_s
        self.delay_back_s = delay_back_s
        self._over = threading.Event()
        self._ends = (_packet_socket(first), _packet_socket(second))
        self._threads = [
            *self._direction(self._ends[0], self._ends[1], lambda: self.delay_s),
            *self._direction(self._ends[1], self._ends[0], lambda: self.delay_back_s),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _direction(
        self, source: socket.socket, sink: socket.socket, delay: Callable[[], float]
    ) -> list[threading.Thread]:
        under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        return [
            threading.Thread(target=self._read, args=(source, under_way, delay), daemon=True),
            threading.Thread(target=self._write, args=(sink, under_way), daemon=True),
        ]

    def _read(
        self,
        source: socket.socket,
        under_way: "queue.SimpleQueue[tuple[float, bytes]]",
        delay: Callable[[], float],
    ) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):  # nothing for a while, or the link went down
                frame = source.recv(_LARGEST_FRAME)
                under_way.put((time.monotonic() + delay(), frame))

    def _write(
        self, sink: socket.socket, under_way: "queue.SimpleQueue[tuple[float, bytes]]"
    ) -> None:
        while not self._over.is_set():
            try:
                due_s, frame = under_way.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                continue
            while (left_s := due_s - time.monotonic()) > 0 and not self._over.wait(left_s):
                pass
            with contextlib.suppress(OSError):  # the link is down: frames are lost, as on a cable
                sink.send(frame)


def _packet_socket(interface: str) -> socket.socket:
    """Everything that arrives at an interface, and a way out of it.

    What a packet socket sends it does not receive itself, so no frame goes round in circles.
    """
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # receives nothing until it is bound
    end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    end.bind((interface, _ETH_P_ALL))
    end.settimeout(_LOOK_UP_S)
    return end
