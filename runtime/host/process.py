"""The node: one per host. Has the agents started, shares parameters, serves /metrics.

    agents ⇄ Hub        launcher ⇄ Channel        learner ⇄ Channel (parameters come once to each
    host)               nodes of other hosts ⇄ HostClocks

On the launcher's machine it is a child process; elsewhere `python -m runtime.node` runs it
(runtime/host/join.py). A deployed node has neither launcher nor learner: its agents serve their
bodies.

Many things are waited for at once (sockets, a sentinel per agent, timers), hence an event loop:
uvloop.
"""

import asyncio
import dataclasses
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import parent_process
from typing import Any, cast

import setproctitle
import uvloop
import zmq
from zmq.utils.monitor import recv_monitor_message

from agents.parameters import Outcome
from agents.process.shell import LEAVE_S, leave_s
from runtime.deployment.hosts import Hosts
from runtime.host import health
from runtime.host import supervisor as watch
from runtime.host.agent_processes import AgentProcesses
from runtime.host.exporter import Exporter
from runtime.host.faults import Faults
from runtime.host.host_clocks import HostClocks
from runtime.host.host_table import HostTable
from runtime.host.setup import LOCAL_HOST, NodeSetup, Place
from runtime.host.sharing import Sharing
from runtime.host.start_patience import StartPatience
from runtime.host.supervisor import Supervisor
from runtime.host.update_door import UpdateDoor
from runtime.host.updates import TakeUp
from runtime.net import wire
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process
from runtime.net.logs import lines_lost, setup_logging
from runtime.net.moves import packed, unpacked
from runtime.net.traffic import CLASS_OF, FORM_OF, Traffic, TrafficClass
from runtime.net.transport import (
    CONTROL,
    LAUNCHER,
    LEARNER,
    Channel,
    Hub,
    agent_of,
    agent_routing_id,
    node_routing_id,
)
from runtime.terminal import stop_signals
from runtime.terminal.processes import bare_main

logger = logging.getLogger(__name__)

TURN_S = 0.05
"""Seconds between looks at clocks and sockets, whatever else wakes the node."""
STATUS_PERIOD_S = 0.5
_STARTED_AT_ONCE = 8
_BACKSTOP = 2.0
"""Where there is a launcher, it judges a start, because it sees all hosts: a node has so many times
its patience.
"""
STOP_S = 0.8
"""Seconds for agents to leave by themselves, then the same again after SIGTERM."""
LAST_SCRAPE_S = 3.0
"""Seconds from the run's end within which a regular scraper hears of it: the launcher waits for
four, even at Ctrl-C, and longer where so many agents leave that their last reports take longer."""
OTHER_HOSTS_S = 0.5
"""Seconds that edges stay open for the last reports of agents on other hosts."""
_SUSPENDED_S = 2.0
"""A turn that takes longer says that this process was kept from listening."""


def main(setup: NodeSetup) -> None:
    """Run the node until it is told to stop. Entry point of the process."""
    setproctitle.setproctitle("murmuration: node")
    setup_logging("node", 0, setup.logs)
    begin_process(keyed=setup.place is not None)
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
        place = setup.place
        self._name = node_routing_id(LOCAL_HOST if place is None else place.host)
        self._keyring = None if place is None else place.keyrings[self._name.decode()]
        self._table = (
            HostTable(setup.rules.num_agents, graph=setup.rules.graph)
            if place is None
            else HostTable(
                setup.rules.num_agents,
                place.hosts.names,
                place.index,
                place.hosts.host_of_agents(),
                graph=setup.rules.graph,
            )
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._hub = Hub(
            self._context, self._endpoint("node"), self._traffic, CONTROL, linger_ms=200
        )
        self._launcher = self._channel(LAUNCHER, setup.launcher_endpoint, linger_ms=500)
        learner_endpoint = setup.learner_endpoint if setup.learns else ""
        self._learner = self._channel(LEARNER, learner_endpoint)
        self._clocks: HostClocks | None = None
        if place is not None and len(place.hosts.hosts) > 1:
            assert self._keyring is not None
            self._clocks = HostClocks(
                self._context, place.hosts, place.host, self._keyring, self._traffic
            )
        self._door: UpdateDoor | None = None
        if place is not None and setup.deployment is not None:
            self._door = UpdateDoor(
                self._context,
                place,
                setup.deployment,
                setup.rules,
                self._traffic,
                figures=self._values,
                take_up=self._take_up,
            )
        self._parameters = setup.parameters
        self._sharing = Sharing.where_possible(setup.rules, setup.parameters)
        self._versions_relayed = 0
        self._subscribed = False
        self._learner_monitor: zmq.Socket[bytes] | None = None
        if self._learner is not None:
            monitor = self._learner.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._learner_monitor = monitor
        self._supervisor = Supervisor(
            setup.agents,
            setup.rules.num_agents,
            graph=setup.rules.graph,
            max_restarts=setup.max_restarts,
            patience=StartPatience(
                setup.start_timeout_s * (_BACKSTOP if setup.launcher_endpoint else 1.0),
                time.monotonic(),
            ),
            more_time="--runtime.start-timeout-s"
            if setup.deployment is None
            else "--start-timeout-s",
            endpoints=None if place is None else _agent_endpoints(place.hosts),
            first_incarnation=0 if place is None else place.first_incarnation,
        )
        self._faults = Faults(time.monotonic)
        self._agents = AgentProcesses(
            setup,
            self._supervisor,
            self._table,
            self._traffic,
            self._faults,
            self._hub.endpoint,
            parameters=setup.parameters if self._sharing is None else self._sharing.handle,
            endpoint=self._endpoint,
            obey=self._carry_out,
            give_up=self._give_up,
            is_over=lambda: self._done.is_set(),
        )
        self._finished: set[int] = set()
        self._exporter: Exporter | None = None
        self._done = asyncio.Event()
        self._reason = ""
        self._is_hurried = False
        """Whether somebody waits for the end: no long farewells, and no lingering."""
        self.failed = False
        """Whether the node has given up, rather than been told to stop."""
        self.interrupted = False
        """Whether it was Ctrl-C here, not at the head."""
        self._stopping_s = math.inf
        self._heard_s = self._turned_s = time.monotonic()
        """When the launcher spoke last, and when we last looked for it."""

    @property
    def reason(self) -> str:
        """Why the node has ended."""
        return self._reason

    @property
    def agents(self) -> tuple[int, ...]:
        """Those of this host."""
        return self._setup.agents

    def status(self) -> dict[str, float]:
        """The host's figures, as the launcher gets them."""
        return self._values()

    def _channel(self, server: str, endpoint: str, *, linger_ms: int = 0) -> Channel | None:
        if not endpoint:
            return None
        curve = None if self._keyring is None else self._keyring.client_of(server)
        return Channel(
            self._context,
            endpoint,
            self._name,
            self._traffic,
            CONTROL,
            linger_ms=linger_ms,
            curve=curve,
        )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        # What the loop calls is attempts, all but one: a fault that somebody forgot is the end.
        loop.set_exception_handler(self._take_fault)
        parent = parent_process()
        if parent is not None:
            loop.add_reader(parent.sentinel, self._orphan, parent.sentinel)
        # A child leaves all but SIGTERM to the launcher.
        for number in (signal.SIGTERM,) if parent is not None else stop_signals.heeded():
            loop.add_signal_handler(number, self._interrupt, number)
        self._watch(self._hub.socket, self._take_agents)
        if self._learner is not None:
            self._watch(self._learner.socket, self._take_parameters)
        if self._clocks is not None:
            for socket in self._clocks.sockets:
                self._watch(socket, self._clocks.take)
        if self._door is not None:
            self._watch(self._door.socket, self._door.take)
        if self._launcher is not None:
            self._watch(self._launcher.socket, self._take_launcher)
            hello = wire.Hello("node", 0, 0, os.getpid(), self._hub.endpoint)
            while not self._launcher.is_writable:
                await asyncio.sleep(0.02)
            self._launcher.send(hello)
        with bare_main():
            try:
                self._start_exporter()
                turns = asyncio.create_task(self._turn_regularly())
                spawns = asyncio.create_task(self._spawn_everybody())
                await self._done.wait()
                turns.cancel()
                spawns.cancel()
            finally:
                await self._stop_agents()
                await self._linger()
                self._close()

    # --- start and stop ---------------------------------------------------------------------------

    def _start_exporter(self) -> None:
        setup = self._setup
        if setup.metrics_port and setup.telemetry:
            try:
                self._exporter = Exporter(
                    self._table,
                    setup.metrics_port,
                    address=setup.metrics_address,
                    facts={"transport": "ipc" if setup.ipc_dir else "tcp"},
                    per_edge=setup.metrics_per_edge,
                    checks=health.checks(
                        lambda: math.inf if self._done.is_set() else self._turned_s,
                        lambda: self._supervisor.num_ready,
                        lambda: len(self._setup.agents),
                    ),
                )
            except SetupError as error:
                self._give_up(str(error))

    async def _spawn_everybody(self) -> None:
        """Start all agents, several at a time, and listen meanwhile: a thousand take a while."""
        waiting = iter(self._supervisor.start())

        async def start_some() -> None:
            for command in waiting:
                assert isinstance(command, watch.Spawn)
                await self._agents.start_now(command)

        await asyncio.gather(*(start_some() for _ in range(_STARTED_AT_ONCE)))

    def _endpoint(self, name: str) -> str:
        if self._setup.ipc_dir:
            return f"ipc://{self._setup.ipc_dir}/{name}"
        return "tcp://127.0.0.1:*"

    def _interrupt(self, number: signal.Signals) -> None:
        """A person, a batch system or the launcher insists: now, and without lingering."""
        self._is_hurried = True
        self.interrupted = self.interrupted or number == signal.SIGINT
        self._finish(wire.INTERRUPTED if number == signal.SIGINT else number.name)

    def _orphan(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self._finish("the launcher is gone")

    def _take_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception has left a callback or a task, and with it an event is lost."""
        del loop
        error = context.get("exception")
        logger.error("%s", context.get("message"), exc_info=error)
        self._give_up(f"an event of the node is lost: {error!r}")

    def _finish(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._done.set()

    def _give_up(self, reason: str) -> None:
        self.failed = True
        self._finish(reason)
        self._tell_launcher(wire.Failure(reason))
        logger.error("%s", reason)

    async def _stop_agents(self) -> None:
        """Ask, then SIGTERM, then SIGKILL."""
        self._stopping_s = time.monotonic()
        if self._launcher is None and not self.failed:
            self._table.end()
        self._supervisor.stop()
        self._agents.cancel_starts()
        if self._learner is not None:  # what it publishes now is for nobody, and not counted
            asyncio.get_running_loop().remove_reader(_descriptor(self._learner.socket))
            self._send_status()  # /metrics has what has come until now
        logger.info("stopping: %s", self._reason)
        stop = wire.Stop(self._reason or "end of the run")
        for agent in self._agents.alive:
            self._hub.send(agent_routing_id(agent), stop)
        begun_s = time.monotonic()
        while self._agents.alive.keys() - self._finished and not self._is_over(
            begun_s, leave_s(len(self._setup.agents))
        ):
            self._take_agents()
            await asyncio.sleep(0.01)
        if self._clocks is not None:
            # Agents of other hosts are told at the same time, and want to read the counters of
            # their connections to ours once more.
            await asyncio.sleep(OTHER_HOSTS_S)
        for agent in self._agents.alive:  # everybody's last report is here: now close the edges
            self._hub.send(agent_routing_id(agent), stop)
        await self._wait_for_exits(STOP_S)
        for process in self._agents.alive.values():
            process.terminate()
        await self._wait_for_exits(STOP_S)
        for process in list(self._agents.alive.values()):
            process.kill()
        await self._wait_for_exits(STOP_S)

    async def _wait_for_exits(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._agents.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._take_agents()

    async def _linger(self) -> None:
        """Keep /metrics up for a last scrape, but not for longer than the launcher.

        A Prometheus that has come regularly is waited for in any case, for a moment.
        """
        self._send_status()
        parent = parent_process()
        begun_s = time.monotonic()
        while self._exporter is not None and (
            not self._is_over(begun_s, self._setup.metrics_linger_s, hurried_s=0.0)
            or self._awaits_scrape(self._exporter, begun_s)
        ):
            if parent is not None and not parent.is_alive():
                return
            await asyncio.sleep(TURN_S)

    def _awaits_scrape(self, exporter: Exporter, final_s: float) -> bool:
        now_s = time.monotonic()
        until_s = self._stopping_s + LAST_SCRAPE_S
        if not self._is_hurried:
            until_s += leave_s(len(self._setup.agents)) - LEAVE_S
        is_due = self._table.has_ended and now_s < until_s
        return is_due and exporter.is_awaited(now_s, final_s)

    def _is_over(self, begun_s: float, patience_s: float, hurried_s: float = LEAVE_S) -> bool:
        """Whether a wait that began then has lasted long enough; a Ctrl-C meanwhile shortens it."""
        if self._launcher is not None:
            self._faults.attempt(self._take_launcher)
        limit_s = min(patience_s, hurried_s) if self._is_hurried else patience_s
        return time.monotonic() - begun_s >= limit_s

    def _close(self) -> None:
        self._send_status()
        self._tell_launcher(wire.Leaving())
        if self._exporter is not None:
            self._exporter.close()
        if self._learner is not None and self._learner_monitor is not None:
            self._learner.socket.disable_monitor()
            self._learner_monitor.close(0)
        for end in (self._hub, self._launcher, self._learner, self._door, self._clocks):
            if end is not None:
                end.close()
        if self._sharing is not None:
            self._sharing.close()
        self._context.term()

    # --- what comes in ----------------------------------------------------------------------------

    def _watch(self, socket: zmq.Socket[bytes], take: Callable[[], None]) -> None:
        """Call `take` when the socket may have something.

        ZeroMQ's descriptor is edge-triggered and any use of the socket may swallow an edge, so the
        regular turn looks at every socket as well: an edge lost costs TURN_S, not the packet.
        """
        descriptor = _descriptor(socket)
        asyncio.get_running_loop().add_reader(descriptor, self._faults.attempt, take)

    async def _turn_regularly(self) -> None:
        attempt = self._faults.attempt
        status_at = 0.0
        while True:
            now_s = time.monotonic()
            attempt(self._take_agents)
            if self._launcher is not None:
                attempt(self._take_launcher)
            if self._learner is not None:
                attempt(self._subscribe)
                attempt(self._take_parameters)
            if self._clocks is not None:
                attempt(self._compare_clocks, self._clocks)
            if self._door is not None:
                attempt(self._door.turn)
            if now_s - self._turned_s > _SUSPENDED_S:
                # This process was suspended, so silence proves nothing about the others.
                self._heard_s = now_s
                self._agents.forgive(now_s)
                self._supervisor.forgive(now_s)
                logger.info("the node could not look for %.1f s", now_s - self._turned_s)
            self._turned_s = now_s
            self._carry_out(self._supervisor.due(now_s))
            if parent_process() is None and self._launcher is not None:
                self._mind_the_launcher(now_s)
            if now_s >= status_at:
                status_at = now_s + STATUS_PERIOD_S
                attempt(self._agents.end_silent, now_s)
                attempt(self._send_status)
            lasting = self._faults.end_turn()
            if lasting is not None:
                self._give_up(f"the node cannot go on: {lasting}")
                return
            await asyncio.sleep(TURN_S)

    def _take_agents(self) -> None:
        accepted = (
            wire.AgentReport,
            wire.Hello,
            wire.Ready,
            wire.Leaving,
            wire.SnapshotRequest,
        )
        for peer, packet in self._hub.drain(*accepted):
            agent = agent_of(peer)
            if agent is None or agent not in self._setup.agents:
                self._traffic.dropped("unknown_sender")
                continue
            self._faults.attempt(self._take_agent, agent, peer, packet)

    def _take_agent(self, agent: int, peer: bytes, packet: wire.Packet) -> None:
        match packet:
            case wire.AgentReport():
                self._take_report(agent, packet)
            case wire.Hello() if not self._is_inbox(agent, packet.endpoint):
                self._traffic.dropped("range")
            case wire.Hello():
                self._carry_out(self._supervisor.hello(agent, packet.incarnation, packet.endpoint))
            case wire.Leaving():
                self._finished.add(agent)
            case wire.Ready():
                self._carry_out(self._supervisor.agent_ready(agent, packet.incarnation))
                began_with = self._agents.version_of(agent)
                if began_with != self._parameters.version or self._is_newest_unshared:
                    if self._door is not None:  # it may have begun with one that was taken back
                        self._hub.send(peer, wire.PolicySwitch(self._parameters.version, 0, 0))
                    self._hub.send(peer, self._whole_version())
            case wire.SnapshotRequest():
                self._hub.send(peer, self._parameters.snapshot())
            case _:
                self._traffic.dropped("kind")

    def _take_report(self, agent: int, report: wire.AgentReport) -> None:
        if report.agent != agent:
            self._traffic.dropped("unknown_sender")
            return
        if report.incarnation > self._supervisor.incarnation_of(agent):
            self._traffic.dropped("future")
            return
        try:
            if not self._table.update(report, time.monotonic()):
                self._traffic.dropped("stale")
        except ValueError:
            self._traffic.dropped("shape")

    def _is_inbox(self, agent: int, endpoint: str) -> bool:
        """Whether neighbours may be sent there: an endpoint that is none would end them."""
        # Across hosts the address book says where an inbox is, whatever its agent says.
        expected = self._endpoint(f"a{agent}")
        return self._setup.place is not None or may_be(endpoint, expected)

    def _take_launcher(self) -> None:
        assert self._launcher is not None
        accepted = (
            *(wire.Stop, wire.Instruction, wire.Alive, wire.Status),
            *(wire.AddressBook, wire.Moves),
        )
        for packet in self._launcher.drain(*accepted):
            self._heard_s = time.monotonic()
            match packet:
                case wire.Alive():
                    pass
                case wire.Status():  # the run's figures, if the launcher is on this host
                    self._table.set_run(packet.values)
                case wire.AddressBook():
                    self._follow(packet.endpoints)
                case wire.Instruction(name="announce"):  # it had lost sight of us
                    self._carry_out(self._supervisor.announce_all())
                case wire.Moves():
                    self._move(packet)
                case wire.Stop(reason=wire.EVICTED):
                    self.failed = True
                    self._finish(packet.reason)
                case wire.Stop():
                    if packet.reason in (wire.FINISHED, wire.INTERRUPTED):
                        self._table.end()
                    self._is_hurried = self._is_hurried or packet.reason == wire.INTERRUPTED
                    self._finish(packet.reason)
                case wire.Instruction(name="resubscribe"):  # the learner has been started again
                    self._subscribed = False
                case wire.Instruction(name="kill"):
                    self._carry_out(self._supervisor.kill(packet.value))
                case _:
                    self._traffic.dropped("kind")

    def _follow(self, whereabouts: tuple[str, ...]) -> None:
        """A host's node has been placed elsewhere, and its agents with it."""
        place = self._setup.place
        if place is None or self._clocks is None:
            self._traffic.dropped("kind")
            return
        try:
            hosts = place.hosts.at(whereabouts)
        except ValueError:
            self._traffic.dropped("range")
            return
        self._clocks.move(hosts)
        self._settle(dataclasses.replace(place, hosts=hosts))
        self._carry_out(self._supervisor.move(_agent_endpoints(hosts)))

    def _move(self, packet: wire.Moves) -> None:
        """Agents of a host that has left live elsewhere, perhaps here."""
        place = self._setup.place
        if place is None:
            self._traffic.dropped("kind")
            return
        try:
            moves = unpacked(packet, self._setup.rules.num_agents, len(place.hosts.names))
        except ValueError:
            self._traffic.dropped("range")
            return
        place = place.after(moves)
        self._settle(place)
        self._table.house(place.hosts.host_of_agents())
        for agent in self._agents.alive:  # before they hear where: with old keys nobody gets in
            self._hub.send(agent_routing_id(agent), packed(moves))
        arrivals = {move.agent: move.incarnation for move in moves if move.host == place.index}
        self._carry_out(self._supervisor.move(_agent_endpoints(place.hosts), arrivals))

    def _settle(self, place: Place) -> None:
        """Take note of where everybody is: agents that are started from now on are told this."""
        agents = place.hosts[place.host].agents
        self._setup = dataclasses.replace(self._setup, place=place, agents=agents)
        self._agents.move(self._setup)

    def _mind_the_launcher(self, now_s: float) -> None:
        """Without a parent's sentinel, silence is what tells that a run is over."""
        limit_s = self._setup.head_timeout_s
        if now_s - self._heard_s > limit_s:
            self.failed = True
            self._finish(f"the head has been silent for {limit_s:.0f} s")

    def _compare_clocks(self, clocks: HostClocks) -> None:
        """Probe the other hosts; agents learn of offsets that have changed."""
        clocks.turn()
        offsets = clocks.take_offsets()
        if offsets is not None:
            for agent in self._supervisor.ready:
                self._hub.send(agent_routing_id(agent), offsets)
        self._table.set_clocks(clocks.peers(self._table))

    def _subscribe(self) -> None:
        """Make ourselves known to the learner, again whenever it may have lost sight of us: it
        has been restarted, or the connection has died, and with it versions that were under way.
        """
        assert self._learner is not None
        assert self._learner_monitor is not None
        while self._learner_monitor.poll(0):
            recv_monitor_message(self._learner_monitor)
            self._subscribed = False
        if not self._subscribed:
            self._subscribed = self._learner.send(wire.SnapshotRequest(self._parameters.version))

    def _take_parameters(self) -> None:
        """Keep the newest version for agents that come later. Share it with those that are here,
        or pass the packet on as it is.
        """
        assert self._learner is not None
        for packet in self._learner.drain(*wire.PARAMETERS):
            assert isinstance(packet, wire.Parameters)
            match self._parameters.apply(packet):
                case Outcome.OLD:
                    continue
                case Outcome.GAP:
                    self._learner.send(wire.SnapshotRequest(self._parameters.version))
                    continue
                case Outcome.APPLIED:
                    self._versions_relayed += 1
            if self._sharing is not None:
                # Agents that share have nothing that a delta could be applied to.
                self._sharing.share(self._parameters)
                packet = self._whole_version()
            frame = wire.encode(packet)
            for agent in self._supervisor.ready:
                self._hub.send_frame(agent_routing_id(agent), frame, TrafficClass.PARAMETERS)

    def _take_up(self, change: TakeUp) -> None:
        """Have the agents of a deployment act by another version, newer or older."""
        policy, tick = change.policy, change.tick
        self._parameters.replace(policy.flat, policy.version)
        if self._sharing is not None:
            self._sharing.share_instead(self._parameters)
        switch = wire.PolicySwitch(policy.version, tick or 0, int(tick is not None))
        for packet in (switch, self._whole_version()):
            frame = wire.encode(packet)
            kind = CLASS_OF.get(type(packet), TrafficClass.CONTROL)
            for agent in self._supervisor.ready:
                self._hub.send_frame(agent_routing_id(agent), frame, kind)

    @property
    def _is_newest_unshared(self) -> bool:
        """Whether agents that begin now find an older version in the segment."""
        return self._sharing is not None and self._sharing.newest is None

    def _whole_version(self) -> wire.AgentParameters:
        """The newest version for an agent that has no other, or any."""
        shared = None if self._sharing is None else self._sharing.newest
        return self._parameters.snapshot() if shared is None else shared

    # --- what goes out ----------------------------------------------------------------------------

    def _carry_out(self, commands: list[watch.SupervisorCommand]) -> None:
        for command in commands:
            self._faults.attempt(self._obey, command)

    def _obey(self, command: watch.SupervisorCommand) -> None:
        match command:
            case watch.Spawn():
                self._agents.start(command)
            case watch.SendBook():
                place = self._setup.place
                if place is not None and place.moves:  # first: with old keys nobody gets in there
                    self._hub.send(agent_routing_id(command.agent), packed(place.moves))
                self._hub.send(agent_routing_id(command.agent), wire.AddressBook(command.endpoints))
            case watch.Announce():
                self._tell_launcher(
                    wire.AgentState(command.agent, command.incarnation, int(command.up))
                )
                if command.up and self._clocks is not None:
                    self._hub.send(agent_routing_id(command.agent), self._clocks.offsets())
            case watch.AllReady():
                self._tell_launcher(wire.Ready("node", 0, 0))
            case watch.Kill():
                self._agents.kill(command.agent)
                logger.info("agent %d is killed, as planned", command.agent)
            case watch.GiveUp():
                self._give_up(command.reason)
            case watch.Refused():
                self._traffic.dropped(command.reason)

    def _tell_launcher(self, packet: wire.Packet) -> None:
        if self._launcher is not None:
            self._launcher.send(packet)

    def _send_status(self) -> None:
        if self._setup.telemetry:
            self._agents.read_memory()
        values = self._values()
        self._tell_launcher(wire.Status("node", values))
        oldest = int(values["policy_version_min"])
        self._tell_launcher(wire.NodeState(self._supervisor.num_ready, oldest))

    def _values(self) -> dict[str, float]:
        if self._clocks is not None:
            self._traffic.set("refused", self._clocks.refused)
        self._traffic.set("log_lines_lost", lines_lost())
        self._table.set_node(self._traffic.as_array(), self._parameters.version)
        values = self._table.status(time.monotonic())
        for name in ("readings_failed", "log_lines_lost"):  # the agents' and ours
            values[name] += self._traffic[name]
        values |= {
            "agents_ready": float(self._supervisor.num_ready),
            "agents_listening": float(self._supervisor.num_heard),
            "restarts": float(self._supervisor.restarts),
            "policy_version": float(self._parameters.version),
            "dropped_by_node": float(self._traffic.dropped_total),
            "sent_payload_parameters_node": float(self._traffic["sent_payload_parameters"]),
            "received_payload_parameters_node": float(self._traffic["received_payload_parameters"]),
        }
        for form in FORM_OF.values():  # from the learner to us, and from us to our agents
            for name in (f"versions_{form}", f"version_payload_{form}"):
                values[name] += self._traffic[name]
        if not self._setup.agents:  # nobody here lags behind, and the run need not wait for anybody
            values["policy_version_min"] = values["policy_version"]
        if self._door is not None:
            updates, rollbacks = self._table.policy_changes = self._door.counts
            values |= {"policy_updates": float(updates), "policy_rollbacks": float(rollbacks)}
        if (mean_mb := self._agents.pss_mb_mean) is not None:
            values["agent_pss_mb_mean"] = mean_mb
        return values


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    return cast("int", socket.getsockopt(zmq.FD))


def may_be(endpoint: str, asked_for: str) -> bool:
    """Whether somebody who was to listen at `asked_for` can listen there; ":*" is any port."""
    before, any_port, _ = asked_for.partition(":*")
    if not any_port:
        return endpoint == asked_for
    port = endpoint.removeprefix(f"{before}:")
    is_number = port != endpoint and port.isascii() and port.isdigit() and len(port) <= 5
    return is_number and 0 < int(port) < 1 << 16


def _agent_endpoints(hosts: Hosts) -> dict[int, str]:
    return {
        agent: hosts.endpoint(agent_routing_id(agent).decode()) for agent in range(hosts.num_agents)
    }
