"""An agent's edges: one connection for each, opened once (or on demand,
agents/process/edges_on_demand.py), and what is counted on them.

    SendMessage -> Channel per out-edge ⇄ out-neighbour's inbox
    in-neighbours ⇄ Hub inbox -> Message

A beacon goes back on the connection over which messages come. Closing an edge is not sending over
it. A new edge is greeted (EdgeHello) until it is answered (EdgeWelcome), so that both ends know
that it works.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import zmq
from numpy.typing import NDArray

from agents.events import SendBeacon, SendMessage
from agents.process.setup import ShellSetup
from runtime.net import latency, wire
from runtime.net.addresses import is_name
from runtime.net.moves import Move, renewed
from runtime.net.security import CurveClient, Gatekeeper, Keyring
from runtime.net.tcp_info import TcpConnection, connections
from runtime.net.traffic import Traffic, TrafficClass, frame_zmtp_bytes
from runtime.net.transport import EDGE, Channel, Hub, agent_routing_id, last_endpoint

logger = logging.getLogger(__name__)

INBOX = "inbox"
"""The gatekeeper's domain of in-neighbours."""
GREET_PERIOD_S = 1.0
"""Seconds until an edge whose greeting was not answered is greeted again."""
_LONGEST_GREET_PERIOD_S = 8.0
_GREET_RETRY_S = 0.05
"""The first of the intervals at which we look whether a connection stands and can be greeted over.
All of these double every time: a thousand agents that come up at once and each ask for news every
50 ms would keep each other from ever getting anywhere."""
_MOST_NS = (1 << 63) - 1
"""Of summed latency: a neighbour's stamps say what it likes, and the sum must fit a report."""
_MOST_AT_ONCE = 1024
"""Packets taken from the inbox in one go, so that a flood cannot starve everything else."""
_MOST_DELAYS = 4096
_NOBODY = (None, 0, 0)
_MESSAGE, _BEACON = TrafficClass.MESSAGE, TrafficClass.BEACON


class Edges:
    """Both ends that an agent has of its 2K edges."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], setup: ShellSetup, traffic: Traffic
    ) -> None:
        """Listen for in-neighbours; with a keyring, for those whose keys are listed and no others.

        Raises:
            SetupError: the inbox cannot be bound, or others could reach it and there are no keys.
        """
        identity = setup.identity
        self._context = context
        self._setup = setup
        self._traffic = traffic
        graph = setup.rules.graph
        self._keyring = setup.keyring
        self._out_peers = graph.out_neighbours(identity)
        in_peers = graph.in_neighbours(identity)
        self._in_names = [agent_routing_id(peer) for peer in in_peers]
        self._in_edges = {
            name: (peer, k, setup.host(peer))
            for k, (name, peer) in enumerate(zip(self._in_names, in_peers, strict=True))
        }
        """By name: agent, offset and host of an in-neighbour."""
        self._gatekeeper: Gatekeeper | None = None
        self._curve = setup.keyring is not None
        curve = None
        if setup.keyring is not None:
            self._gatekeeper = Gatekeeper(context, is_patient=setup.keyring.is_renewed)
            self._admit(setup.keyring)
            curve = setup.keyring.server(INBOX)
        self._inbox = Hub(context, setup.inbox_endpoint, traffic, EDGE, curve=curve)
        self._out: dict[int, Channel] = {}
        """By offset, those that are open."""
        self._rekeyed: set[int] = set()
        """Out-neighbours whose keys are new, by offset."""
        self.out_sockets: list[zmq.Socket[bytes]] = []
        """[K] by offset, where something comes back that is waited for; empty before `connect`."""

        self._unwelcomed: set[int] = set(range(len(self._out_peers)))
        self._ungreeted: set[int] = set()
        self._greet_again_s = 0.0
        self._greet_period_s = GREET_PERIOD_S
        self._retry_at_s = 0.0
        self._retry_s = _GREET_RETRY_S
        self._incarnations: dict[int, int] = {}
        """Of the in-neighbours that have said hello, their latest lives."""
        self._newcomers = False

        # Of another host's clock nothing is known before the node has compared it with ours.
        self._offsets_ns: list[int | None] = [None] * setup.num_hosts
        if setup.telemetry:
            self._offsets_ns[setup.host(identity)] = 0
        self._latency = np.zeros((setup.num_hosts, latency.BINS), dtype=np.uint64)
        self._delays_ns: list[list[int]] = [[] for _ in range(setup.num_hosts)]
        """By host, of messages that are in no bin yet."""
        self._counts = [[0, 0, 0, 0] for _ in self._out_peers]
        self._tcp_open: dict[tuple[str, str], tuple[int, int]] = {}
        self._tcp_closed = (0, 0)
        self._said_unreadable = False

    @property
    def endpoint(self) -> str:
        """Where in-neighbours reach us, with the real port."""
        return self._inbox.endpoint

    @property
    def inbox_socket(self) -> zmq.Socket[bytes]:
        return self._inbox.socket

    # --- opening ----------------------------------------------------------------------------------

    def fits(self, endpoints: tuple[str, ...]) -> bool:
        """Whether there is one endpoint for each out-edge."""
        return len(endpoints) == len(self._out_peers)

    def connect(self, endpoints: tuple[str, ...]) -> None:
        """Open one connection per out-edge, in the order of the offsets."""
        for k, endpoint in enumerate(endpoints):
            self.out_sockets.append(self._open(k, endpoint).socket)
        self._rekeyed.clear()

    def _open(self, k: int, endpoint: str, *, queues: bool = False) -> Channel:
        channel = self._out[k] = Channel(
            self._context,
            endpoint,
            agent_routing_id(self._setup.identity),
            self._traffic,
            EDGE,
            curve=self._client_of(k),
            queues=queues,
        )
        self._traffic.add("edge_handshake_zmtp", channel.handshake_bytes)
        return channel

    @property
    def open_edges(self) -> tuple[int, ...]:
        """Offsets of the out-edges whose connections are open."""
        return tuple(self._out)

    def _client_of(self, k: int) -> CurveClient | None:
        """Keys for the edge to out-neighbour k."""
        if self._keyring is None:
            return None
        return self._keyring.client_of(agent_routing_id(self._out_peers[k]).decode())

    def _admit(self, keyring: Keyring) -> None:
        """From now on let in-neighbours in by these keys."""
        assert self._gatekeeper is not None
        names = [name.decode() for name in self._in_names]
        self._gatekeeper.admit(INBOX, {name: keyring.public[name] for name in names})

    def learn(self, moves: Sequence[Move]) -> None:
        """Agents have moved to other hosts and have new keys; an address book follows."""
        if self._keyring is None:
            return
        old, public = self._keyring.public, renewed(self._keyring.public, moves)
        self._keyring = replace(self._keyring, public=public)
        self._admit(self._keyring)
        names = [agent_routing_id(peer).decode() for peer in self._out_peers]
        self._rekeyed |= {k for k, name in enumerate(names) if public[name] != old[name]}
        for move in moves:
            if (name := move.name.encode()) in self._in_edges:
                peer, k, _ = self._in_edges[name]
                self._in_edges[name] = peer, k, move.host

    def move(self, endpoints: tuple[str, ...]) -> None:
        """Follow out-neighbours that listen elsewhere now; as after a restart, they say hello."""
        for k, channel in self._out.items():
            endpoint = endpoints[k]
            if channel.move(endpoint, self._client_of(k) if k in self._rekeyed else None):
                self._traffic.add("edge_handshake_zmtp", channel.handshake_bytes)
        self._rekeyed.clear()

    @property
    def unwelcomed(self) -> list[int]:
        """Out-neighbours that have not answered our greeting yet."""
        return [self._out_peers[k] for k in sorted(self._unwelcomed)]

    @property
    def all_in_neighbours_greeted(self) -> bool:
        return len(self._incarnations) == len(self._in_names)

    def greet(self, now_s: float) -> float:
        """Say hello over the edges that have not been answered, once in each period.

        Returns the seconds after which to call again, infinity if there is none to greet.
        """
        if not self._unwelcomed or not self._out:
            return float("inf")
        if now_s >= self._greet_again_s:  # a neighbour may have died with our hello in hand
            self._ungreeted = set(self._unwelcomed)
            self._greet_again_s = now_s + self._greet_period_s
            self._greet_period_s = min(2 * self._greet_period_s, _LONGEST_GREET_PERIOD_S)
            self._retry_at_s, self._retry_s = now_s, _GREET_RETRY_S
        if not self._ungreeted:
            return self._greet_again_s - now_s
        if now_s < self._retry_at_s:
            return self._retry_at_s - now_s
        for k in sorted(self._ungreeted):
            if self._out[k].is_writable:
                self._say_hello(k)
        if not self._ungreeted:
            return self._greet_again_s - now_s
        self._retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, GREET_PERIOD_S)
        return self._retry_at_s - now_s

    def _say_hello(self, k: int) -> None:
        channel = self._out[k]
        hello = wire.encode(wire.EdgeHello(self._setup.identity, self._life_of(k)))
        if channel.send_frame(hello, None):
            self._traffic.add("edge_handshake_zmtp", channel.framed(len(hello)))
            self._ungreeted.discard(k)

    def _life_of(self, k: int) -> int:
        """What a hello says of our connection to out-neighbour k: another has another number."""
        return self._setup.incarnation

    def _answer(self, name: bytes, hello: wire.EdgeHello) -> None:
        welcome = wire.encode(wire.EdgeWelcome(self._setup.identity, self._setup.incarnation))
        if self._inbox.answer(name, welcome):
            self._traffic.add("edge_handshake_zmtp", self._inbox.framed(len(welcome)))
        # Another life has another connection; a greeting said twice has not.
        if self._incarnations.get(hello.sender) != hello.incarnation:
            self._traffic.add("edge_handshake_zmtp", self._inbox.handshake_bytes)
        self._incarnations[hello.sender] = hello.incarnation
        self._newcomers = True

    def take_newcomers(self) -> bool:
        """Whether an in-neighbour has said hello since the last call."""
        newcomers, self._newcomers = self._newcomers, False
        return newcomers

    # --- packets ----------------------------------------------------------------------------------

    def take_messages(self) -> Iterator[wire.Message]:
        """Messages that have arrived; greetings among them are answered."""
        for _ in range(_MOST_AT_ONCE):
            message = self.take_message() if self._inbox.has_arrived else None
            if message is None:
                return
            yield message

    def take_message(self) -> wire.Message | None:
        """One message, if one has arrived; greetings before it are answered."""
        for _ in range(_MOST_AT_ONCE):
            arrived = self._inbox.take(wire.Message, wire.EdgeHello)
            if arrived is None:
                return None
            name, packet = arrived
            assert isinstance(packet, (wire.Message, wire.EdgeHello))
            agent, offset, host = self._in_edges.get(name, _NOBODY)
            if agent != packet.sender:
                self._traffic.dropped("unknown_sender")
            elif isinstance(packet, wire.EdgeHello):
                self._answer(name, packet)
            else:
                self._count_arrival(packet, offset, host)
                return packet
        return None

    def _count_arrival(self, message: wire.Message, offset: int, host: int) -> None:
        count = self._counts[offset]
        count[2] += 1
        clock_offset_ns = self._offsets_ns[host]
        if clock_offset_ns is not None:
            delay_ns = time.monotonic_ns() - message.send_ns - clock_offset_ns
            if delay_ns < 0:
                delay_ns = 0
            count[3] += delay_ns
            delays_ns = self._delays_ns[host]
            delays_ns.append(delay_ns)
            if len(delays_ns) >= _MOST_DELAYS:
                self._sort_delays()

    def _sort_delays(self) -> None:
        """Put the delays since the last report into their bins, all at once."""
        for bins, delays_ns in zip(self._latency, self._delays_ns, strict=True):
            if delays_ns:
                bins += latency.histogram(delays_ns)
                delays_ns.clear()

    def take_beacon(self, k: int) -> wire.Beacon | None:
        """One beacon of out-neighbour k, if one has arrived; a welcome is taken note of."""
        packet = self._out[k].take(wire.Beacon, wire.EdgeWelcome)
        return None if packet is None else self._accept(k, packet)

    def drain_beacons(self, k: int) -> Iterator[wire.Beacon]:
        """All beacons of out-neighbour k that have arrived."""
        for packet in self._out[k].drain(wire.Beacon, wire.EdgeWelcome):
            beacon = self._accept(k, packet)
            if beacon is not None:
                yield beacon

    def _accept(self, k: int, packet: wire.Packet) -> wire.Beacon | None:
        assert isinstance(packet, (wire.Beacon, wire.EdgeWelcome))
        if packet.sender != self._out_peers[k]:
            self._traffic.dropped("unknown_sender")
            return None
        if isinstance(packet, wire.EdgeWelcome):
            self._unwelcomed.discard(k)
            return None
        return packet

    def send_message(self, command: SendMessage) -> None:
        if not self._out:  # nobody has told us yet where they are
            for _ in command.edges:
                self._traffic.dropped("unreachable")
            return
        frame = self._stamped(wire.Message, command)
        framed, sent = frame_zmtp_bytes(len(frame), curve=self._curve), 0
        for k in command.edges:
            if self._out[k].send_frame(frame, None):
                count = self._counts[k]
                count[0] += 1
                count[1] += framed
                sent += 1
        self._traffic.sent(_MESSAGE, len(frame), curve=self._curve, packets=sent)

    def send_beacon(self, command: SendBeacon) -> None:
        frame = self._stamped(wire.Beacon, command)
        self._inbox.send_to_all(self._in_names, frame, _BEACON)

    def _stamped(
        self, kind: type[wire.Message | wire.Beacon], command: SendMessage | SendBeacon
    ) -> bytes:
        """Encode with the time of sending; all receivers get the same bytes."""
        identity, now_ns = self._setup.identity, time.monotonic_ns()
        return wire.encode(kind(identity, command.tick, now_ns, command.copies, command.rows))

    # --- figures ----------------------------------------------------------------------------------

    def set_clock_offsets(self, offsets_ns: NDArray[np.int64]) -> None:
        """[hosts] what to add to the clocks of other hosts to read them as ours."""
        if offsets_ns.shape != (self._setup.num_hosts,):
            self._traffic.dropped("shape")
            return
        if not self._setup.telemetry:
            return
        self._offsets_ns = [
            None if offset_ns == wire.UNKNOWN_OFFSET else offset_ns
            for offset_ns in offsets_ns.tolist()
        ]
        self._offsets_ns[self._setup.host(self._setup.identity)] = 0

    def latency(self) -> NDArray[np.uint64]:
        """[hosts, BINS] latency of messages by the sender's host."""
        self._sort_delays()
        return self._latency.copy()

    def counts(self) -> NDArray[np.uint64]:
        """[K, 4] as in AgentReport.edges."""
        counts = [[*others, min(latency_ns, _MOST_NS)] for *others, latency_ns in self._counts]
        return np.array(counts, dtype=np.uint64)

    def update_counters(self) -> None:
        """Put into the traffic counters what others count: the kernel and the gatekeeper."""
        if self._gatekeeper is not None:
            self._traffic.set("refused", self._gatekeeper.refused)
        if self._setup.is_tcp:
            self._read_tcp_info()

    def _read_tcp_info(self) -> None:
        """In-edges share our inbox's port, out-edges lead to the neighbours' inboxes."""
        inbox = self._inbox.endpoint.removeprefix("tcp://")
        outs = {
            last_endpoint(channel.socket).removeprefix("tcp://") for channel in self._out.values()
        }
        # The kernel knows no names, and where they lead may change: there the port has to do.
        named = {port for host, _, port in (out.rpartition(":") for out in outs) if is_name(host)}
        try:
            found = connections()
        except OSError as error:  # no descriptor left; the last reading holds until the next
            self._traffic.add("readings_failed")
            if not self._said_unreadable:
                self._said_unreadable = True
                logger.warning("connections cannot be read: %s", error)
            return
        self.count_tcp(
            [
                c
                for c in found
                if c.local == inbox or c.peer in outs or c.peer.rpartition(":")[2] in named
            ]
        )

    def count_tcp(self, found: Sequence[TcpConnection]) -> None:
        """A connection that has closed keeps its last reading: counters never fall."""
        readings = {(c.local, c.peer): (c.bytes_sent, c.bytes_received) for c in found}
        sent, received = self._tcp_closed
        for ends, last in self._tcp_open.items():
            now = readings.get(ends, (-1, -1))
            if now[0] < last[0] or now[1] < last[1]:  # gone, or another one between the same ports
                sent, received = sent + last[0], received + last[1]
        self._tcp_closed, self._tcp_open = (sent, received), readings
        for reading in readings.values():
            sent, received = sent + reading[0], received + reading[1]
        self._traffic.set("edge_tcp_sent", sent)
        self._traffic.set("edge_tcp_received", received)

    def close(self) -> None:
        for end in (*self._out.values(), self._inbox):
            end.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
