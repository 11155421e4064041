"""How long an agent of a lock-step run waits for its neighbours before it says that it is ready."""

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from agents.parameters import ParameterStore
from agents.process import lockstep as process
from agents.process.lockstep import AgentSetup
from runtime.net import wire
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, EDGE, Channel, Hub, agent_routing_id
from runtime.terminal.processes import start_process
from tests.agents_helpers import make_flat, make_rules
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process]

AGENT, NEIGHBOUR = 0, 1
PEER_TIMEOUT_S = 0.5


class Beginning:
    """An agent whose only neighbour is away, on a host that cannot be reached."""

    def __init__(self, folder: Path, incarnation: int) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.hub = Hub(self.context, f"ipc://{folder}/node", Traffic(), CONTROL)
        self.away = f"ipc://{folder}/neighbour"
        self.inbox = ""
        self.is_ready = False
        setup = AgentSetup(
            identity=AGENT,
            incarnation=incarnation,
            seed=0,
            rules=make_rules(num_agents=2),
            parameters=ParameterStore(make_flat(), 1),
            node_endpoint=self.hub.endpoint,
            world_endpoint=f"ipc://{folder}/world",
            learner_endpoint="",
            inbox_endpoint=f"ipc://{folder}/inbox",
            peer_timeout_s=PEER_TIMEOUT_S,
            is_tcp=False,
            nice=0,
            logs=folder / "logs",
        )
        forkserver = multiprocessing.get_context("forkserver")
        forkserver.set_forkserver_preload(["agents.process.preload"])
        self.process = start_process(forkserver, process.main, setup, "agent 0")

    def turn(self) -> bool:
        """Do a node's work; whether the agent has said that it is ready."""
        for peer, packet in self.hub.drain(wire.Hello, wire.Ready, wire.AgentReport):
            if isinstance(packet, wire.Hello):
                self.inbox = packet.endpoint
                self.hub.send(peer, wire.AddressBook((self.away,)))
            self.is_ready |= isinstance(packet, wire.Ready)
        return self.is_ready

    def close(self) -> None:
        self.hub.send(agent_routing_id(AGENT), wire.Stop("end of the test"))
        self.hub.send(agent_routing_id(AGENT), wire.Stop("end of the test"))
        self.process.join(10.0)
        assert self.process.exitcode == 0
        self.hub.close()
        self.context.term()


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[list[Beginning]]:
    begun: list[Beginning] = []
    yield begun
    for beginning in begun:
        beginning.close()


def test_an_agent_that_is_started_again_goes_on_without_a_neighbour_that_is_away(
    starts: list[Beginning], tmp_path: Path
) -> None:
    starts.append(Beginning(tmp_path, incarnation=1))
    wait_for("the agent to be ready", starts[0].turn, 20.0)
    traffic = Traffic()
    neighbour = Hub(starts[0].context, starts[0].away, traffic, EDGE)
    try:
        # It goes on greeting, so that the edge opens when the neighbour is back.
        wait_for(
            "a greeting",
            lambda: [packet for _, packet in neighbour.drain(wire.EdgeHello)],
            20.0,
        )
    finally:
        neighbour.close()


def test_an_agent_of_a_new_run_waits_until_its_neighbours_are_there(
    starts: list[Beginning], tmp_path: Path
) -> None:
    starts.append(Beginning(tmp_path, incarnation=0))
    wait_for("the agent to say hello", lambda: starts[0].turn() or starts[0].inbox, 20.0)
    patience_s = time.monotonic() + 4.0 * max(PEER_TIMEOUT_S, 1.0)
    while time.monotonic() < patience_s:
        assert not starts[0].turn(), "its first step would miss messages"
        starts[0].hub.socket.poll(20)
    neighbour = Hub(starts[0].context, starts[0].away, Traffic(), EDGE)
    name = agent_routing_id(NEIGHBOUR)
    channel = Channel(starts[0].context, starts[0].inbox, name, Traffic(), EDGE)
    greeted: list[bool] = []

    def neighbours_work() -> bool:
        for peer, _ in neighbour.drain(wire.EdgeHello):
            neighbour.send(peer, wire.EdgeWelcome(NEIGHBOUR, 0))
        if not greeted and channel.is_writable:
            greeted.append(channel.send(wire.EdgeHello(NEIGHBOUR, 0)))
        return starts[0].turn()

    try:
        wait_for("the agent to be ready", neighbours_work, 20.0)
    finally:
        channel.close()
        neighbour.close()
