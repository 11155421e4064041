"""Packets over ZeroMQ: one end that connects, one end that binds.

    Channel (DEALER, connects)  ⇄  Hub (ROUTER, binds, knows its peers by routing id)

Both count what crosses, by class and layer, and count and drop what does not decode. Neither
blocks: a packet that cannot leave is dropped and counted, because in lock-step a late packet is
worth nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import zmq

from runtime import wire
from runtime.errors import SetupError, WireFormatError
from runtime.traffic import CLASS_OF, Traffic, TrafficClass
from runtime.wire import Packet

_DRAIN_BUDGET = 1024
"""Packets taken from a socket in one go, so that a flood cannot starve the others."""


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
CONTROL = Limits(send=256, receive=1000, largest_bytes=64 * wire.MIB)


def agent_routing_id(agent: int) -> bytes:
    """Three bytes that name an agent to a ROUTER (a leading zero byte is reserved by ZeroMQ)."""
    return b"a" + agent.to_bytes(2, "little")


def agent_of(routing_id: bytes) -> int | None:
    """The agent that a routing id names, if it names one."""
    if len(routing_id) == 3 and routing_id[:1] == b"a":
        return int.from_bytes(routing_id[1:], "little")
    return None


def last_endpoint(socket: zmq.Socket[bytes]) -> str:
    """Where a socket was bound or connected last, with the real port."""
    return cast("bytes", socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")


def _traffic_class(packet: Packet) -> TrafficClass:
    return CLASS_OF.get(type(packet), TrafficClass.CONTROL)


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
    ) -> None:
        self._traffic = traffic
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.setsockopt(zmq.SNDHWM, limits.send)
        self.socket.setsockopt(zmq.RCVHWM, limits.receive)
        self.socket.setsockopt(zmq.MAXMSGSIZE, limits.largest_bytes)
        self.socket.setsockopt(zmq.LINGER, linger_ms)
        # Nothing is queued for a peer that is away: after a restart the oldest would arrive first.
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        self.socket.connect(endpoint)

    @property
    def is_writable(self) -> bool:
        """Whether the connection stands and has room; saves a refused packet from being counted."""
        return bool(self.socket.poll(0, zmq.POLLOUT))

    def send(self, packet: Packet) -> bool:
        return self.send_frame(wire.encode(packet), _traffic_class(packet))

    def send_frame(self, frame: bytes, traffic_class: TrafficClass | None) -> bool:
        """Send an encoded packet, counted under its class (None: the caller counts it)."""
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self._traffic.dropped("full")
            return False
        if traffic_class is not None:
            self._traffic.sent(traffic_class, len(frame))
        return True

    def drain(self, *accepted: type[Packet]) -> Iterator[Packet]:
        """Everything that has arrived and decodes as one of the accepted kinds."""
        for _ in range(_DRAIN_BUDGET):
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            packet = _decode(frame, accepted, self._traffic)
            if packet is not None:
                yield packet

    def take(self, *accepted: type[Packet]) -> Packet | None:
        """One packet, if there is one and it decodes: saves the failing look for a second."""
        try:
            frame = self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        return _decode(frame, accepted, self._traffic)

    def close(self) -> None:
        self.socket.close()


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
    ) -> None:
        """Bind; a tcp endpoint may end in ":*" for any free port.

        Raises:
            SetupError: the endpoint cannot be bound.
        """
        self._traffic = traffic
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.SNDHWM, limits.send)
        self.socket.setsockopt(zmq.RCVHWM, limits.receive)
        self.socket.setsockopt(zmq.MAXMSGSIZE, limits.largest_bytes)
        self.socket.setsockopt(zmq.LINGER, linger_ms)
        self.socket.setsockopt(zmq.BACKLOG, 4096)  # a thousand agents connect at once
        # Without it a restarted process with the same id would be ignored in silence.
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # lost packets are counted, not swallowed
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise SetupError(f"cannot listen on {endpoint}: {error.strerror}") from error
        self.endpoint: str = last_endpoint(self.socket)

    def send(self, peer: bytes, packet: Packet) -> bool:
        return self.send_frame(peer, wire.encode(packet), _traffic_class(packet))

    def send_frame(self, peer: bytes, frame: bytes, traffic_class: TrafficClass | None) -> bool:
        try:
            self.socket.send_multipart((peer, frame), zmq.NOBLOCK)
        except zmq.Again:
            self._traffic.dropped("full")
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._traffic.dropped("unreachable")
            return False
        if traffic_class is not None:
            self._traffic.sent(traffic_class, len(frame))
        return True

    def drain(self, *accepted: type[Packet]) -> Iterator[tuple[bytes, Packet]]:
        """Everything that has arrived, with the routing id of its sender."""
        for _ in range(_DRAIN_BUDGET):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) != 2:  # ours are single frames behind the routing id
                self._traffic.dropped("decode")
                continue
            packet = _decode(parts[1], accepted, self._traffic)
            if packet is not None:
                yield parts[0], packet

    def close(self) -> None:
        self.socket.close()


def _decode(frame: bytes, accepted: tuple[type[Packet], ...], traffic: Traffic) -> Packet | None:
    try:
        packet = wire.decode(frame, *accepted)
    except WireFormatError as error:
        traffic.dropped(error.reason)
        return None
    if not isinstance(packet, (wire.EdgeHello, wire.EdgeWelcome)):
        traffic.received(_traffic_class(packet), len(frame))
    return packet
