"""Strangers who connect and show no key, more of them than a process has descriptors for."""

import dataclasses
import multiprocessing
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from agents.parameters import ParameterStore
from agents.process import lockstep as process
from agents.process.lockstep import AgentSetup
from runtime.net import wire
from runtime.net.doorway import most_connections
from runtime.net.security import KeyPair, Keyring
from runtime.net.tcp_info import connections
from runtime.net.traffic import Traffic, named
from runtime.net.transport import CONTROL, EDGE, Channel, Hub, agent_routing_id
from runtime.terminal.processes import start_process
from tests.agents_helpers import make_flat, make_rules
from tests.process.runs import processes_of, run_config, wait_for
from tests.process.sabotage import summary_of_a_run_that_loses_an_agent
from tests.security_helpers import House, heard, say, terminating_context, wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def crowd(stack: ExitStack, endpoint: str, count: int) -> None:
    """So many connections that say nothing."""
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    for _ in range(count):
        stack.enter_context(socket.create_connection((host, int(port)), timeout=10.0))


def test_strangers_beyond_the_bound_are_cut_and_guests_are_let_in(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(stack.enter_context(terminating_context()))
    stack.callback(house.close)
    hub = house.hub()
    address = hub.endpoint.removeprefix("tcp://")
    guest = house.guest(hub, "agent-1")
    most = most_connections(len(house.keys))
    crowd(stack, hub.endpoint, 300)
    wait_until(lambda: house.gatekeeper.refused >= 300 - most, "most of them to be cut")
    wait_until(lambda: sum(c.local == address for c in connections()) <= most, "few to be left")
    say(guest, "I was here before")
    assert heard(hub) == (b"agent-1", "I was here before")
    say(house.guest(hub, "agent-2"), "and I came later")
    assert heard(hub) == (b"agent-2", "and I came later")
    says = f"{hub.endpoint} holds {most} connections and no more"
    assert sum(says in line for line in caplog.messages) == 1


class KeyedAgent:
    """A real agent's process with keys and 256 descriptors; the test is its node."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        names = [agent_routing_id(agent).decode() for agent in range(2)]
        keys = {name: KeyPair.generate() for name in names}
        self.rings = [
            Keyring(name, keys[name], {name: pair.public for name, pair in keys.items()})
            for name in names
        ] + [Keyring("world", KeyPair.generate(), {})]
        public = {**self.rings[0].public, "world": self.rings[2].own.public}
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(self.context.term)
        self.hub = Hub(self.context, f"ipc://{folder}/node", Traffic(), CONTROL)
        stack.callback(self.hub.close)
        self.inbox = ""
        self.counters: dict[str, int] = {}
        self.reports = 0
        setup = AgentSetup(
            identity=0,
            incarnation=1,
            seed=0,
            rules=make_rules(num_agents=2),
            parameters=ParameterStore(make_flat(), 1),
            node_endpoint=self.hub.endpoint,
            world_endpoint="tcp://127.0.0.1:9",
            learner_endpoint="",
            inbox_endpoint="tcp://127.0.0.1:*",
            peer_timeout_s=0.5,
            is_tcp=True,
            nice=0,
            logs=folder / "logs",
            keyring=Keyring("agent-0", keys["agent-0"], public),
        )
        forkserver = multiprocessing.get_context("forkserver")
        forkserver.set_forkserver_preload(["agents.process.preload"])
        self.process = start_process(forkserver, process.main, setup, "agent 0")
        stack.callback(self._stop)

    def turn(self) -> bool:
        """Do a node's work; whether the agent has reported."""
        assert self.process.is_alive(), "the agent has died"
        for peer, packet in self.hub.drain(wire.Hello, wire.Ready, wire.AgentReport):
            if isinstance(packet, wire.Hello):
                self.inbox = packet.endpoint
                self.hub.send(peer, wire.AddressBook(("tcp://127.0.0.1:9",)))
            elif isinstance(packet, wire.AgentReport):
                self.counters = named(packet.counters)
                self.reports += 1
        return self.reports > 0

    def _stop(self) -> None:
        for _ in range(2):
            self.hub.send(agent_routing_id(0), wire.Stop("end of the test"))
        self.process.join(10.0)
        self.process.kill()


def test_an_agent_outlives_more_half_open_connections_than_it_has_descriptors(
    stack: ExitStack, tmp_path: Path
) -> None:
    agent = KeyedAgent(stack, tmp_path)
    wait_for("a report", agent.turn, 30.0)
    pid = agent.process.pid or 0
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
    crowd(stack, agent.inbox, 1100)
    wait_for("strangers to be cut", lambda: agent.turn() and agent.counters["refused"] > 900, 30.0)
    # ZeroMQ accepts a few more before the gatekeeper's thread has had its turn.
    descriptors = Path(f"/proc/{pid}/fd")
    wait_for("descriptors to be free", lambda: len(list(descriptors.iterdir())) < 120, 30.0)
    ring = agent.rings[1]
    channel = Channel(
        agent.context, agent.inbox, b"", Traffic(), EDGE, curve=ring.client_of("agent-0")
    )
    stack.callback(channel.close)
    wait_for("its neighbour to be let in", lambda: agent.turn() and channel.is_writable, 30.0)
    before = agent.reports
    wait_for("further reports", lambda: agent.turn() and agent.reports > before + 1, 30.0)


def test_a_node_starts_agents_again_while_475_connections_to_its_metrics_idle(
    stack: ExitStack, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = run_config("relay", 4, copies=4)
    runtime = dataclasses.replace(config.runtime, metrics_port=port)

    def idle() -> None:
        node = processes_of(os.getpgrp())["node"]
        resource.prlimit(node, resource.RLIMIT_NOFILE, (300, 300))
        crowd(stack, f"tcp://127.0.0.1:{port}", 475)

    config = dataclasses.replace(config, runtime=runtime)
    summary = summary_of_a_run_that_loses_an_agent(config, tmp_path, idle)
    assert summary["agent_restarts"] == 1


def test_an_agent_with_keys_leaves_no_core(stack: ExitStack, tmp_path: Path) -> None:
    agent = KeyedAgent(stack, tmp_path)
    wait_for("a report", agent.turn, 30.0)
    limits = Path(f"/proc/{agent.process.pid}/limits").read_text()
    (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
