"""What CURVE adds to the octets of a connection, by formula and by the kernel."""

from collections.abc import Iterator

import pytest
import zmq

from runtime.net.security import CurveClient, CurveServer, Gatekeeper, KeyPair
from runtime.net.tcp_info import TcpConnection, connections
from runtime.net.traffic import curve_handshake_bytes, frame_zmtp_bytes

pytestmark = pytest.mark.process

TIMEOUT_MS = 10_000
LONG_NAME = "agent-" + "7" * 100

Socket = zmq.Socket[bytes]


class SecureEdge:
    """A DEALER without a routing id at a ROUTER, both with keys, behind a gatekeeper."""

    def __init__(self, context: "zmq.Context[Socket]", name: str) -> None:
        self._gatekeeper = Gatekeeper(context)
        server, client = KeyPair.generate(), KeyPair.generate()
        self._gatekeeper.admit("edges", {name: client.public})
        self.router = context.socket(zmq.ROUTER)
        CurveServer(server, "edges").apply(self.router)
        self._port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.dealer = context.socket(zmq.DEALER)
        CurveClient(client, server.public).apply(self.dealer)

    def connect(self) -> None:
        self.dealer.connect(f"tcp://127.0.0.1:{self._port}")

    def echo(self, payload: bytes) -> None:
        self.dealer.send(payload)
        assert self.router.poll(TIMEOUT_MS)
        sender, arrived = self.router.recv_multipart()
        self.router.send_multipart([sender, arrived])
        assert self.dealer.poll(TIMEOUT_MS)
        assert self.dealer.recv() == payload

    def ends(self) -> tuple[TcpConnection, TcpConnection]:
        """The connecting and the accepting end; every octet that was sent has arrived."""
        found = connections()
        (connecting,) = (end for end in found if end.peer == f"127.0.0.1:{self._port}")
        (accepting,) = (end for end in found if end.local == f"127.0.0.1:{self._port}")
        assert connecting.bytes_sent == accepting.bytes_received
        assert accepting.bytes_sent == connecting.bytes_received
        return connecting, accepting

    def close(self) -> None:
        self.dealer.close(0)
        self.router.close(0)
        self._gatekeeper.close()


@pytest.fixture(params=["a", LONG_NAME], ids=["short name", "long name"])
def edge(request: pytest.FixtureRequest) -> Iterator[SecureEdge]:
    with zmq.Context() as context:
        edge = SecureEdge(context, request.param)
        yield edge
        edge.close()


@pytest.mark.parametrize("size", [0, 1, 222, 223, 255, 256, 70_000])
def test_kernel_and_formula_agree_to_the_octet(edge: SecureEdge, size: int) -> None:
    edge.connect()
    count = 3
    for _ in range(count):
        edge.echo(bytes(size))
    connecting, accepting = edge.ends()
    frames = count * frame_zmtp_bytes(size, curve=True)
    assert connecting.bytes_sent == curve_handshake_bytes(is_server=False) + frames
    assert accepting.bytes_sent == curve_handshake_bytes(is_server=True) + frames


@pytest.mark.parametrize(
    ("payload", "on_the_wire"), [(0, 35), (222, 257), (223, 265), (10_000, 10_042)]
)
def test_a_frame_grows_by_35_octets_or_42(payload: int, on_the_wire: int) -> None:
    assert frame_zmtp_bytes(payload, curve=True) == on_the_wire


def test_a_handshake_is_567_octets_there_and_301_back() -> None:
    assert curve_handshake_bytes(is_server=False) == 567
    assert curve_handshake_bytes(is_server=True) == 301


def test_the_probe_that_announces_a_channel_is_one_empty_frame(edge: SecureEdge) -> None:
    edge.dealer.setsockopt(zmq.PROBE_ROUTER, 1)
    edge.connect()
    assert edge.router.poll(TIMEOUT_MS)
    assert edge.router.recv_multipart()[1:] == [b""]
    connecting, accepting = edge.ends()
    empty = frame_zmtp_bytes(0, curve=True)
    assert connecting.bytes_sent == curve_handshake_bytes(is_server=False) + empty
    assert accepting.bytes_sent == curve_handshake_bytes(is_server=True)
