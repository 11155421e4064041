"""Deployed agents as real processes, and as much of a node as they need."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import zmq
from numpy.typing import NDArray

from agents.found import scheme_of
from agents.parameters import ParameterStore
from agents.policy import PolicyFile, PolicySpec, initialise, load_policy
from agents.process import realtime
from agents.process.realtime import DeployedAgentSetup
from agents.rules import AgentRules
from configs.options import read
from configs.schema import NetworkConfig
from runtime.net import latency, wire
from runtime.net.security import KeyPair, Keyring
from runtime.net.traffic import Traffic, named
from runtime.net.transport import CONTROL, Hub, agent_of, agent_routing_id
from runtime.terminal.processes import ONE_THREAD, start_process
from tests.process.runs import wait_for

RELAY_POLICY = Path(__file__).parents[2] / "configs" / "policies" / "relay.safetensors"
"""Trained with 16 agents."""


def relay_policy() -> PolicyFile:
    return load_policy(RELAY_POLICY)


def fresh_policy(
    observation_dim: int, num_actions: int, scheme: str = "sops", scheme_options: str = ""
) -> PolicyFile:
    taken = scheme_of(scheme)
    options = read(taken.Options, scheme_options, "--comm.options")
    spec = PolicySpec(
        observation_dim=observation_dim,
        num_actions=num_actions,
        hidden=16,
        message=taken.message_size(NetworkConfig(message=8), options),
        attention=8,
        beacon=8,
        edge_embedding=4,
        scorer=8,
        message_dtype="float16",
        beacon_dtype="int8",
        scheme=scheme,
        scheme_options=scheme_options,
    )
    return PolicyFile(spec, initialise(spec, np.random.default_rng(0)), 1, {})


class Deployed:
    """N deployed agents on tcp edges over loopback; the test plays their node."""

    def __init__(
        self,
        folder: Path,
        policy: PolicyFile,
        num_agents: int,
        *,
        rate_hz: float = 0.0,
        max_age: int = 1,
        curve: bool = False,
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._rate_hz = rate_hz
        self._num_agents = num_agents
        self._keys = (
            {agent_routing_id(agent).decode(): KeyPair.generate() for agent in range(num_agents)}
            if curve
            else None
        )
        self._rules = AgentRules(
            num_agents=num_agents,
            copies=1,
            spec=policy.spec,
            comm=policy.spec.scheme,
            comm_options=policy.spec.scheme_options,
            gate_timing="causal",
            gate_mode="learned",
            dead="silent",
            ships="none",
            realtime=True,
            max_message_age_steps=max_age,
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._hub = Hub(self._context, f"ipc://{folder}/node", Traffic(), CONTROL)
        self._forkserver = multiprocessing.get_context("forkserver")
        self._forkserver.set_forkserver_preload(["agents.process.preload"])
        self._incarnations = dict.fromkeys(range(num_agents), 0)
        self._endpoints: dict[int, str] = {}
        self.processes: dict[int, BaseProcess] = {}
        self.ready: set[int] = set()
        self.finished: set[int] = set()
        self.reports: dict[int, wire.AgentReport] = {}

    @property
    def body(self) -> str:
        """Template of the endpoints of bodies."""
        return f"ipc://{self._folder}/body-{{agent}}"

    def __enter__(self) -> "Deployed":
        for agent in range(self._num_agents):
            self.start(agent)
        return self

    def start(self, agent: int, inbox: str = "tcp://127.0.0.1:*") -> None:
        keyring = None
        if self._keys is not None:
            name = agent_routing_id(agent).decode()
            public = {other: pair.public for other, pair in self._keys.items()}
            keyring = Keyring(name, self._keys[name], public)
        setup = DeployedAgentSetup(
            identity=agent,
            incarnation=self._incarnations[agent],
            seed=0,
            rules=self._rules,
            parameters=ParameterStore(self._policy.flat, self._policy.version),
            node_endpoint=self._hub.endpoint,
            inbox_endpoint=inbox,
            body_endpoint=self.body.format(agent=agent),
            rate_hz=self._rate_hz,
            is_tcp=True,
            nice=0,
            logs=self._folder / "logs",
            keyring=keyring,
        )
        self.processes[agent] = start_process(
            self._forkserver, realtime.main, setup, f"agent {agent}", ONE_THREAD
        )

    def restart(self, agent: int) -> None:
        """Kill an agent, and start it again where it was, as a node would."""
        self.processes[agent].kill()
        self.processes[agent].join()
        self._incarnations[agent] += 1
        self.ready.discard(agent)
        self.reports.pop(agent, None)
        self.start(agent, self._endpoints[agent])

    def signal(self, agent: int, number: signal.Signals) -> None:
        pid = self.processes[agent].pid
        assert pid is not None
        os.kill(pid, number)

    def turn(self) -> None:
        """Do a node's work."""
        for peer, packet in self._hub.drain(wire.Hello, wire.Ready, wire.Leaving, wire.AgentReport):
            agent = agent_of(peer)
            assert agent is not None
            match packet:
                case wire.Hello():
                    self._endpoints[agent] = packet.endpoint
                    if packet.incarnation:
                        self._send_book(agent)
                    elif len(self._endpoints) == self._num_agents:
                        for other in self._endpoints:
                            self._send_book(other)
                case wire.Leaving():
                    self.finished.add(agent)
                case wire.Ready():
                    self.ready.add(agent)
                case wire.AgentReport():
                    self.reports[agent] = packet
                case _:
                    raise AssertionError(packet)

    def _send_book(self, agent: int) -> None:
        outs = self._rules.graph.out_neighbours(agent)
        book = wire.AddressBook(tuple(self._endpoints[peer] for peer in outs))
        self._hub.send(agent_routing_id(agent), book)

    def wait_for(self, what: str, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        def look() -> bool:
            self.turn()
            return condition()

        wait_for(what, look, timeout_s)

    def wait_until_ready(self) -> None:
        self.wait_for("all agents", lambda: len(self.ready) == self._num_agents)

    def counters(self, agent: int) -> dict[str, int]:
        """Of a report that is made after this call."""
        self.turn()
        self.reports.pop(agent, None)
        self.wait_for(f"a report of agent {agent}", lambda: agent in self.reports)
        return named(self.reports[agent].counters)

    def total(self, counter: str) -> int:
        """Sum over all agents, of reports that are made after this call."""
        self.turn()
        self.reports.clear()
        self.wait_for("reports", lambda: len(self.reports) == self._num_agents)
        return sum(named(report.counters)[counter] for report in self.reports.values())

    def action_latency(self) -> NDArray[np.uint64]:
        """[BINS] summed over the newest reports."""
        total = np.zeros(latency.BINS, dtype=np.uint64)
        for report in self.reports.values():
            total += report.action_latency
        return total

    def stop(self) -> None:
        """As a node: say stop, wait for the last reports, say it again."""
        stop = wire.Stop("end of the test")
        for agent in self.processes:
            self._hub.send(agent_routing_id(agent), stop)
        self.wait_for("last reports", lambda: self.finished >= self.processes.keys(), 5.0)
        for agent in self.processes:
            self._hub.send(agent_routing_id(agent), stop)
        for agent, process in self.processes.items():
            process.join(5.0)
            assert process.exitcode == 0, f"agent {agent} ended with {process.exitcode}"

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted((self._folder / "logs").glob("*.log")))

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        deadline = time.monotonic() + 10.0
        for process in self.processes.values():
            process.join(max(deadline - time.monotonic(), 0.0))
            process.close()
        self._hub.close()
        self._context.term()
