import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq

from runtime.net.security import CurveClient, CurveServer, Gatekeeper, KeyPair
from tests.process import delay_proxy
from tests.process.delay_proxy import DelayProxy
from tests.process.namespaces import Hosts
from tests.process.runs import wait_for

pytestmark = pytest.mark.process

DELAY_S = 0.03
TOLERANCE = 1.1
TIMEOUT_MS = 20_000

Socket = zmq.Socket[bytes]
Stream = tuple[socket.socket, socket.socket]


class Pair:
    """A DEALER that reaches a ROUTER through a proxy."""

    def __init__(self, context: "zmq.Context[Socket]", *, secure: bool) -> None:
        self.router = context.socket(zmq.ROUTER)
        self.dealer = context.socket(zmq.DEALER)
        self._gatekeeper: Gatekeeper | None = None
        if secure:
            self._gatekeeper = Gatekeeper(context)
            server, client = KeyPair.generate(), KeyPair.generate()
            self._gatekeeper.admit("test", {"client": client.public})
            CurveServer(server, "test").apply(self.router)
            CurveClient(client, server.public).apply(self.dealer)
        port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.proxy = DelayProxy(("127.0.0.1", 0), ("127.0.0.1", port), delay_s=0.0)
        self.dealer.connect("tcp://{}:{}".format(*self.proxy.address))

    def round_trip(self, payload: bytes = b"x") -> tuple[float, float]:
        """Seconds until the payload was there, and until it was back."""
        start = time.monotonic()
        self.dealer.send(payload)
        assert self.router.poll(TIMEOUT_MS)
        sender, arrived = self.router.recv_multipart()
        there = time.monotonic()
        assert arrived == payload
        self.router.send_multipart([sender, payload])
        assert self.dealer.poll(TIMEOUT_MS)
        assert self.dealer.recv() == payload
        return there - start, time.monotonic() - there

    def close(self) -> None:
        self.dealer.close(0)
        self.router.close(0)
        self.proxy.close()
        if self._gatekeeper:
            self._gatekeeper.close()


@pytest.fixture(params=[False, True], ids=["clear", "curve"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with zmq.Context() as context:
        pair = Pair(context, secure=request.param)
        yield pair
        pair.close()


def quickest(measure: Callable[[], tuple[float, float]], count: int = 15) -> tuple[float, float]:
    """The least of each way: what the machine does besides can only add."""
    measured = [measure() for _ in range(count)]
    return min(there for there, _ in measured), min(back for _, back in measured)


def test_a_round_trip_takes_twice_the_delay(pair: Pair) -> None:
    pair.round_trip()
    pair.proxy.delay_s = pair.proxy.delay_back_s = DELAY_S
    pair.round_trip()
    there, back = quickest(pair.round_trip)
    assert 2 * DELAY_S <= there + back < 2 * DELAY_S * TOLERANCE


def test_each_direction_has_its_own_delay_and_both_change_while_running(pair: Pair) -> None:
    pair.round_trip()
    for delay_s, delay_back_s in ((0.02, 0.06), (0.05, 0.02)):
        pair.proxy.delay_s, pair.proxy.delay_back_s = delay_s, delay_back_s
        pair.round_trip()
        there, back = quickest(pair.round_trip, 8)
        assert delay_s <= there < delay_s * TOLERANCE
        assert delay_back_s <= back < delay_back_s * TOLERANCE
    pair.proxy.delay_s = pair.proxy.delay_back_s = 0.0
    assert sum(quickest(pair.round_trip)) < DELAY_S


def test_packets_under_way_together_wait_together_and_keep_their_order(pair: Pair) -> None:
    pair.round_trip()
    pair.proxy.delay_s = 0.3
    start = time.monotonic()
    for index in range(40):
        pair.dealer.send(index.to_bytes(2, "little") * 500)
        time.sleep(0.002)  # so that most are read one by one
    for index in range(40):
        assert pair.router.poll(TIMEOUT_MS)
        assert pair.router.recv_multipart()[1] == index.to_bytes(2, "little") * 500
    assert 0.3 <= time.monotonic() - start < 10 * 0.3  # one after the other would take 12 s


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20.0)
        yield listening


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[DelayProxy]:
    with DelayProxy(("127.0.0.1", 0), listener.getsockname(), delay_s=0.0) as running:
        yield running


@pytest.fixture
def stream(listener: socket.socket, proxy: DelayProxy) -> Iterator[Stream]:
    """A client of the proxy, and what arrived at the target."""
    with socket.create_connection(proxy.address, 20.0) as here, listener.accept()[0] as there:
        there.settimeout(20.0)
        yield here, there


def read_exactly(end: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        more = end.recv(size - len(octets))
        assert more, f"the stream ended after {len(octets)} octets"
        octets += more
    return octets


def test_a_shorter_delay_lets_nothing_overtake(proxy: DelayProxy, stream: Stream) -> None:
    here, there = stream
    sent = b""
    for index in range(60):
        proxy.delay_s = 0.05 * (index % 2)
        octets = index.to_bytes(2, "little") * 100
        here.sendall(octets)
        sent += octets
        time.sleep(0.002)  # so that most are read one by one, under their own delay
    assert read_exactly(there, len(sent)) == sent


def test_a_black_hole_holds_everything_until_it_is_healed(pair: Pair) -> None:
    pair.round_trip()
    pair.proxy.blackhole()
    for index in range(3):
        pair.dealer.send(bytes([index]))
    assert not pair.router.poll(300)
    pair.proxy.heal()
    for index in range(3):
        assert pair.router.poll(TIMEOUT_MS)
        assert pair.router.recv_multipart()[1] == bytes([index])
    assert pair.proxy.num_connections == 1


def test_who_connects_to_a_black_hole_gets_through_when_it_is_healed(
    listener: socket.socket, proxy: DelayProxy
) -> None:
    proxy.blackhole()
    with socket.create_connection(proxy.address, 20.0) as here, listener.accept()[0] as there:
        here.sendall(b"question")
        there.sendall(b"answer")
        for end in (here, there):
            end.settimeout(0.3)
            with pytest.raises(TimeoutError):
                end.recv(1)
            end.settimeout(20.0)
        proxy.heal()
        assert read_exactly(there, 8) == b"question"
        assert read_exactly(here, 6) == b"answer"


def test_zeromq_comes_back_after_a_cut(pair: Pair) -> None:
    pair.round_trip()
    pair.proxy.cut()
    pair.router.setsockopt(zmq.ROUTER_MANDATORY, 1)

    def comes_back() -> bool:
        pair.dealer.send(b"again")
        return bool(pair.router.poll(200))

    wait_for("a packet after the cut", comes_back, 20.0)
    assert pair.proxy.num_connections == 1


def test_much_at_once_passes_unharmed_in_both_directions(proxy: DelayProxy, stream: Stream) -> None:
    here, there = stream
    proxy.delay_s, proxy.delay_back_s = 0.05, 0.02
    forth, back = random_octets(1, 20_000_000), random_octets(2, 5_000_000)
    senders = [
        threading.Thread(target=here.sendall, args=(forth,)),
        threading.Thread(target=there.sendall, args=(back,)),
    ]
    for sender in senders:
        sender.start()
    assert read_exactly(there, len(forth)) == forth
    assert read_exactly(here, len(back)) == back
    for sender in senders:
        sender.join()


def test_a_full_window_holds_the_sender_back_and_loses_nothing(
    proxy: DelayProxy, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delay_proxy, "_MOST_CHUNKS", 4)
    octets = random_octets(3, 20_000_000)
    proxy.blackhole()
    with socket.create_connection(proxy.address, 20.0) as here, listener.accept()[0] as there:
        there.settimeout(20.0)
        sender = threading.Thread(target=here.sendall, args=(octets,))
        sender.start()
        sender.join(0.5)
        assert sender.is_alive()
        proxy.heal()
        assert read_exactly(there, len(octets)) == octets
        sender.join()


def random_octets(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def test_the_end_of_one_direction_leaves_the_other_open(stream: Stream, proxy: DelayProxy) -> None:
    here, there = stream
    proxy.delay_s = 0.05
    here.sendall(b"question")
    here.shutdown(socket.SHUT_WR)
    assert read_exactly(there, 8) == b"question"
    assert there.recv(1) == b""
    there.sendall(b"answer")
    assert read_exactly(here, 6) == b"answer"
    there.close()
    assert here.recv(1) == b""
    wait_for("the connection to be over", lambda: proxy.num_connections == 0, 10.0)


def test_a_target_that_does_not_listen_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()
    with (
        DelayProxy(("127.0.0.1", 0), nobody, delay_s=0.0) as proxy,
        socket.create_connection(proxy.address, 20.0) as here,
    ):
        assert here.recv(1) == b""


def test_closing_leaves_no_thread_even_when_the_receiver_has_stopped_reading(
    listener: socket.socket,
) -> None:
    before = threading.active_count()
    proxy = DelayProxy(("127.0.0.1", 0), listener.getsockname(), delay_s=0.0)
    with socket.create_connection(proxy.address, 20.0) as here, listener.accept()[0]:
        here.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                here.send(bytes(1 << 20))
        proxy.delay_back_s = 1000.0
        proxy.close()
    assert threading.active_count() == before


def test_as_a_program_between_two_hosts_it_obeys_its_stdin() -> None:
    with Hosts.create("a", "b", "delay") as hosts:
        a, b, middle = hosts
        with b.inside():
            listening = socket.create_server((b.address, 7000))
        child = middle.popen(
            [
                *(middle.python, "-m", "tests.process.delay_proxy"),
                *("--listen", f"{middle.address}:7000", "--to", f"{b.address}:7000"),
                *("--delay-ms", "30", "--delay-back-ms", "20"),
            ],
            talk=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == f"listening on {middle.address}:7000\n"
        with a.inside():
            here = socket.create_connection((middle.address, 7000), 20.0)
        with listening, here, listening.accept()[0] as there:
            there.settimeout(20.0)

            def round_trip() -> tuple[float, float]:
                start = time.monotonic()
                here.sendall(b"?")
                there.recv(1)
                middle = time.monotonic()
                there.sendall(b"!")
                here.recv(1)
                return middle - start, time.monotonic() - middle

            out, back = quickest(round_trip)
            assert 0.03 <= out < 0.03 * TOLERANCE
            assert 0.02 <= back < 0.02 * TOLERANCE
            for line, answer in (("delay 0 40", "ok"), ("nonsense", "what?"), ("delay x", "what?")):
                print(line, file=child.stdin, flush=True)
                assert child.stdout.readline() == f"{answer}\n"
            out, back = quickest(round_trip)
            assert out < 0.03
            assert 0.04 <= back < 0.04 * TOLERANCE
        child.stdin.close()  # it goes on
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
