"""Edges that are opened when something is sent over them, over real sockets."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from agents.events import SendMessage
from agents.process.edges_on_demand import EdgesOnDemand
from runtime.net import wire
from runtime.net.security import KeyPair, Keyring
from runtime.net.tcp_info import connections
from runtime.net.topology import complete
from tests.agents.process.test_edges import ONE_COPY, RULES, End, setup_of
from tests.process.runs import wait_for

AGENTS = 6


class DemandEnd(End):
    """One agent's edges, opened on demand."""

    def __init__(self, identity: int, folder: Path, keyring: Keyring | None, most: int) -> None:
        rules = dataclasses.replace(
            RULES,
            num_agents=AGENTS,
            comm="full",
            comm_options="neighbours=true",
            most_edges=most,
        )
        setup = setup_of(identity, folder, rules=rules, keyring=keyring)
        super().__init__(setup, EdgesOnDemand)
        self.identity = identity

    def say(self, tick: int, *peers: int) -> None:
        neighbours = complete(AGENTS).out_neighbours(self.identity)
        edges = tuple(neighbours.index(peer) for peer in peers)
        rows = np.full((1, 7), tick, dtype=np.float16)
        self.edges.send_message(SendMessage(edges, tick, ONE_COPY, rows))

    def hear(self) -> list[tuple[int, int]]:
        """Sender and tick of what has come; welcomes are taken."""
        messages = list(self.edges.take_messages())
        for k in self.edges.open_edges:
            assert not list(self.edges.drain_beacons(k))
        return [(message.sender, message.tick) for message in messages]

    @property
    def spoken_to(self) -> set[int]:
        """Whose connections are open."""
        neighbours = complete(AGENTS).out_neighbours(self.identity)
        return {neighbours[k] for k in self.edges.open_edges}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def team(
    stack: ExitStack, folder: Path, *, most: int = 64, keyed: bool = False
) -> Sequence[DemandEnd]:
    keys = {f"agent-{agent}": KeyPair.generate() for agent in range(AGENTS)}
    public = {name: pair.public for name, pair in keys.items()}

    def keyring(agent: int) -> Keyring | None:
        name = f"agent-{agent}"
        return Keyring(name, keys[name], public) if keyed else None

    ends = [
        stack.enter_context(DemandEnd(agent, folder, keyring(agent), most))
        for agent in range(AGENTS)
    ]
    for agent, end in enumerate(ends):
        peers = complete(AGENTS).out_neighbours(agent)
        end.edges.connect(tuple(ends[peer].edges.endpoint for peer in peers))
    return ends


def heard_by(end: DemandEnd, count: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    def all_here() -> bool:
        found.extend(end.hear())
        return len(found) >= count

    wait_for(f"{count} messages", all_here, 20.0)
    return found


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_what_is_sent_over_a_fresh_edge_arrives(
    keyed: bool, stack: ExitStack, tmp_path: Path
) -> None:
    ends = team(stack, tmp_path, keyed=keyed)
    assert all(end.spoken_to == set() for end in ends), "nobody has asked for an edge"
    assert all(not end.edges.unwelcomed and end.edges.all_in_neighbours_greeted for end in ends)
    ends[0].say(5, 1, 3)
    ends[2].say(5, 3)
    assert heard_by(ends[1], 1) == [(0, 5)]
    assert sorted(heard_by(ends[3], 2)) == [(0, 5), (2, 5)]
    assert ends[0].spoken_to == {1, 3}
    assert all(end.traffic.dropped_total == 0 for end in ends)


def test_nobody_to_welcome_is_no_dropped_packet(stack: ExitStack, tmp_path: Path) -> None:
    """The edge was closed before its first packet was read; the packet is there all the same."""
    ends = team(stack, tmp_path, most=1)
    ends[0].say(1, 1)
    ends[0].say(4, 2)  # the older edge is idle, and one too many
    inbox = ends[1].edges.endpoint.removeprefix("tcp://")
    wait_for(
        "the edge to be closed",
        lambda: all(inbox not in (c.local, c.peer) for c in connections()),
        10.0,
    )
    assert heard_by(ends[1], 1) == [(0, 1)]
    assert ends[1].traffic.dropped_total == 0


def test_an_edge_is_greeted_counted_and_kept(stack: ExitStack, tmp_path: Path) -> None:
    ends = team(stack, tmp_path)
    ends[0].say(5, 1)
    assert ends[0].edges.unwelcomed == [1]
    heard_by(ends[1], 1)
    wait_for("the welcome", lambda: (ends[0].hear(), not ends[0].edges.unwelcomed)[1], 20.0)
    handshakes = [end.traffic["edge_handshake_zmtp"] for end in ends]
    assert handshakes[0] > 0 < handshakes[1]
    assert handshakes[2] == 0
    for tick in (6, 7):
        ends[0].say(tick, 1)
    assert heard_by(ends[1], 2) == [(0, 6), (0, 7)]
    assert [end.traffic["edge_handshake_zmtp"] for end in ends] == handshakes
    assert ends[0].edges.counts()[0, 0] == 3
    assert ends[1].edges.counts()[0, 2] == 3, "the edge over one place"


def test_beyond_the_bound_the_idlest_edge_is_closed_and_nothing_is_lost(
    stack: ExitStack, tmp_path: Path
) -> None:
    ends = team(stack, tmp_path, most=2)
    ends[0].say(1, 1)
    assert heard_by(ends[1], 1) == [(0, 1)]
    ends[0].say(2, 2)
    ends[0].say(6, 3)
    assert ends[0].spoken_to == {2, 3}, "1 was not spoken to for longest"
    ends[0].say(7, 4)
    assert ends[0].spoken_to == {3, 4}
    ends[0].say(10, 1)
    assert ends[0].spoken_to == {4, 1}
    ends[0].say(11, 1)
    assert heard_by(ends[1], 2) == [(0, 10), (0, 11)]
    for peer, tick in ((2, 2), (3, 6), (4, 7)):
        assert heard_by(ends[peer], 1) == [(0, tick)]
    ends[0].edges.update_counters()


def test_edges_of_this_step_and_the_last_stay_whatever_the_bound(
    stack: ExitStack, tmp_path: Path
) -> None:
    ends = team(stack, tmp_path, most=1)
    ends[0].say(1, 1, 2, 3)
    ends[0].say(2, 4)
    assert ends[0].spoken_to == {1, 2, 3, 4}
    ends[0].say(3, 4)
    assert ends[0].spoken_to == {4}
    for peer in (1, 2, 3):
        assert heard_by(ends[peer], 1) == [(0, 1)]


def test_an_edge_that_is_opened_again_is_counted_again(stack: ExitStack, tmp_path: Path) -> None:
    ends = team(stack, tmp_path, most=1)
    ends[0].say(1, 1)
    heard_by(ends[1], 1)
    once = ends[1].traffic["edge_handshake_zmtp"]
    ends[0].say(4, 2)
    assert ends[0].spoken_to == {2}
    ends[0].say(9, 1)
    assert heard_by(ends[1], 1) == [(0, 9)]
    assert ends[1].traffic["edge_handshake_zmtp"] == 2 * once


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_bytes_counted_on_edges_that_come_and_go_are_those_of_the_kernel(
    keyed: bool, stack: ExitStack, tmp_path: Path
) -> None:
    ends = team(stack, tmp_path, most=1, keyed=keyed)
    us = ends[0]
    for tick, peer in ((1, 1), (4, 2), (7, 1)):
        us.say(tick, peer)
        assert us.spoken_to == {peer}
        heard_by(ends[peer], 1)
        wait_for("the welcome", lambda: (us.hear(), not us.edges.unwelcomed)[1], 20.0)
    assert sum(end.traffic.dropped_total for end in ends) == 0
    names = ("sent_zmtp_message", "edge_handshake_zmtp")
    by_us = sum(us.traffic[name] for name in names)
    by_them = sum(end.traffic[name] for end in ends[1:] for name in names)

    def kernel() -> tuple[int, int]:
        us.edges.update_counters()
        return us.traffic["edge_tcp_sent"], us.traffic["edge_tcp_received"]

    wait_for("the kernel to have sent it all", lambda: kernel() == (by_us, by_them), 20.0)


def test_who_moves_is_found_whether_its_edge_is_open_or_not(
    stack: ExitStack, tmp_path: Path
) -> None:
    ends = team(stack, tmp_path)
    ends[0].say(1, 1)
    heard_by(ends[1], 1)
    elsewhere = [stack.enter_context(DemandEnd(agent, tmp_path, None, 64)) for agent in (1, 2)]
    peers = complete(AGENTS).out_neighbours(0)
    moved = {1: elsewhere[0].edges.endpoint, 2: elsewhere[1].edges.endpoint}
    ends[0].edges.move(tuple(moved.get(peer, ends[peer].edges.endpoint) for peer in peers))
    ends[0].say(2, 2)
    assert heard_by(elsewhere[1], 1) == [(0, 2)]

    def reached() -> bool:
        ends[0].say(3, 1)
        return bool(elsewhere[0].hear())

    wait_for("the edge to follow", reached, 20.0)


def test_before_anybody_says_where_they_are_nothing_can_be_sent(
    stack: ExitStack, tmp_path: Path
) -> None:
    end = stack.enter_context(DemandEnd(0, tmp_path, None, 64))
    end.say(1, 1)
    assert end.spoken_to == set()
    assert end.traffic["dropped_unreachable"] == 1


def test_a_hello_of_its_own_opening_is_a_packet_like_any_other() -> None:
    hello = wire.EdgeHello(5, (1 << 16) - 1 << 16 | 3)
    assert wire.decode(wire.encode(hello)) == hello
