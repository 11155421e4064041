"""A known delay on a tcp connection, for tests: what netem does where the kernel has it.

    client ──▶ listening address ─▶ reader ─▶ queue of (due time, octets) ─▶ writer ─▶ target
    client ◀── writer ◀── queue ◀── reader ◀────────────────────────────────────────── target

All octets wait their direction's delay, counted from the moment they were read, and keep their
order; there is no limit to how many are under way, other than 1024 chunks, which stands for a
window. A delay may change at any time and holds for what is read from then on. Each direction has a
reader and a writer thread, because event loops round their timers to milliseconds; the threads add
some tens of microseconds on an idle machine. The opening of a connection is not delayed.

As a program, in a host of its own (commands come on stdin, each is answered with "ok"):

    python -m tests.process.delay_proxy --listen 10.77.0.3:7000 --to 10.77.0.1:7000 --delay-ms 20
    delay 20 40 | blackhole | heal | cut
"""

import argparse
import contextlib
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

_CHUNK_BYTES = 1 << 16
_MOST_CHUNKS = 1024
_CONNECT_TIMEOUT_S = 10.0
_LOOK_UP_S = 0.1
"""How soon a thread that waits for something else sees that its connection is over."""

Address = tuple[str, int]


class DelayProxy:
    """Connects to the target for everybody who connects to it, and delays what passes.

    Attributes:
        delay_s: one-way delay from client to target; may be set while running.
        delay_back_s: one-way delay from target to client; may be set while running.
        address: where it listens, with the real port.
    """

    def __init__(
        self, listen: Address, to: Address, *, delay_s: float, delay_back_s: float | None = None
    ) -> None:
        """Begin to listen; port 0 takes any free one. One delay alone holds for both ways."""
        self.delay_s = delay_s
        self.delay_back_s = delay_s if delay_back_s is None else delay_back_s
        self._to = to
        self._passing = threading.Event()
        self._passing.set()
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(listen, backlog=1024)
        self.address: Address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._accept, name="delay proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> "DelayProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_connections(self) -> int:
        with self._lock:
            return sum(connection.is_open for connection in self._connections)

    def blackhole(self) -> None:
        """Let nothing pass, either way.

        What arrives meanwhile is held and not lost: in a real partition the sender's tcp would keep
        it and send it again. New connections are accepted, and silent too.
        """
        self._passing.clear()

    def heal(self) -> None:
        """Let everything pass again; what was held and is due leaves at once and in order."""
        self._passing.set()

    def cut(self) -> None:
        """Close all connections, what is under way on them is lost; new ones are welcome."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.end()

    def close(self) -> None:
        """Stop listening and cut; no thread is left."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the proxy closes
                return
            connection = _Connection(
                client,
                self._to,
                passing=self._passing,
                delay=lambda: self.delay_s,
                delay_back=lambda: self.delay_back_s,
            )
            with self._lock:
                self._connections = [c for c in self._connections if c.is_open]
                self._connections.append(connection)
            connection.start()


class _Connection:
    """One connection through the proxy: two sockets, four threads, two queues."""

    def __init__(
        self,
        client: socket.socket,
        to: Address,
        *,
        passing: threading.Event,
        delay: Callable[[], float],
        delay_back: Callable[[], float],
    ) -> None:
        self._client = client
        self._to = to
        self._passing = passing
        self._delay = delay
        self._delay_back = delay_back
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delay connection", daemon=True)

    @property
    def is_open(self) -> bool:
        return not self._over.is_set()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        _shut_down(self._client)
        self._thread.join()

    def _run(self) -> None:
        with self._client:
            try:
                target = socket.create_connection(self._to, _CONNECT_TIMEOUT_S)
            except OSError:  # nobody listens there: the client is told by the close
                self._over.set()
                return
            with target:
                target.settimeout(None)
                self._pass(target)

    def _pass(self, target: socket.socket) -> None:
        """Run both directions until both streams have ended, or until one fails."""
        for end in (self._client, target):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = _Direction(self._client, target, self._delay, self._passing, self._over)
        back = _Direction(target, self._client, self._delay_back, self._passing, self._over)
        works = (there.read, there.write, back.read, back.write)
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        while not self._over.is_set() and not (there.is_finished and back.is_finished):
            self._over.wait(_LOOK_UP_S)
        self._over.set()
        for end in (self._client, target):
            _shut_down(end)  # wakes whoever reads or writes
        for thread in threads:
            thread.join()


class _Direction:
    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        delay: Callable[[], float],
        passing: threading.Event,
        over: threading.Event,
    ) -> None:
        self._source = source
        self._sink = sink
        self._delay = delay
        self._passing = passing
        self._over = over
        self._under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_MOST_CHUNKS)
        self.is_finished = False
        """Whether the end of the stream has been passed on."""

    def read(self) -> None:
        octets = b"?"
        while octets and not self._over.is_set():
            try:
                octets = self._source.recv(_CHUNK_BYTES)
            except OSError:
                self._over.set()
                return
            chunk = (time.monotonic() + self._delay(), octets)
            while not self._over.is_set():
                with contextlib.suppress(queue.Full):
                    self._under_way.put(chunk, timeout=_LOOK_UP_S)
                    break

    def write(self) -> None:
        while not self._over.is_set():
            try:
                due_s, octets = self._under_way.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                continue
            if not self._wait_until(due_s):
                return
            try:
                if not octets:
                    self._sink.shutdown(socket.SHUT_WR)
                    self.is_finished = True
                    return
                self._sink.sendall(octets)
            except OSError:
                self._over.set()

    def _wait_until(self, due_s: float) -> bool:
        """False if the connection is over before."""
        while not self._over.is_set() and (left_s := due_s - time.monotonic()) > 0:
            self._over.wait(left_s)
        while not self._over.is_set() and not self._passing.wait(_LOOK_UP_S):
            pass
        return not self._over.is_set()


def _shut_down(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed, or the other side has gone
        end.shutdown(socket.SHUT_RDWR)


def _obey(proxy: DelayProxy, line: str) -> str:
    match line.split():
        case ["delay", there_ms, back_ms]:
            proxy.delay_s, proxy.delay_back_s = float(there_ms) / 1e3, float(back_ms) / 1e3
        case ["blackhole"]:
            proxy.blackhole()
        case ["heal"]:
            proxy.heal()
        case ["cut"]:
            proxy.cut()
        case _:
            return "what?"
    return "ok"


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description="a known delay on a tcp connection")
    parser.add_argument("--listen", type=_address, required=True, help="HOST:PORT")
    parser.add_argument("--to", type=_address, required=True, help="HOST:PORT")
    parser.add_argument("--delay-ms", type=float, required=True, help="client to target")
    parser.add_argument("--delay-back-ms", type=float, help="target to client (default: the same)")
    options = parser.parse_args()
    back_ms = options.delay_ms if options.delay_back_ms is None else options.delay_back_ms
    with DelayProxy(
        options.listen, options.to, delay_s=options.delay_ms / 1e3, delay_back_s=back_ms / 1e3
    ) as proxy:
        print("listening on {}:{}".format(*proxy.address), flush=True)
        for line in sys.stdin:
            print(_obey(proxy, line), flush=True)
        signal.pause()  # nobody will say anything any more; serve until killed


if __name__ == "__main__":
    main()
