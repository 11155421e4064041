"""The node: one per host. Forks and watches the agents, relays parameters, serves /metrics.

    agents ⇄ Hub        launcher ⇄ Channel        learner ⇄ Channel (parameters come once to each
    host)

Many things are waited for at once (sockets, a sentinel per agent, timers), hence an event loop:
uvloop.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import setproctitle
import uvloop
import zmq

import agents.process
from agents.core import AgentRules
from agents.parameters import Outcome, ParameterStore
from agents.process import LEAVE_S, AgentSetup
from runtime import supervisor as watch
from runtime import wire
from runtime.errors import SetupError
from runtime.exporter import Exporter
from runtime.host_table import HostTable
from runtime.logs import setup_logging
from runtime.process_memory import pss_mb
from runtime.processes import start_process
from runtime.supervisor import Supervisor
from runtime.traffic import Traffic, TrafficClass
from runtime.transport import CONTROL, Channel, Hub, agent_of, agent_routing_id

logger = logging.getLogger(__name__)

TURN_S = 0.05
"""Seconds between looks at clocks and sockets, whatever else wakes the node."""
STATUS_PERIOD_S = 0.5
STOP_S = 0.8
"""Seconds for agents to leave by themselves, then the same again after SIGTERM."""
_PSS_PER_STATUS = 4
"""Processes whose memory is read at a time: the kernel walks all their pages for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSetup:
    """All that a node is told."""

    agents: tuple[int, ...]
    """Identities of this host's share."""
    rules: AgentRules
    parameters: ParameterStore
    seed: int
    launcher_endpoint: str
    world_endpoint: str
    learner_endpoint: str
    """Where trajectories go and parameters come from; empty if there is nobody."""
    learns: bool
    """Whether parameters come from there."""
    ipc_dir: str
    """Folder of ipc endpoints; empty for tcp over loopback."""
    metrics_port: int
    metrics_per_edge: bool
    peer_timeout_s: float
    start_timeout_s: float
    max_restarts: int
    nice: int
    """Niceness of the agents."""
    logs: Path


def main(setup: NodeSetup) -> None:
    """Run the node until it is told to stop. Entry point of the process."""
    setproctitle.setproctitle("murmuration: node")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us as the launcher's Stop
    setup_logging("node", 0, setup.logs)
    try:
        uvloop.run(Node(setup).run())
    except Exception:  # the process edge: the launcher points to our log
        logger.exception("the node cannot go on")
        raise SystemExit(1) from None


class Node:
    """One host's part of a run."""

    def __init__(self, setup: NodeSetup) -> None:
        self._setup = setup
        self._traffic = Traffic()
        self._table = HostTable(setup.rules.num_agents)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._hub = Hub(
            self._context, self._endpoint("node"), self._traffic, CONTROL, linger_ms=200
        )
        self._launcher = Channel(
            self._context, setup.launcher_endpoint, b"node", self._traffic, CONTROL, linger_ms=500
        )
        self._learner = (
            Channel(self._context, setup.learner_endpoint, b"node", self._traffic, CONTROL)
            if setup.learns
            else None
        )
        self._parameters = setup.parameters
        self._versions_relayed = 0
        self._subscribed = False
        self._supervisor = Supervisor(
            setup.agents,
            setup.rules.num_agents,
            max_restarts=setup.max_restarts,
            start_deadline_s=time.monotonic() + setup.start_timeout_s,
        )
        self._processes: dict[int, BaseProcess] = {}
        self._spawned_with: dict[int, int] = {}
        """Policy version that each agent's process was started with."""
        self._finished: set[int] = set()
        self._pss_mb: dict[int, float] = {}
        self._forkserver = multiprocessing.get_context("forkserver")
        self._forkserver.set_forkserver_preload(["agents.preload"])
        self._exporter: Exporter | None = None
        self._done = asyncio.Event()
        self._reason = ""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        parent = parent_process()
        if parent is not None:
            loop.add_reader(parent.sentinel, self._finish, "the launcher is gone")
        loop.add_signal_handler(signal.SIGTERM, self._finish, "SIGTERM")
        self._watch(self._hub.socket, self._take_agents)
        self._watch(self._launcher.socket, self._take_launcher)
        if self._learner is not None:
            self._watch(self._learner.socket, self._take_parameters)
        hello = wire.Hello("node", 0, 0, os.getpid(), self._hub.endpoint)
        while not self._launcher.is_writable:
            await asyncio.sleep(0.02)
        self._launcher.send(hello)
        try:
            self._start()
            turns = asyncio.create_task(self._turn_regularly())
            await self._done.wait()
            turns.cancel()
        finally:
            await self._stop_agents()
            self._close()

    # --- start and stop
    # -----------------------------------------------------------------------------

    def _start(self) -> None:
        setup = self._setup
        if setup.metrics_port:
            try:
                self._exporter = Exporter(
                    self._table,
                    setup.metrics_port,
                    facts={"transport": "ipc" if setup.ipc_dir else "tcp"},
                    per_edge=setup.metrics_per_edge,
                )
            except SetupError as error:
                self._give_up(str(error))
                return
        self._carry_out(self._supervisor.start())

    def _endpoint(self, name: str) -> str:
        if self._setup.ipc_dir:
            return f"ipc://{self._setup.ipc_dir}/{name}"
        return "tcp://127.0.0.1:*"

    def _spawn(self, command: watch.Spawn) -> None:
        setup, agent = self._setup, command.agent
        process = start_process(
            self._forkserver,
            agents.process.main,
            AgentSetup(
                identity=agent,
                incarnation=command.incarnation,
                seed=setup.seed,
                rules=setup.rules,
                parameters=self._parameters,
                node_endpoint=self._hub.endpoint,
                world_endpoint=setup.world_endpoint,
                learner_endpoint=setup.learner_endpoint if setup.rules.ships != "none" else "",
                inbox_endpoint=command.endpoint or self._endpoint(f"a{agent}"),
                peer_timeout_s=setup.peer_timeout_s,
                is_tcp=not setup.ipc_dir,
                nice=setup.nice,
                logs=setup.logs,
            ),
            name=f"agent {agent}",
        )
        self._processes[agent] = process
        self._spawned_with[agent] = self._parameters.version
        loop = asyncio.get_running_loop()
        loop.add_reader(process.sentinel, self._take_exit, agent, process)

    def _take_exit(self, agent: int, process: BaseProcess) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        code = process.exitcode
        if self._processes.get(agent) is process:
            del self._processes[agent]
        logger.info("agent %d ended with %s", agent, code)
        self._carry_out(self._supervisor.exited(agent, code, time.monotonic()))

    def _finish(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._done.set()

    def _give_up(self, reason: str) -> None:
        logger.error("%s", reason)
        self._launcher.send(wire.Instruction(f"failed: {reason}"[:256], 0))
        self._finish(reason)

    async def _stop_agents(self) -> None:
        """Ask, then SIGTERM, then SIGKILL."""
        logger.info("stopping: %s", self._reason)
        self._supervisor.stop()
        stop = wire.Stop(self._reason or "end of the run")
        for agent in self._processes:
            self._hub.send(agent_routing_id(agent), stop)
        deadline = time.monotonic() + LEAVE_S
        while self._processes.keys() - self._finished and time.monotonic() < deadline:
            self._take_agents()
            await asyncio.sleep(0.01)
        for agent in self._processes:  # everybody's last report is here: now close the edges
            self._hub.send(agent_routing_id(agent), stop)
        await self._wait_for_exits(STOP_S)
        for process in self._processes.values():
            process.terminate()
        await self._wait_for_exits(STOP_S)
        for process in list(self._processes.values()):
            process.kill()
        await self._wait_for_exits(STOP_S)

    async def _wait_for_exits(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._processes and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._take_agents()

    def _close(self) -> None:
        self._send_status()
        if self._exporter is not None:
            self._exporter.close()
        for end in (self._hub, self._launcher, self._learner):
            if end is not None:
                end.close()
        self._context.term()

    # --- what comes in
    # ------------------------------------------------------------------------------

    def _watch(self, socket: zmq.Socket[bytes], take: Callable[[], None]) -> None:
        """Call `take` when the socket may have something.

        ZeroMQ's descriptor is edge-triggered and any use of the socket may swallow an edge, so the
        regular turn looks at every socket as well: an edge lost costs TURN_S, not the packet.
        """
        asyncio.get_running_loop().add_reader(cast("int", socket.getsockopt(zmq.FD)), take)

    async def _turn_regularly(self) -> None:
        status_at = 0.0
        while True:
            now_s = time.monotonic()
            self._take_agents()
            self._take_launcher()
            if self._learner is not None:
                self._subscribe()
                self._take_parameters()
            self._carry_out(self._supervisor.due(now_s))
            if now_s >= status_at:
                status_at = now_s + STATUS_PERIOD_S
                self._send_status()
            await asyncio.sleep(TURN_S)

    def _take_agents(self) -> None:
        accepted = (wire.AgentReport, wire.Hello, wire.Ready, wire.SnapshotRequest)
        for peer, packet in self._hub.drain(*accepted):
            agent = agent_of(peer)
            if agent is None or agent not in self._setup.agents:
                self._traffic.dropped("unknown_sender")
                continue
            match packet:
                case wire.AgentReport():
                    self._take_report(agent, packet)
                case wire.Hello():
                    self._carry_out(
                        self._supervisor.hello(agent, packet.incarnation, packet.endpoint)
                    )
                case wire.Ready(role="finished"):
                    self._finished.add(agent)
                case wire.Ready():
                    self._carry_out(self._supervisor.agent_ready(agent, packet.incarnation))
                    if self._spawned_with.get(agent) != self._parameters.version:
                        self._hub.send(peer, self._parameters.snapshot())
                case wire.SnapshotRequest():
                    self._hub.send(peer, self._parameters.snapshot())
                case _:
                    self._traffic.dropped("kind")

    def _take_report(self, agent: int, report: wire.AgentReport) -> None:
        if report.agent != agent:
            self._traffic.dropped("unknown_sender")
            return
        try:
            self._table.update(report, time.monotonic())
        except ValueError:
            self._traffic.dropped("shape")

    def _take_launcher(self) -> None:
        for packet in self._launcher.drain(wire.Stop, wire.Instruction):
            match packet:
                case wire.Stop():
                    self._finish(packet.reason)
                case wire.Instruction(name="resubscribe"):  # the learner has been started again
                    self._subscribed = False
                case _:
                    self._traffic.dropped("kind")

    def _subscribe(self) -> None:
        """Make ourselves known to the learner, again after it has been restarted."""
        assert self._learner is not None
        if not self._subscribed:
            self._subscribed = self._learner.send(wire.SnapshotRequest(self._parameters.version))

    def _take_parameters(self) -> None:
        """Keep the newest version for agents that come later, and pass the packet on as it is."""
        assert self._learner is not None
        for packet in self._learner.drain(wire.DenseParameters, wire.DeltaParameters):
            assert isinstance(packet, (wire.DenseParameters, wire.DeltaParameters))
            match self._parameters.apply(packet):
                case Outcome.OLD:
                    continue
                case Outcome.GAP:
                    self._learner.send(wire.SnapshotRequest(self._parameters.version))
                    continue
                case Outcome.APPLIED:
                    self._versions_relayed += 1
            frame = wire.encode(packet)
            for agent in self._supervisor.ready:
                self._hub.send_frame(agent_routing_id(agent), frame, TrafficClass.PARAMETERS)

    # --- what goes out
    # ------------------------------------------------------------------------------

    def _carry_out(self, commands: list[watch.Command]) -> None:
        for command in commands:
            match command:
                case watch.Spawn():
                    self._spawn(command)
                case watch.SendBook():
                    self._hub.send(
                        agent_routing_id(command.agent), wire.AddressBook(command.endpoints)
                    )
                case watch.Announce():
                    self._launcher.send(
                        wire.AgentState(command.agent, command.incarnation, int(command.up))
                    )
                case watch.AllReady():
                    self._launcher.send(wire.Ready("node", 0, 0))
                case watch.GiveUp():
                    self._give_up(command.reason)

    def _send_status(self) -> None:
        self._read_memory()
        values = self._table.status(time.monotonic())
        values |= {
            "agents_ready": float(len(self._supervisor.ready)),
            "restarts": float(self._supervisor.restarts),
            "policy_version": float(self._parameters.version),
            "dropped_by_node": float(self._traffic.dropped_total),
            "sent_payload_parameters_node": float(self._traffic["sent_payload_parameters"]),
        }
        if self._pss_mb:
            values["agent_pss_mb_mean"] = sum(self._pss_mb.values()) / len(self._pss_mb)
        self._launcher.send(wire.Status("node", values))

    def _read_memory(self) -> None:
        """Look at a few processes at a time; those never read come first."""
        known = self._pss_mb
        waiting = sorted(self._supervisor.ready, key=lambda agent: agent in known)
        for agent in waiting[:_PSS_PER_STATUS]:
            if agent in known:
                break
            process = self._processes.get(agent)
            size_mb = pss_mb(process.pid) if process is not None and process.pid else None
            if size_mb is not None:
                known[agent] = size_mb
