"""A node's conversation with the other nodes about what time it is.

    ClockProbe ──▶ the other node's Hub        ClockReply ◀──        (clock.py estimates)

    estimates -> ClockOffsets for the agents, PeerClock for /metrics

Estimates are per pair of hosts and not per pair of agents: a thousand agents on four hosts need
six.
"""

import logging
import time
from typing import Any, cast

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.deployment.hosts import Hosts
from runtime.host.clock import ClockEstimate, HostClock
from runtime.host.host_table import HostTable, PeerClock
from runtime.net import wire
from runtime.net.latency import quantile_ns
from runtime.net.security import Gatekeeper, Keyring
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, Channel, Hub, node_routing_id

logger = logging.getLogger(__name__)

_DOMAIN = "node"
_STRANGE_AFTER = 3
"""Failed handshakes in a row that are no accident, such as a node that ends in the midst of one."""
_TOLD_WITHIN_NS = 1_000
"""Latencies are binned from 1 µs up: agents need not know offsets any better."""


class _Peer:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.clock = HostClock()
        self._failures = 0
        """Handshakes in a row that have failed."""
        self._monitor = channel.socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            # All that a client sees whose server has other keys than it believes.
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
        )

    def look(self, name: str) -> None:
        """Say once what is wrong with the connection, and once that it is right again."""
        while self._monitor.poll(0):
            event = cast("dict[str, Any]", recv_monitor_message(self._monitor))["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                if self._failures >= _STRANGE_AFTER:
                    logger.warning("host %s and this one know each other now", name)
                self._failures = 0
                continue
            self._failures += 1
            if self._failures == _STRANGE_AFTER:
                logger.warning(
                    "host %s and this one do not know each other's keys: their bundles are of "
                    "different deployments, or one is stale; copy the newest to both",
                    name,
                )

    def close(self) -> None:
        self.channel.socket.disable_monitor()
        self._monitor.close(0)
        self.channel.close()


class HostClocks:
    """Probes to every other host, answers to theirs, and what has come of it."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        hosts: Hosts,
        host: str,
        keyring: Keyring,
        traffic: Traffic | None = None,
    ) -> None:
        """Listen on the host's own port and connect to the others.

        Args:
            traffic: where packets are counted, sent, received and dropped; None counts for nobody.

        Raises:
            SetupError: the port cannot be bound.
        """
        own = node_routing_id(host)
        self._hosts = hosts
        traffic = Traffic() if traffic is None else traffic
        others = [name for name in hosts.names if name != host]
        identities = {name: node_routing_id(name).decode() for name in others}
        self._gatekeeper = Gatekeeper(context)
        self._gatekeeper.admit(
            _DOMAIN, {identity: keyring.public[identity] for identity in identities.values()}
        )
        self._hub = Hub(
            context,
            hosts.endpoint(own.decode()),
            traffic,
            CONTROL,
            curve=keyring.server(_DOMAIN),
        )
        self._peers = {
            name: _Peer(
                Channel(
                    context,
                    hosts.endpoint(identity),
                    own,
                    traffic,
                    CONTROL,
                    curve=keyring.client_of(identity),
                )
            )
            for name, identity in identities.items()
        }
        self._told: tuple[int, ...] | None = None

    def move(self, hosts: Hosts) -> None:
        """Follow hosts that are elsewhere now; another machine has another clock."""
        self._hosts = hosts
        for name, peer in self._peers.items():
            if peer.channel.move(hosts.endpoint(node_routing_id(name).decode())):
                peer.clock = HostClock()

    @property
    def sockets(self) -> "list[zmq.Socket[bytes]]":
        """To be watched, so that stamps are taken when packets arrive."""
        return [self._hub.socket, *(peer.channel.socket for peer in self._peers.values())]

    @property
    def refused(self) -> int:
        """Handshakes of other nodes turned away."""
        return self._gatekeeper.refused

    def take(self) -> None:
        """Answer probes and hear answers."""
        for sender, packet in self._hub.drain(wire.ClockProbe):
            received_ns = time.monotonic_ns()
            assert isinstance(packet, wire.ClockProbe)
            reply = wire.ClockReply(
                packet.sequence, packet.sent_ns, received_ns, time.monotonic_ns()
            )
            self._hub.send(sender, reply)
        for peer in self._peers.values():
            for packet in peer.channel.drain(wire.ClockReply):
                assert isinstance(packet, wire.ClockReply)
                peer.clock.hear(packet, time.monotonic_ns())

    def turn(self) -> None:
        """Send the probes that are due."""
        self.take()
        for name, peer in self._peers.items():
            peer.look(name)
            now_ns = time.monotonic_ns()
            if now_ns >= peer.clock.due_ns and peer.channel.is_writable:
                peer.channel.send(peer.clock.probe(now_ns))

    def offsets(self) -> wire.ClockOffsets:
        """What to add to each host's clock."""
        return wire.ClockOffsets(np.array(self._offsets_ns(), dtype=np.int64))

    def take_offsets(self) -> wire.ClockOffsets | None:
        """The offsets, if one has become known or moved since they were taken last."""
        offsets_ns = self._offsets_ns()
        if self._told is not None and not have_moved(offsets_ns, self._told):
            return None
        self._told = offsets_ns
        return wire.ClockOffsets(np.array(offsets_ns, dtype=np.int64))

    def peers(self, table: HostTable) -> list[PeerClock]:
        """What is known of every host heard so far; `table` holds the latencies to judge by."""
        found: list[PeerClock] = []
        for index, name in enumerate(self._hosts.names):
            estimate = self._estimate(name)
            if estimate is not None:
                p50_ns = quantile_ns(table.latency_histogram(index), 0.5)
                found.append(
                    PeerClock(
                        host=name,
                        offset_s=estimate.offset_ns * 1e-9,
                        error_s=estimate.error_ns * 1e-9,
                        round_trip_s=estimate.round_trip_ns * 1e-9,
                        one_way_trusted=estimate.verdict(p50_ns) == "one_way",
                    )
                )
        return found

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
        self._hub.close()
        self._gatekeeper.close()

    def _estimate(self, name: str) -> ClockEstimate | None:
        peer = self._peers.get(name)
        return None if peer is None else peer.clock.estimate(time.monotonic_ns())

    def _offsets_ns(self) -> tuple[int, ...]:
        return tuple(map(self._offset_ns, self._hosts.names))

    def _offset_ns(self, name: str) -> int:
        if name not in self._peers:
            return 0  # our own clock
        estimate = self._estimate(name)
        return wire.UNKNOWN_OFFSET if estimate is None else estimate.offset_ns


def have_moved(offsets_ns: tuple[int, ...], told_ns: tuple[int, ...]) -> bool:
    """Whether agents should hear of offsets who were told others: one is news, or has moved.

    The middle between the limits of two samples jumps to and fro by a nanosecond as they age.
    """
    return any(
        abs(offset_ns - before_ns) > _TOLD_WITHIN_NS
        for offset_ns, before_ns in zip(offsets_ns, told_ns, strict=True)
    )
