"""Packets over ZeroMQ: one end that connects, one end that binds.

    Channel (DEALER, connects)  ⇄  Hub (ROUTER, binds, knows its peers by name)

Both count what crosses, by class and layer, and count and drop what does not decode. Neither
blocks: a packet that cannot leave is dropped and counted, because in lock-step a late packet is
worth nothing.

A peer's name is its routing id, as it claims, on sockets that only this machine can reach; with
CURVE it is the name of its key (runtime/net/security.py), whatever it claims, and the first thing
that a Channel sends on every new connection is an empty frame, so that the Hub knows whom it has
there.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import zmq

from runtime.net import wire
from runtime.net.doorbook import Doorbook
from runtime.net.errors import SetupError, WireFormatError
from runtime.net.security import CurveClient, CurveServer, Gatekeeper, require_secure
from runtime.net.traffic import (
    CLASS_OF,
    FORM_OF,
    Traffic,
    TrafficClass,
    curve_handshake_bytes,
    frame_zmtp_bytes,
    handshake_zmtp_bytes,
)
from runtime.net.wire import Packet

logger = logging.getLogger(__name__)

_DRAIN_BUDGET = 1024
"""Packets taken from a socket in one go, so that a flood cannot starve the others."""
_NOBLOCK, _NOBLOCK_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
"""As plain numbers: an enumeration costs more than the call that it is handed to."""
_RCVMORE, _EVENTS, _POLLIN = zmq.SocketOption.RCVMORE, zmq.SocketOption.EVENTS, int(zmq.POLLIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Queue lengths in packets; a peer that sends more than largest_bytes is cut off."""

    send: int
    receive: int
    largest_bytes: int


EDGE = Limits(send=16, receive=16, largest_bytes=16 * wire.MIB)
STEP = Limits(send=16, receive=64, largest_bytes=16 * wire.MIB)
TRAJECTORIES = Limits(send=4096, receive=4096, largest_bytes=256 * wire.MIB)
"""Deep, because the learner looks up only between two updates; the world's wait for a learner that
is behind (learner.max_backlog) is what bounds them."""
CONTROL = Limits(send=4096, receive=4096, largest_bytes=64 * wire.MIB)
"""Room for a word about each of a few thousand agents, who may all come or go at once."""


_AGENT = b"agent-"
_NODE = b"node-"
LAUNCHER, WORLD, LEARNER = "launcher", "world", "learner"
"""Names of the processes that a run has one of."""


def agent_routing_id(agent: int) -> bytes:
    """The name of an agent: b"agent-17"."""
    return b"%s%d" % (_AGENT, agent)


def agent_of(routing_id: bytes) -> int | None:
    """The agent that a routing id names, if it names one."""
    digits = routing_id.removeprefix(_AGENT)
    if digits is routing_id or not digits.isdigit() or len(digits) > 5:
        return None
    agent = int(digits)
    return agent if agent < 1 << 16 and agent_routing_id(agent) == routing_id else None


def node_routing_id(host: str) -> bytes:
    """The name of a host's node: b"node-b"."""
    return _NODE + host.encode()


def host_of(routing_id: bytes) -> str | None:
    """The host whose node a routing id names, if it names one."""
    if not routing_id.startswith(_NODE):
        return None
    return routing_id.removeprefix(_NODE).decode(errors="replace")


def last_endpoint(socket: zmq.Socket[bytes]) -> str:
    """Where a socket was bound or connected last, with the real port."""
    return cast("bytes", socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")


_CONTROL, _PARAMETERS = TrafficClass.CONTROL, TrafficClass.PARAMETERS
_COUNTED_AS: dict[type[Packet], TrafficClass | None] = {
    **CLASS_OF,
    wire.EdgeHello: None,
    wire.EdgeWelcome: None,
}
"""Class of what arrives; None: the edge counts it."""


def _traffic_class(packet: Packet) -> TrafficClass:
    return CLASS_OF.get(type(packet), TrafficClass.CONTROL)


def _plain_send(socket: zmq.Socket[bytes]) -> Callable[[bytes, int], object]:
    """Its method without the wrapper that is there for kinds of sockets that we do not have."""
    return cast("Any", super(zmq.Socket, socket)).send


def _plain_get(socket: zmq.Socket[bytes]) -> Callable[[int], int]:
    """Its way of asking for an option that is a number."""
    return cast("Any", super(zmq.Socket, socket)).get


def _watch_connection(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Have the kernel notice within seconds that the other host is gone.

    ZeroMQ's own heartbeats would do as well, but nobody counts their bytes; those of TCP carry no
    payload. A peer that is alive and does not read is no matter of the connection.
    """
    socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
    if "://[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 2)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        socket.setsockopt(zmq.TCP_MAXRT, 5000)


class Channel:
    """The connecting end: one DEALER to one Hub."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        routing_id: bytes,
        traffic: Traffic,
        limits: Limits,
        *,
        linger_ms: int = 0,
        curve: CurveClient | None = None,
        queues: bool = False,
    ) -> None:
        """Connect; with `curve` the routing id stays here, the Hub knows us by our key.

        Args:
            queues: what is sent before the connection stands waits for it; else it is refused.

        Raises:
            SetupError: others could reach the endpoint, and there are no keys; or it is none.
        """
        require_secure(endpoint, curve)
        self._traffic = traffic
        self._curve = curve is not None
        self._name = routing_id
        self.socket = context.socket(zmq.DEALER)
        if curve is None:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        else:
            curve.apply(self.socket)
            self.socket.setsockopt(zmq.PROBE_ROUTER, 1)
        _watch_connection(self.socket, endpoint)
        self.socket.setsockopt(zmq.CONNECT_TIMEOUT, 2000)
        self.socket.setsockopt(zmq.SNDHWM, limits.send)
        self.socket.setsockopt(zmq.RCVHWM, limits.receive)
        self.socket.setsockopt(zmq.MAXMSGSIZE, limits.largest_bytes)
        self.socket.setsockopt(zmq.LINGER, linger_ms)
        # Nothing is queued for a peer that is away: after a restart the oldest would arrive first.
        self.socket.setsockopt(zmq.IMMEDIATE, int(not queues))
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.socket.close(0)
            raise SetupError(f"cannot connect to {endpoint}: {error.strerror}") from error
        self._endpoint = endpoint
        self._receive, self._hand_over = self.socket.recv, _plain_send(self.socket)
        self._ask = _plain_get(self.socket)

    def move(self, endpoint: str, curve: CurveClient | None = None) -> bool:
        """Connect to where the Hub is now, with `curve` by these keys; False: there it was already.

        Raises:
            SetupError: others could reach the endpoint, and there are no keys; or it is none.
        """
        if endpoint == self._endpoint and curve is None:
            return False
        if not self._curve:
            require_secure(endpoint, None)
        if curve is not None:
            curve.apply(self.socket)  # for connections from now on
        before, self._endpoint = self._endpoint, endpoint
        if before == endpoint:
            self.socket.disconnect(before)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise SetupError(f"cannot connect to {endpoint}: {error.strerror}") from error
        if before != endpoint:
            self.socket.disconnect(before)
        return True

    @property
    def handshake_bytes(self) -> int:
        """ZMTP bytes that this end sends to open its connection."""
        if self._curve:
            return curve_handshake_bytes(is_server=False) + self.framed(0)
        return handshake_zmtp_bytes(len(self._name))

    def framed(self, payload_bytes: int) -> int:
        """ZMTP bytes of a packet of that size on this connection."""
        return frame_zmtp_bytes(payload_bytes, curve=self._curve)

    @property
    def is_writable(self) -> bool:
        """Whether the connection stands and has room; saves a refused packet from being counted."""
        return bool(self.socket.poll(0, zmq.POLLOUT))

    def send(self, packet: Packet) -> bool:
        return self.send_frame(wire.encode(packet), _traffic_class(packet))

    def send_frame(self, frame: bytes, traffic_class: TrafficClass | None) -> bool:
        """Send an encoded packet, counted under its class (None: the caller counts it)."""
        try:
            self._hand_over(frame, _NOBLOCK)
        except zmq.Again:
            self._traffic.dropped("full")
            return False
        if traffic_class is not None:
            self._traffic.sent(traffic_class, len(frame), curve=self._curve)
        return True

    def offer(self, packet: Packet) -> bool:
        """Send a packet for which the other end asks again over a new connection.

        False, and nothing is counted as dropped, where no connection stands or it has no room.
        """
        frame = wire.encode(packet)
        try:
            self._hand_over(frame, _NOBLOCK)
        except zmq.Again:
            return False
        self._traffic.sent(_traffic_class(packet), len(frame), curve=self._curve)
        return True

    def drain(self, *accepted: type[Packet]) -> Iterator[Packet]:
        """Everything that has arrived and decodes as one of the accepted kinds."""
        for _ in range(_DRAIN_BUDGET):
            packet = self.take(*accepted) if self.has_arrived else None
            if packet is None:
                return
            yield packet

    @property
    def has_arrived(self) -> bool:
        """Whether something is here; a `take` that finds nothing costs ten times as much."""
        return bool(self._ask(_EVENTS) & _POLLIN)

    def take(self, *accepted: type[Packet]) -> Packet | None:
        """One packet that decodes, if there is one: saves the failing look for a second."""
        for _ in range(_DRAIN_BUDGET):
            try:
                frame = self._receive(_NOBLOCK)
            except zmq.Again:
                return None
            packet = _decode(frame, accepted, self._traffic, curve=self._curve)
            if packet is not None:
                return packet
        return None

    def close(self, linger_ms: int | None = None) -> None:
        """Close; what is queued may take so long to leave, by default as was said at first."""
        self.socket.close(linger_ms)


class Hub:
    """The binding end: one ROUTER for many Channels."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        traffic: Traffic,
        limits: Limits,
        *,
        linger_ms: int = 0,
        curve: CurveServer | None = None,
    ) -> None:
        """Bind; a tcp endpoint may end in ":*" for any free port.

        With `curve` the context needs a Gatekeeper, made before.

        Raises:
            SetupError: the endpoint cannot be bound, or others could reach it and there are no
                keys.
        """
        require_secure(endpoint, curve)
        self._traffic = traffic
        self._doorbook = Doorbook() if curve is not None else None
        self._arrivals: set[bytes] = set()
        self.socket = context.socket(zmq.ROUTER)
        _watch_connection(self.socket, endpoint)
        self.socket.setsockopt(zmq.SNDHWM, limits.send)
        self.socket.setsockopt(zmq.RCVHWM, limits.receive)
        self.socket.setsockopt(zmq.MAXMSGSIZE, limits.largest_bytes)
        self.socket.setsockopt(zmq.LINGER, linger_ms)
        self.socket.setsockopt(zmq.BACKLOG, 4096)  # a thousand agents connect at once
        if curve is None:
            # Without it a restarted process with the same id would be ignored in silence.
            self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        else:
            curve.apply(self.socket)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # lost packets are counted, not swallowed
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise SetupError(f"cannot listen on {endpoint}: {error.strerror}") from error
        self.endpoint: str = last_endpoint(self.socket)
        self._receive, self._hand_over = self.socket.recv, _plain_send(self.socket)
        self._ask = _plain_get(self.socket)
        gatekeeper = None if curve is None else Gatekeeper.of(context)
        self._is_watched = gatekeeper is not None and self.endpoint.startswith("tcp://")
        if curve is not None and gatekeeper is not None and self._is_watched:
            gatekeeper.watch(self.socket, self.endpoint, curve.domain)

    @property
    def handshake_bytes(self) -> int:
        """ZMTP bytes that this end sends to open one connection."""
        if self._doorbook is not None:
            return curve_handshake_bytes(is_server=True)
        return handshake_zmtp_bytes(0)

    def framed(self, payload_bytes: int) -> int:
        """ZMTP bytes of a packet of that size on a connection of this socket."""
        return frame_zmtp_bytes(payload_bytes, curve=self._doorbook is not None)

    def send(self, peer: bytes, packet: Packet) -> bool:
        return self.send_frame(peer, wire.encode(packet), _traffic_class(packet))

    def answer(self, peer: bytes, frame: bytes) -> bool:
        """Send to a peer that asks again if it is still there; the caller counts what was sent.

        False: it is gone, or there is no room.
        """
        try:
            return self._put(peer, frame)
        except zmq.Again:
            return False

    def send_frame(self, peer: bytes, frame: bytes, traffic_class: TrafficClass | None) -> bool:
        curve = self._doorbook is not None
        try:
            if not self._put(peer, frame):
                self._traffic.dropped("unreachable")
                return False
        except zmq.Again:
            self._traffic.dropped("full")
            return False
        if traffic_class is not None:
            self._traffic.sent(traffic_class, len(frame), curve=curve)
        return True

    def send_to_all(
        self, peers: Sequence[bytes], frame: bytes, traffic_class: TrafficClass
    ) -> None:
        """The same frame for each of these peers, counted at once."""
        if self._doorbook is not None:
            for peer in peers:
                self.send_frame(peer, frame, traffic_class)
            return
        hand_over, sent = self._hand_over, len(peers)
        for peer in peers:
            try:
                hand_over(peer, _NOBLOCK_MORE)
                hand_over(frame, _NOBLOCK)
            except zmq.ZMQError as error:
                sent -= 1
                self._not_sent(error)
        self._traffic.sent(traffic_class, len(frame), packets=sent)

    def _not_sent(self, error: zmq.ZMQError) -> None:
        """Count a packet that could not leave.

        Raises:
            zmq.ZMQError: for another reason than these.
        """
        if isinstance(error, zmq.Again):
            self._traffic.dropped("full")
        elif error.errno == zmq.EHOSTUNREACH:
            self._traffic.dropped("unreachable")
        else:
            raise error

    def _put(self, peer: bytes, frame: bytes) -> bool:
        """Whether there is a connection to the peer, which has taken the frame.

        Raises:
            zmq.Again: there is one, and it is full.
        """
        if self._doorbook is None:
            return self._write(peer, frame)
        while (connection := self._doorbook.connection_of(peer)) is not None:
            if self._write(connection, frame):
                return True
            self._doorbook.forget(connection)
        return False

    def _write(self, connection: bytes, frame: bytes) -> bool:
        try:
            # Two calls cost less than half of what send_multipart does.
            self._hand_over(connection, _NOBLOCK_MORE)
            self._hand_over(frame, _NOBLOCK)
        except zmq.Again:
            raise
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def drain(self, *accepted: type[Packet]) -> Iterator[tuple[bytes, Packet]]:
        """Everything that has arrived, with the name of its sender."""
        for _ in range(_DRAIN_BUDGET):
            arrived = self.take(*accepted) if self.has_arrived else None
            if arrived is None:
                return
            yield arrived

    @property
    def has_arrived(self) -> bool:
        """Whether something is here; a `take` that finds nothing costs ten times as much."""
        return bool(self._ask(_EVENTS) & _POLLIN)

    def take(self, *accepted: type[Packet]) -> tuple[bytes, Packet] | None:
        """One packet that decodes, if there is one, with the name of its sender."""
        if self._doorbook is not None:
            return self._take_by_key(accepted, self._doorbook)
        for _ in range(_DRAIN_BUDGET):
            try:
                peer = self._receive(_NOBLOCK)
            except zmq.Again:
                return None
            frame = self._receive()
            if self._ask(_RCVMORE):  # ours are single frames
                self.socket.recv_multipart()
                self._traffic.dropped("decode")
                continue
            packet = _decode(frame, accepted, self._traffic, curve=False)
            if packet is not None:
                return peer, packet
        return None

    def _take_by_key(
        self, accepted: tuple[type[Packet], ...], doorbook: Doorbook
    ) -> tuple[bytes, Packet] | None:
        """The same where a sender is known by its key, which comes with each frame."""
        for _ in range(_DRAIN_BUDGET):
            try:
                peer = self.socket.recv(_NOBLOCK)
            except zmq.Again:
                return None
            first = self.socket.recv(copy=False)
            is_single = not first.more  # ours are single frames
            rest = [] if is_single else self.socket.recv_multipart()
            peer = self._name_of(peer, first, doorbook)
            if is_single and not len(first):
                continue  # a new connection has made itself known
            if peer is None or rest:
                self._traffic.dropped("decode" if peer else "duplicate")
                continue
            packet = _decode(first.bytes, accepted, self._traffic, curve=True)
            if packet is not None:
                return peer, packet
        return None

    def _name_of(self, connection: bytes, first: zmq.Frame, doorbook: "Doorbook") -> bytes | None:
        """The name behind a connection that says this; None: another one speaks for it."""
        # Asked again for every packet, which costs nothing that can be measured: a client may claim
        # the routing id of a connection that has gone, and would pass for whoever had that.
        name = cast("str", first.get("User-Id")).encode()
        if doorbook.enter(connection, name):
            self._arrivals.add(name)
        while (newer := doorbook.newer_than(connection)) is not None:
            try:
                # An empty frame tells whether the newer connection still stands; nobody minds it.
                if self._write(newer, b""):
                    return None
            except zmq.Again:
                return None
            doorbook.forget(newer)
        return name

    def take_arrivals(self) -> set[bytes]:
        """Names that have opened a connection since the last call, by what `drain` has seen; what
        was sent to them before may have died with an earlier one. Always empty without `curve`.
        """
        arrivals, self._arrivals = self._arrivals, set()
        return arrivals

    def close(self) -> None:
        if self._is_watched and not self.socket.closed:
            self.socket.disable_monitor()
        self.socket.close()


def _decode(
    frame: bytes, accepted: tuple[type[Packet], ...], traffic: Traffic, *, curve: bool
) -> Packet | None:
    if curve and not frame:
        return None  # a Hub asks whether we are still there
    try:
        packet = wire.decode(frame, *accepted)
    except WireFormatError as error:
        traffic.dropped(error.reason)
        return None
    traffic_class = _COUNTED_AS.get(type(packet), _CONTROL)
    if traffic_class is None:
        return packet
    traffic.received(traffic_class, len(frame), curve=curve)
    if traffic_class is _PARAMETERS and (form := FORM_OF.get(type(packet))):
        traffic.received_version(form, len(frame))
    return packet
