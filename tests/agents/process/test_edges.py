"""The edges of two agents, each the other's neighbour, over real sockets."""

import dataclasses
import errno
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import zmq
from numpy.testing import assert_array_equal

from agents.events import SendBeacon, SendMessage
from agents.parameters import ParameterStore
from agents.process.edges import Edges
from agents.process.setup import ShellSetup
from runtime.net import latency, wire
from runtime.net.moves import Move, renewed
from runtime.net.security import KeyPair, Keyring
from runtime.net.tcp_info import TcpConnection
from runtime.net.traffic import Traffic, curve_handshake_bytes
from tests.agents_helpers import make_flat, make_rules
from tests.process.runs import wait_for

RULES = make_rules(num_agents=2)
ONE_COPY = np.array([1], dtype=np.uint8)
MESSAGE = SendMessage((0,), 5, ONE_COPY, np.zeros((1, 7), dtype=np.float16))
BEACON = SendBeacon(5, ONE_COPY, np.zeros((1, 6), dtype=np.int8))
TWO_HOSTS: dict[str, object] = {"num_hosts": 2, "host_of": (0, 1)}


def setup_of(identity: int, folder: Path, **changes: object) -> ShellSetup:
    setup = ShellSetup(
        identity=identity,
        incarnation=0,
        seed=0,
        rules=RULES,
        parameters=ParameterStore(make_flat(), 1),
        node_endpoint="",
        inbox_endpoint="tcp://127.0.0.1:*",
        is_tcp=True,
        nice=0,
        logs=folder,
    )
    return dataclasses.replace(setup, **changes)  # type: ignore[arg-type]  # fields by name


class End:
    """One agent's edges in a context of their own, as in a process of its own."""

    def __init__(self, setup: ShellSetup, kind: type[Edges] = Edges) -> None:
        self.traffic = Traffic()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.edges = kind(self.context, setup, self.traffic)

    def turn(self) -> tuple[list[wire.Message], list[wire.Beacon]]:
        """Greet, answer, and take what there is."""
        self.edges.greet(time.monotonic())
        messages = list(self.edges.take_messages())
        beacons = list(self.edges.drain_beacons(0)) if self.edges.out_sockets else []
        return messages, beacons

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.edges.close()
        self.context.term()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def keyrings() -> list[Keyring]:
    keys = {f"agent-{agent}": KeyPair.generate() for agent in range(2)}
    public = {name: pair.public for name, pair in keys.items()}
    return [Keyring(name, pair, public) for name, pair in keys.items()]


def keyrings_for(curve: bool) -> list[dict[str, object]]:
    return [{"keyring": ring if curve else None} for ring in keyrings()]


def pair_of_ends(stack: ExitStack, folder: Path, *changes: dict[str, object]) -> tuple[End, End]:
    """Connected, greeted and welcomed both ways."""
    options = changes or ({}, {})
    ends = [stack.enter_context(End(setup_of(a, folder, **options[a]))) for a in range(2)]
    for end, other in (ends, ends[::-1]):
        end.edges.connect((other.edges.endpoint,))

    def all_open() -> bool:
        for end in ends:
            end.turn()
        return all(not end.edges.unwelcomed and end.edges.all_in_neighbours_greeted for end in ends)

    wait_for("the edges to open", all_open, 20.0)
    return ends[0], ends[1]


def received(end: End) -> tuple[wire.Message, wire.Beacon]:
    """The next message and the next beacon."""
    messages: list[wire.Message] = []
    beacons: list[wire.Beacon] = []

    def both() -> bool:
        new_messages, new_beacons = end.turn()
        messages.extend(new_messages)
        beacons.extend(new_beacons)
        return bool(messages and beacons)

    wait_for("a message and a beacon", both, 10.0)
    (message,), (beacon,) = messages, beacons
    return message, beacon


@pytest.mark.parametrize("curve", [False, True], ids=["clear", "curve"])
def test_messages_go_out_and_beacons_come_back_on_the_same_connection(
    curve: bool, stack: ExitStack, tmp_path: Path
) -> None:
    ours, theirs = pair_of_ends(stack, tmp_path, *keyrings_for(curve))
    ours.edges.send_message(MESSAGE)
    ours.edges.send_beacon(BEACON)
    message, beacon = received(theirs)
    assert (message.sender, message.tick, beacon.sender, beacon.tick) == (0, 5, 0, 5)
    assert ours.edges.counts()[0, 0] == 1
    assert theirs.edges.counts()[0, 2] == 1
    assert theirs.edges.latency().sum() == 1
    for end in (ours, theirs):
        assert end.traffic.dropped_total == 0


@pytest.mark.parametrize("curve", [False, True], ids=["clear", "curve"])
def test_an_edge_follows_a_neighbour_that_is_placed_elsewhere(
    curve: bool, stack: ExitStack, tmp_path: Path
) -> None:
    rings = keyrings_for(curve)
    ours, theirs = pair_of_ends(stack, tmp_path, *rings)
    anew = setup_of(1, tmp_path, incarnation=1, **rings[1])
    elsewhere = stack.enter_context(End(anew))
    elsewhere.edges.connect((ours.edges.endpoint,))
    ours.edges.move((elsewhere.edges.endpoint,))

    def open_again() -> bool:
        ours.turn()
        arrived, _ = elsewhere.turn()  # what the turn before has sent, which may take a while
        ours.edges.send_message(MESSAGE)
        return bool(arrived)

    wait_for("a message where it lives now", open_again, 20.0)
    messages, _ = theirs.turn()
    assert messages == [], "nobody talks to where it was"


@pytest.mark.parametrize("curve", [False, True], ids=["clear", "curve"])
def test_bytes_counted_on_edges_are_those_of_the_kernel(
    curve: bool, stack: ExitStack, tmp_path: Path
) -> None:
    ours, theirs = pair_of_ends(stack, tmp_path, *keyrings_for(curve))
    arrived, wanted = 0, 0

    def all_here() -> bool:
        nonlocal arrived
        arrived += sum(map(len, theirs.turn()))
        return arrived == wanted

    for sent in range(2, 42, 2):
        ours.edges.send_message(MESSAGE)
        ours.edges.send_beacon(BEACON)
        # On a busy machine the queue may look full to the sender, which drops and counts it.
        wanted = sent - ours.traffic.dropped_total
        wait_for("messages and beacons", all_here, 10.0)
    assert arrived > 20
    names = ("sent_zmtp_message", "sent_zmtp_beacon", "edge_handshake_zmtp")
    by_us, by_them = (sum(end.traffic[name] for name in names) for end in (ours, theirs))

    def kernel() -> tuple[int, int]:
        ours.edges.update_counters()
        return ours.traffic["edge_tcp_sent"], ours.traffic["edge_tcp_received"]

    wait_for("the kernel to have sent it all", lambda: kernel() == (by_us, by_them), 10.0)


def test_a_stranger_is_refused_by_its_key_and_counted(stack: ExitStack, tmp_path: Path) -> None:
    ring, other_ring = keyrings()[0], keyrings()[1]
    knows_us = dataclasses.replace(other_ring, public=ring.public)
    ours = stack.enter_context(End(setup_of(0, tmp_path, keyring=ring)))
    stranger = stack.enter_context(End(setup_of(1, tmp_path, keyring=knows_us)))
    stranger.edges.connect((ours.edges.endpoint,))

    def refused() -> int:
        stranger.turn()
        ours.turn()
        ours.edges.update_counters()
        return ours.traffic["refused"]

    wait_for("a refusal", refused, 10.0)
    assert stranger.edges.unwelcomed == [0]


def test_a_neighbour_cannot_speak_for_another(stack: ExitStack, tmp_path: Path) -> None:
    ours, theirs = pair_of_ends(stack, tmp_path)
    false = wire.encode(wire.Message(9, 5, 0, ONE_COPY, MESSAGE.rows))
    theirs.edges.out_sockets[0].send(false)
    wait_for("it to be dropped", lambda: (ours.turn(), ours.traffic["dropped_unknown_sender"])[1])
    assert ours.edges.latency().sum() == 0


# --- neighbours that move -------------------------------------------------------------------------


def test_a_neighbour_that_has_moved_is_reached_there_by_its_new_key_and_heard_by_it(
    stack: ExitStack, tmp_path: Path
) -> None:
    rings = [dataclasses.replace(ring, is_renewed=True) for ring in keyrings()]
    changes: list[dict[str, object]] = [{"keyring": ring, **TWO_HOSTS} for ring in rings]
    ours, gone = pair_of_ends(stack, tmp_path, *changes)
    pair = KeyPair.generate()
    moves = [Move(1, 0, 1, pair.public)]
    ring = Keyring("agent-1", pair, renewed(rings[1].public, moves), is_renewed=True)
    moved = stack.enter_context(End(setup_of(1, tmp_path, keyring=ring, incarnation=1)))
    # It is earlier than word of its new key, and gets in all the same once that has come.
    moved.edges.connect((ours.edges.endpoint,))
    refused = ours.traffic["refused"]

    def is_refused() -> bool:
        ours.turn()
        moved.turn()
        ours.edges.update_counters()
        return ours.traffic["refused"] > refused

    wait_for("the new key to be refused", is_refused, 10.0)
    handshakes = ours.traffic["edge_handshake_zmtp"]
    ours.edges.learn(moves)
    ours.edges.move((moved.edges.endpoint,))
    ours.edges.move((moved.edges.endpoint,))
    own = curve_handshake_bytes(is_server=False)
    assert ours.traffic["edge_handshake_zmtp"] - handshakes < 2 * own, "once is enough"

    def are_open() -> bool:
        for end in (ours, moved, gone):
            end.turn()
        return not moved.edges.unwelcomed and bool(ours.edges.out_sockets[0].poll(0, zmq.POLLOUT))

    wait_for("both edges to open", are_open, 20.0)
    ours.edges.send_message(MESSAGE)
    ours.edges.send_beacon(BEACON)
    message, beacon = received(moved)
    assert (message.sender, beacon.sender) == (0, 0)
    moved.edges.send_message(MESSAGE)
    wait_for("a message from its new place", lambda: ours.turn()[0], 10.0)
    assert [bins.sum() for bins in ours.edges.latency()] == [1, 0], "it is on our host now"


# --- clocks of other hosts ------------------------------------------------------------------------


def latencies_ms(end: End) -> list[list[float]]:
    """By host, the upper bounds of the bins in which something was counted."""
    return [
        [latency.upper_bound_ns(i) / 1e6 for i, n in enumerate(row) if n]
        for row in end.edges.latency().tolist()
    ]


def send_stamped(sender: End, receiver: End, send_ns: int) -> None:
    packet = wire.Message(1, 5, send_ns, ONE_COPY, MESSAGE.rows)
    sender.edges.out_sockets[0].send(wire.encode(packet))
    wait_for("the message", lambda: receiver.turn()[0], 10.0)


def test_latency_counts_under_the_senders_host_by_the_offset_of_its_clock(
    stack: ExitStack, tmp_path: Path
) -> None:
    ours, theirs = pair_of_ends(stack, tmp_path, TWO_HOSTS, TWO_HOSTS)
    behind_ns = 30 * 10**9  # a machine may have been up for less than an hour
    send_stamped(theirs, ours, time.monotonic_ns() - behind_ns)
    assert latencies_ms(ours) == [[], []], "of a clock that nobody has compared nothing is known"
    assert ours.edges.counts()[0].tolist() == [0, 0, 1, 0]
    ours.edges.set_clock_offsets(np.array([0, behind_ns], dtype=np.int64))
    send_stamped(theirs, ours, time.monotonic_ns() - behind_ns)
    own, other = latencies_ms(ours)
    assert own == []
    assert other[0] < 1000.0


def test_offsets_of_another_number_of_hosts_are_refused(stack: ExitStack, tmp_path: Path) -> None:
    end = stack.enter_context(End(setup_of(0, tmp_path)))
    end.edges.set_clock_offsets(np.zeros(3, dtype=np.int64))
    assert end.traffic["dropped_shape"] == 1


# --- coming and going -----------------------------------------------------------------------------


def test_an_edge_is_greeted_again_until_it_is_answered(stack: ExitStack, tmp_path: Path) -> None:
    ours = stack.enter_context(End(setup_of(0, tmp_path)))
    theirs = stack.enter_context(End(setup_of(1, tmp_path)))
    ours.edges.connect((theirs.edges.endpoint,))
    before = ours.traffic["edge_handshake_zmtp"]

    def has_left() -> bool:
        ours.edges.greet(time.monotonic())
        return ours.traffic["edge_handshake_zmtp"] > before

    wait_for("a greeting to leave", has_left, 10.0)
    sent, now_s = ours.traffic["edge_handshake_zmtp"], time.monotonic()
    again_after_s = ours.edges.greet(now_s)
    ours.edges.greet(now_s + 0.5 * again_after_s)
    assert ours.traffic["edge_handshake_zmtp"] == sent, "not so soon"
    ours.edges.greet(now_s + again_after_s + 0.1)
    assert ours.traffic["edge_handshake_zmtp"] > sent
    assert ours.edges.unwelcomed == [1]
    wait_for(
        "both to be answered", lambda: (theirs.turn(), ours.turn(), not ours.edges.unwelcomed)[2]
    )
    assert ours.edges.greet(now_s + 10.0) == float("inf")


def test_a_handshake_is_counted_once_for_each_life_of_a_neighbour(
    stack: ExitStack, tmp_path: Path
) -> None:
    ours, theirs = pair_of_ends(stack, tmp_path)
    welcome_bytes = 2 + len(wire.encode(wire.EdgeWelcome(0, 0)))

    def grown_by(incarnation: int) -> int:
        before = ours.traffic["edge_handshake_zmtp"]
        theirs.edges.out_sockets[0].send(wire.encode(wire.EdgeHello(1, incarnation)))
        after = wait_for(
            "an answer",
            lambda: (ours.turn(), ours.traffic["edge_handshake_zmtp"] - before)[1],
        )
        return after

    assert grown_by(0) == welcome_bytes
    assert grown_by(1) == welcome_bytes + 107


def connection(peer: str, sent: int, received: int) -> TcpConnection:
    return TcpConnection(
        local="a",
        peer=peer,
        bytes_sent=sent,
        bytes_received=received,
        bytes_retransmitted=0,
        rtt_us=0,
        min_rtt_us=0,
        retransmits=0,
    )


def test_closed_connections_keep_their_last_reading(stack: ExitStack, tmp_path: Path) -> None:
    end = stack.enter_context(End(setup_of(0, tmp_path)))

    def counted(*found: TcpConnection) -> tuple[int, int]:
        end.edges.count_tcp(found)
        return end.traffic["edge_tcp_sent"], end.traffic["edge_tcp_received"]

    assert counted(connection("b", 10, 1), connection("c", 100, 2)) == (110, 3)
    assert counted(connection("b", 20, 1)) == (120, 3)
    assert counted(connection("b", 5, 0)) == (125, 3), "another one between the same ports"
    assert counted(connection("b", 6, 3)) == (126, 6)
    assert counted(connection("b", 7, 2)) == (133, 8), "and another"
    assert counted() == (133, 8)
    for port in range(100):
        counted(connection(str(port), 1, 1))
    assert counted() == (233, 108)


def test_before_the_address_book_nobody_can_be_reached(stack: ExitStack, tmp_path: Path) -> None:
    end = stack.enter_context(End(setup_of(0, tmp_path)))
    end.edges.send_message(MESSAGE)
    assert end.traffic["dropped_unreachable"] == 1
    assert_array_equal(end.edges.counts(), 0)
    assert end.edges.greet(0.0) == float("inf")


def test_a_reading_that_fails_is_counted_and_the_last_one_stands(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = pair_of_ends(stack, tmp_path)
    ours.edges.update_counters()
    before = ours.traffic["edge_tcp_sent"]
    assert before > 0
    with monkeypatch.context() as broken:

        def no_descriptor_left() -> list[TcpConnection]:
            raise OSError(errno.EMFILE, "Too many open files")

        broken.setattr("agents.process.edges.connections", no_descriptor_left)
        ours.edges.update_counters()
        ours.edges.update_counters()
    assert (ours.traffic["edge_tcp_sent"], ours.traffic["readings_failed"]) == (before, 2)
    ours.edges.update_counters()
    assert ours.traffic["edge_tcp_sent"] == before, "the connections were never gone"
