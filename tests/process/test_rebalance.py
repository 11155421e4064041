"""A host leaves for good, and its agents live on the others (--rebalance)."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from runtime.deployment.bundle import read_all
from runtime.net import wire
from runtime.net.moves import Move, unpacked
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, Channel
from tests.process.fleet import HEAD, NUM_AGENTS, Fleet
from tests.process.runs import wait_for
from tests.transport_helpers import wait_until_writable

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

OPTIONS = (
    *("--steps", "100000000", "--evaluation.interval-steps", "0"),
    *("--rebalance", "--runtime.rebalance-after-s", "4", "--runtime.host-timeout-s", "2"),
    # A host that is cut off must still be there when it is back.
    *("--runtime.head-timeout-s", "120"),
    *("--runtime.step-timeout-s", "10", "--agents.peer-timeout-s", "1"),
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.start(tmp_path, *OPTIONS) as fleet:
        fleet.wait_until_learning(90.0)
        yield fleet


def agents_of(fleet: Fleet, name: str) -> set[str]:
    return {title for title in fleet.processes(name) if title.startswith("agent ")}


def wait_until_all_play(fleet: Fleet, moved: int) -> None:
    """All agents are up after so many moves, on all kinds of edges, and whole episodes come."""
    wait_for(f"{moved} moves", lambda: fleet.figure("agent/moved") == moved, 90.0)
    wait_for("everybody to be up", lambda: fleet.figure("agent/up") == NUM_AGENTS, 90.0)

    def all_goes_well() -> bool:
        """Nobody who is asked is silent, and what is sent over an edge arrives."""
        names = ("env/missed_deadlines", "comm/late_packets")
        before = [fleet.figure(name) for name in names]
        fleet.wait_for_episodes(90.0)
        return before == [fleet.figure(name) for name in names]

    wait_for("episodes without a packet that is late", all_goes_well, 90.0)


def lose_host_b(fleet: Fleet) -> None:
    """For good: its agents live on."""
    fleet.hosts["b"].kill_all()
    wait_until_all_play(fleet, moved=2)
    assert agents_of(fleet, "a") == {"agent 0", "agent 1", "agent 2"}
    assert agents_of(fleet, "c") == {"agent 3", "agent 4", "agent 5"}
    assert "2 of its agents move (1 to a, 1 to c)" in fleet.logs(HEAD)


def test_agents_of_a_host_that_is_gone_live_on_the_others(fleet: Fleet) -> None:
    lose_host_b(fleet)
    fleet.interrupt()
    fleet.started["b"].clear()  # what is killed leaves its sockets behind
    assert fleet.wait_for_exits(40.0) == {"a": 130, "c": 0}
    assert fleet.summary()["agents_moved"] == 2
    assert "Traceback" not in fleet.logs(HEAD) + fleet.logs("c")


@pytest.mark.slow
def test_a_host_that_is_back_stands_by_and_gets_the_agents_of_the_next(fleet: Fleet) -> None:
    lose_host_b(fleet)
    fleet.join("b")
    wait_for("host b to stand by", lambda: "it stands by" in fleet.output("b"))
    fleet.wait_for_episodes()
    assert agents_of(fleet, "b") == set(), "nobody lives twice"
    assert fleet.figure("agent/policy_version_min") > 0, "it keeps nobody waiting for a version"

    fleet.hosts["c"].kill_all()
    wait_until_all_play(fleet, moved=5)
    assert agents_of(fleet, "b") == {"agent 3", "agent 4", "agent 5"}, "it had none"
    assert agents_of(fleet, "a") == {"agent 0", "agent 1", "agent 2"}

    fleet.interrupt()
    fleet.started["c"].clear()  # what is killed leaves its sockets behind
    assert fleet.wait_for_exits(40.0) == {"a": 130, "b": 0}
    assert fleet.summary()["agents_moved"] == 5
    assert "Traceback" not in fleet.logs(HEAD) + fleet.logs("b")


@pytest.mark.slow
def test_a_host_that_was_cut_off_for_too_long_is_told_to_end_and_does_no_harm(
    fleet: Fleet,
) -> None:
    fleet.hosts["c"].link_down()
    wait_until_all_play(fleet, moved=2)
    assert agents_of(fleet, "c") == {"agent 4", "agent 5"}, "they do not know that they are out"
    before = {name: fleet.processes(name) for name in ("a", "b")}
    fleet.hosts["c"].link_up()
    assert fleet.started["c"][-1].wait(60.0) == 1
    assert "its agents live on others: start it again to join" in fleet.output("c")
    fleet.wait_for_episodes()
    assert fleet.figure("agent/up") == NUM_AGENTS
    assert {name: fleet.processes(name) for name in ("a", "b")} == before, "all live on"
    fleet.interrupt()
    assert fleet.wait_for_exits(40.0) == {"a": 130, "b": 0, "c": 1}


class NodeOfB:
    """What the launcher hears of host b's node, and that node of it, without any agents."""

    def __init__(self, fleet: Fleet) -> None:
        (self._bundle,) = (b for b in read_all(fleet.bundles) if b.host.name == "b")
        with fleet.hosts["b"].inside():
            self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            self._first = self.context.socket(zmq.DEALER)  # starts the thread that connects
        self.moves: tuple[Move, ...] = ()
        self.told: list[type[wire.Packet]] = []
        self._channel = self._connect()

    def _connect(self) -> Channel:
        curve = self._bundle.keyring("node-b").client_of(LAUNCHER)
        endpoint = self._bundle.book.hosts.endpoint(LAUNCHER)
        channel = Channel(self.context, endpoint, b"", Traffic(), CONTROL, curve=curve)
        wait_until_writable(channel)
        return channel

    def say(self, packet: wire.Packet) -> None:
        assert self._channel.send(packet)

    def join(self) -> None:
        self.say(wire.Join(self._bundle.book.deployment))

    def begin_anew(self) -> None:
        """Another connection, on which nothing was said yet."""
        self._channel.close()
        self.moves, self.told, self._channel = (), [], self._connect()

    def listen(self) -> None:
        accepted = (wire.Assignment, wire.Moves, wire.DenseParameters, wire.Alive, wire.Stop)
        for packet in self._channel.drain(*accepted):
            self.told.append(type(packet))
            if isinstance(packet, wire.Moves):
                self.moves = unpacked(packet, NUM_AGENTS, 3)

    def is_given(self, agents: set[int]) -> bool:
        """Whether it has been told to run these agents, and with which keys."""
        self.say(wire.NodeState(0, 0))  # or it would be given up
        time.sleep(0.1)
        self.listen()
        return {move.agent for move in self.moves if move.secret} == agents


@pytest.mark.slow
def test_a_node_that_is_on_its_way_in_or_connects_anew_hears_of_what_it_has_missed(
    fleet: Fleet,
) -> None:
    fleet.hosts["b"].kill_all()
    wait_until_all_play(fleet, moved=2)
    node = NodeOfB(fleet)
    node.join()
    wait_for("the assignment", lambda: node.is_given(set()) and wire.DenseParameters in node.told)
    fleet.hosts["c"].kill_all()
    wait_for("moves", lambda: node.is_given({3, 4, 5}), 60.0)

    node.begin_anew()  # as a node that has been taken in does: what was said until now is lost
    node.say(wire.Hello("node", 0, 0, os.getpid(), "ipc://node"))
    wait_for("the same moves", lambda: node.is_given({3, 4, 5}), 20.0)
    node.begin_anew()  # and as one does whose connection has died
    wait_for("the same moves", lambda: node.is_given({3, 4, 5}), 20.0)
    node.context.destroy(linger=0)
