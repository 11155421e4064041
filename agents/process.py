"""The agent's process: sockets in front of AgentCore.

    world   ⇄ Channel ─┐                    ┌─ Channel per out-edge ⇄ out-neighbours' inboxes
    node    ⇄ Channel ─┤  poll → core → send ├─ Hub inbox            ⇄ in-neighbours
    learner ← Channel ─┘                    └─

A blocking poll, not asyncio: a round trip costs under a third of the time
(tests/benchmarks/event_loops.py). Messages go out before the action, so that a receiver finds them
when the world lets it go on.
"""

import logging
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import setproctitle
import zmq

from agents import backbone
from agents.core import AgentCore, AgentRules
from agents.events import (
    Command,
    Dropped,
    PeersLate,
    SendBeacon,
    SendMessage,
    ToLearner,
    ToNode,
    ToWorld,
)
from agents.parameters import ParameterStore
from runtime import latency, wire
from runtime.logs import setup_logging
from runtime.tcp_info import connections
from runtime.traffic import Traffic, TrafficClass, frame_zmtp_bytes, handshake_zmtp_bytes
from runtime.transport import (
    CONTROL,
    EDGE,
    STEP,
    TRAJECTORIES,
    Channel,
    Hub,
    agent_of,
    agent_routing_id,
    last_endpoint,
)

logger = logging.getLogger(__name__)

REPORT_PERIOD_S = 1.0
LEAVE_S = 1.0
"""Seconds that an agent waits for the others' last reports before it closes its edges."""
_HELLO_RETRY_S = 0.05
_HELLO_RESEND_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSetup:
    """All that an agent's process is told; it parses no flags and reads no globals."""

    identity: int
    incarnation: int
    seed: int
    rules: AgentRules
    parameters: ParameterStore
    node_endpoint: str
    world_endpoint: str
    learner_endpoint: str
    """Empty if trajectories go nowhere."""
    inbox_endpoint: str
    peer_timeout_s: float
    is_tcp: bool
    nice: int
    """Added to the niceness that it inherits."""
    logs: Path


class _Stopped(Exception):
    """The node says stop, or is gone."""


def main(setup: AgentSetup) -> None:
    """Run one agent until it is told to stop. Entry point of the process."""
    setproctitle.setproctitle(f"murmuration: agent {setup.identity}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us as the node's Stop
    os.nice(setup.nice)
    setup_logging("agent", setup.identity, setup.logs)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    process = AgentProcess(setup, context)
    try:
        process.serve()
    except _Stopped as stop:
        logger.info("stopping: %s", stop)
        process.take_leave()
    except Exception:  # the process edge: the node says that we died, and our log why
        logger.exception("agent %d cannot go on", setup.identity)
        raise SystemExit(1) from None
    finally:
        process.close()
        context.term()


class AgentProcess:
    """Moves packets between the sockets and the core."""

    def __init__(self, setup: AgentSetup, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._setup = setup
        self._context = context
        self._traffic = Traffic()
        entropy = [setup.seed, setup.identity, setup.incarnation]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        self._core = AgentCore(setup.identity, setup.rules, setup.parameters, rng)
        self._num_edges = len(backbone.offsets(setup.rules.num_agents))
        self._histogram = [0] * latency.BINS
        self._edges = [[0, 0, 0, 0] for _ in range(self._num_edges)]
        in_neighbours = backbone.in_neighbours(setup.identity, setup.rules.num_agents)
        self._in_peers = [agent_routing_id(peer) for peer in in_neighbours]
        self._in_offset = {peer: k for k, peer in enumerate(in_neighbours)}

        own_id = agent_routing_id(setup.identity)
        self._inbox = Hub(context, setup.inbox_endpoint, self._traffic, EDGE)
        self._node = Channel(
            context, setup.node_endpoint, own_id, self._traffic, CONTROL, linger_ms=200
        )
        self._world = Channel(context, setup.world_endpoint, own_id, self._traffic, STEP)
        self._learner = (
            Channel(
                context, setup.learner_endpoint, own_id, self._traffic, TRAJECTORIES, linger_ms=500
            )
            if setup.learner_endpoint
            else None
        )
        self._out: list[Channel] = []
        self._tcp_bytes: dict[tuple[str, str], tuple[int, int]] = {}
        self._poller = zmq.Poller()
        # Between steps nobody waits for beacons: they stay where they are, which saves K wake-ups.
        self._idle_poller = zmq.Poller()
        for poller in (self._poller, self._idle_poller):
            for socket in (self._node.socket, self._world.socket, self._inbox.socket):
                poller.register(socket, zmq.POLLIN)
        parent = parent_process()
        self._parent_fd = parent.sentinel if parent is not None else None
        if self._parent_fd is not None:
            # Readable when whoever started us is gone: no orphan whatever happens.
            self._poller.register(self._parent_fd, zmq.POLLIN)
            self._idle_poller.register(self._parent_fd, zmq.POLLIN)
        self._report_at = 0.0
        self._deadline: float | None = None

    # --- start ------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Say hello, open the edges, then act until stopped."""
        self._hello()
        self._connect_edges(self._await_address_book())
        self._node.send(wire.Ready("agent", self._setup.identity, self._setup.incarnation))
        logger.info("ready, incarnation %d", self._setup.incarnation)
        while True:
            self._turn()

    def _hello(self) -> None:
        setup = self._setup
        hello = wire.Hello(
            "agent", setup.identity, setup.incarnation, os.getpid(), self._inbox.endpoint
        )
        while not self._node.is_writable:  # IMMEDIATE refuses until the connection stands
            self._wait(_HELLO_RETRY_S)
        self._node.send(hello)

    def _await_address_book(self) -> tuple[str, ...]:
        while True:
            self._wait(None)
            for packet in self._node.drain(wire.AddressBook, wire.Stop):
                if isinstance(packet, wire.AddressBook):
                    return packet.endpoints
                raise _Stopped("told before the run began")

    def _connect_edges(self, endpoints: tuple[str, ...]) -> None:
        """Open one connection per out-edge and wait until its receiver has answered.

        A first incarnation also waits until every in-neighbour has said hello; a later one does
        not, because its neighbours reconnect by themselves and have nothing new to say.
        """
        setup = self._setup
        own_id = agent_routing_id(setup.identity)
        for endpoint in endpoints:
            channel = Channel(self._context, endpoint, own_id, self._traffic, EDGE)
            self._out.append(channel)
            self._poller.register(channel.socket, zmq.POLLIN)
            self._traffic.add("edge_handshake_zmtp", handshake_zmtp_bytes(len(own_id)))
        hello = wire.encode(wire.EdgeHello(setup.identity, setup.incarnation))
        unsent = set(range(len(self._out)))
        welcomed: set[int] = set()
        greeted: set[int] = set()
        everyone = set(self._in_offset) if setup.incarnation == 0 else set[int]()
        resend_at = time.monotonic() + _HELLO_RESEND_S
        while len(welcomed) < len(self._out) or not everyone <= greeted:
            if time.monotonic() >= resend_at:  # a neighbour may have died with our hello in hand
                unsent = set(range(len(self._out))) - welcomed
                resend_at = time.monotonic() + _HELLO_RESEND_S
            for k in sorted(unsent):
                if self._out[k].is_writable and self._out[k].send_frame(hello, None):
                    self._traffic.add("edge_handshake_zmtp", frame_zmtp_bytes(len(hello)))
                    unsent.discard(k)
            self._wait(_HELLO_RETRY_S if unsent else _HELLO_RESEND_S)
            for k, channel in enumerate(self._out):
                for _ in channel.drain(wire.EdgeWelcome):
                    welcomed.add(k)
            greeted |= self._take_inbox()
            for _ in self._node.drain(wire.Stop):
                raise _Stopped("told while edges were being opened")

    def _welcome(self, peer: bytes) -> None:
        welcome = wire.encode(wire.EdgeWelcome(self._setup.identity, self._setup.incarnation))
        if self._inbox.send_frame(peer, welcome, None):
            opened = handshake_zmtp_bytes(0) + frame_zmtp_bytes(len(welcome))
            self._traffic.add("edge_handshake_zmtp", opened)

    # --- the run ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for something to happen and deal with it."""
        now_s = time.monotonic()
        if now_s >= self._report_at:
            self._report_at = now_s + REPORT_PERIOD_S
            self.report()
        wake_at = min(self._report_at, self._deadline or self._report_at)
        poller = self._poller if self._core.waits_for_peers else self._idle_poller
        ready = self._wait(max(wake_at - now_s, 0.0), poller)
        # With an observation at hand, the packets that its step needs are mostly here as well:
        # taking them first saves a wake-up for each, and beacons that nobody waits for do not pile
        # up.
        steps = self._world.socket in ready
        if steps or self._inbox.socket in ready:
            self._take_inbox()
        for channel in self._out:
            if steps or channel.socket in ready:
                packet = channel.take(wire.Beacon, wire.EdgeWelcome)
                if isinstance(packet, wire.Beacon):
                    self._carry_out(self._core.handle(packet))
        if steps:
            for packet in self._world.drain(wire.Observation, wire.InMask):
                assert isinstance(packet, (wire.Observation, wire.InMask))
                self._carry_out(self._core.handle(packet))
        if self._node.socket in ready:
            self._take_control()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            logger.warning("tick %d: packets under way did not arrive", self._core.tick)
            self._carry_out(self._core.handle(PeersLate()))

    def _wait(self, timeout_s: float | None, poller: zmq.Poller | None = None) -> set[object]:
        events = (poller or self._poller).poll(
            None if timeout_s is None else int(1000 * timeout_s) + 1
        )
        ready: set[object] = {socket for socket, _ in events}
        if self._parent_fd in ready:
            raise _Stopped("the node is gone")
        return ready

    def _take_inbox(self) -> set[int]:
        """Messages go to the core; returns the in-neighbours that said hello."""
        greeted: set[int] = set()
        for peer, packet in self._inbox.drain(wire.Message, wire.EdgeHello):
            assert isinstance(packet, (wire.Message, wire.EdgeHello))
            offset = self._in_offset.get(packet.sender)
            if offset is None or agent_of(peer) != packet.sender:
                self._traffic.dropped("unknown_sender")
            elif isinstance(packet, wire.EdgeHello):
                self._welcome(peer)
                greeted.add(packet.sender)
            else:
                delay_ns = max(time.monotonic_ns() - packet.send_ns, 0)
                self._histogram[latency.bin_of(delay_ns)] += 1
                edge = self._edges[offset]
                edge[2] += 1
                edge[3] += delay_ns
                self._carry_out(self._core.handle(packet))
        return greeted

    def _take_control(self) -> None:
        accepted = (wire.DenseParameters, wire.DeltaParameters, wire.Stop)
        for packet in self._node.drain(*accepted):
            if isinstance(packet, wire.Stop):
                raise _Stopped(packet.reason)
            assert isinstance(packet, (wire.DenseParameters, wire.DeltaParameters))
            self._carry_out(self._core.handle(packet))

    def _carry_out(self, commands: list[Command]) -> None:
        if not commands and self._deadline is not None and self._core.waits_for_peers:
            return  # one packet more, and the step still waits for others
        for command in commands:
            match command:
                case SendMessage():
                    self._send_message(command)
                case SendBeacon():
                    self._send_beacon(command)
                case ToWorld():
                    self._world.send(command.packet)
                case ToLearner():
                    if self._learner is not None and self._learner.send(command.packet):
                        self._traffic.add("trajectories_sent")
                case ToNode():
                    self._node.send(command.packet)
                case Dropped():
                    self._traffic.dropped(command.reason)
        waits = self._core.waits_for_peers
        if not waits:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = time.monotonic() + self._setup.peer_timeout_s

    def _send_message(self, command: SendMessage) -> None:
        frame = self._stamped(wire.Message, command)
        for k in command.edges:
            if self._out[k].send_frame(frame, TrafficClass.MESSAGE):
                self._edges[k][0] += 1
                self._edges[k][1] += frame_zmtp_bytes(len(frame))

    def _send_beacon(self, command: SendBeacon) -> None:
        frame = self._stamped(wire.Beacon, command)
        for peer in self._in_peers:
            self._inbox.send_frame(peer, frame, TrafficClass.BEACON)

    def _stamped(
        self, kind: type[wire.Message | wire.Beacon], command: SendMessage | SendBeacon
    ) -> bytes:
        """Encode with the time of sending; all receivers get the same bytes."""
        identity, now_ns = self._setup.identity, time.monotonic_ns()
        return wire.encode(kind(identity, command.tick, now_ns, command.copies, command.rows))

    def take_leave(self) -> None:
        """Send the last report, and keep the edges open until everybody has.

        The kernel forgets a connection's counters when it closes, and the run's figures are sums of
        last reports.
        """
        self.report()
        self._node.send(wire.Ready("finished", self._setup.identity, self._setup.incarnation))
        deadline = time.monotonic() + LEAVE_S
        while (left_s := deadline - time.monotonic()) > 0.0:
            if self._node.socket.poll(int(1000 * left_s) + 1):
                for _ in self._node.drain(wire.Stop):
                    return

    # --- heartbeat --------------------------------------------------------------------------------

    def report(self) -> None:
        """Tell the node that we live and what we have counted."""
        tally, traffic = self._core.tally, self._traffic
        for name in ("agent_steps", "edge_slots", "edges_open", "late", "snapshots_requested"):
            traffic.set(name, getattr(tally, name))
        if self._setup.is_tcp:
            self._read_tcp_info()
        self._node.send(
            wire.AgentReport(
                agent=self._setup.identity,
                incarnation=self._setup.incarnation,
                tick=self._core.tick,
                policy_version=self._setup.parameters.version,
                counters=traffic.as_array(),
                latency=np.array(self._histogram, dtype=np.uint64),
                edges=np.array(self._edges, dtype=np.uint64),
            )
        )

    def _read_tcp_info(self) -> None:
        """What the kernel counted on the edges: in-edges share our inbox port, out-edges leave."""
        inbox = self._inbox.endpoint.removeprefix("tcp://")
        outs = {last_endpoint(channel.socket) for channel in self._out}
        for connection in connections():
            if connection.local == inbox or f"tcp://{connection.peer}" in outs:
                # A connection that has closed keeps its last reading: counters never fall.
                self._tcp_bytes[connection.local, connection.peer] = (
                    connection.bytes_sent,
                    connection.bytes_received,
                )
        self._traffic.set("edge_tcp_sent", sum(sent for sent, _ in self._tcp_bytes.values()))
        self._traffic.set("edge_tcp_received", sum(got for _, got in self._tcp_bytes.values()))

    def close(self) -> None:
        channels = [self._node, self._world, *self._out]
        if self._learner is not None:
            channels.append(self._learner)
        for end in (*channels, self._inbox):
            end.close()
