import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import zmq

from runtime.host.process_memory import pss_mb
from runtime.net.tcp_info import TcpConnection, connections
from runtime.net.traffic import frame_zmtp_bytes, handshake_zmtp_bytes

TIMEOUT_MS = 10_000
SIZES = (0, 1, 255, 256, 70_000)

Socket = zmq.Socket[bytes]


class Edge(NamedTuple):
    """A DEALER connected to a ROUTER, and the host:port that the ROUTER listens on."""

    dealer: Socket
    router: Socket
    address: str


Connect = Callable[[bytes], Edge]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect a DEALER of the given routing id to a ROUTER."""
    context: zmq.Context[Socket] = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)

    def with_routing_id(routing_id: bytes) -> Edge:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        if routing_id:
            dealer.setsockopt(zmq.ROUTING_ID, routing_id)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        return Edge(dealer, router, f"127.0.0.1:{port}")

    yield with_routing_id
    dealer.close(linger=0)
    router.close(linger=0)
    context.term()


def receive(end: Socket) -> list[bytes]:
    assert end.poll(TIMEOUT_MS), "nothing arrived in 10 s"
    return end.recv_multipart()


def ends(address: str) -> tuple[TcpConnection, TcpConnection]:
    """The connection to this address as the connecting and as the accepting end see it."""
    found = connections()
    (connecting,) = (end for end in found if end.peer == address)
    (accepting,) = (end for end in found if end.local == address)
    return connecting, accepting


@pytest.mark.parametrize("routing_id", [b"", b"a\x01\x00", b"r" * 214, b"r" * 215, b"r" * 255])
def test_handshake_is_what_the_formula_says(connect: Connect, routing_id: bytes) -> None:
    dealer, router, address = connect(routing_id)
    dealer.send(b"")
    peer, _ = receive(router)
    router.send_multipart([peer, b""])
    receive(dealer)
    connecting, accepting = ends(address)
    assert connecting.bytes_sent == handshake_zmtp_bytes(len(routing_id)) + frame_zmtp_bytes(0)
    assert accepting.bytes_sent == handshake_zmtp_bytes(0) + frame_zmtp_bytes(0)


@pytest.mark.parametrize("size", SIZES)
def test_kernel_and_formula_agree_to_the_byte(connect: Connect, size: int) -> None:
    dealer, router, address = connect(b"a\x07\x00")
    count = 5
    for _ in range(count):
        dealer.send(bytes(size))
        peer, there = receive(router)
        router.send_multipart([peer, bytes(size)])
        (back,) = receive(dealer)
        assert len(there) == len(back) == size
    connecting, accepting = ends(address)
    frames = count * frame_zmtp_bytes(size)
    assert connecting.bytes_sent == handshake_zmtp_bytes(3) + frames
    assert accepting.bytes_sent == handshake_zmtp_bytes(0) + frames
    assert connecting.bytes_received == accepting.bytes_sent
    assert accepting.bytes_received == connecting.bytes_sent


def test_frames_that_leave_together_cost_the_same(connect: Connect) -> None:
    dealer, router, address = connect(b"a\x07\x00")
    for size in SIZES:
        dealer.send(bytes(size))
    assert [len(receive(router)[1]) for _ in SIZES] == list(SIZES)
    connecting, _ = ends(address)
    frames = sum(frame_zmtp_bytes(size) for size in SIZES)
    assert connecting.bytes_sent == handshake_zmtp_bytes(3) + frames


def test_round_trip_times_are_known_and_consistent(connect: Connect) -> None:
    dealer, router, address = connect(b"")
    dealer.send(b"x")
    receive(router)
    connecting, _ = ends(address)
    assert 0 < connecting.min_rtt_us <= connecting.rtt_us < 10_000_000
    assert connecting.retransmits == 0


def test_other_descriptors_are_passed_over() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pair = socket.socketpair()
    with listening, datagram, pair[0], pair[1]:
        assert connections() == []


def test_looking_leaves_no_descriptor_behind(connect: Connect) -> None:
    dealer, router, _ = connect(b"")
    dealer.send(b"x")
    receive(router)
    before = os.listdir("/proc/self/fd")
    connections()
    assert os.listdir("/proc/self/fd") == before


def test_memory_of_a_living_process_is_positive() -> None:
    size_mb = pss_mb(os.getpid())
    assert size_mb is not None
    assert 1.0 < size_mb < 10_000.0


def test_memory_of_a_process_that_has_gone_is_unknown() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=20)
    assert pss_mb(process.pid) is None
