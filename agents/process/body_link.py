"""The agent's side of the body protocol (docs/body.md): what is sensed comes in, actions go out.

    body ⇄ Hub -> Sensed | NewBody -> shell -> core -> action -> body

One body at a time: the newest connection that says hello. What others say, what has other
dimensions and what is older than what was sensed before is counted and dropped.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import zmq

from agents.policy import PolicySpec
from agents.rounding import LARGEST_OBSERVATION, is_plausible
from runtime.net import latency, ticks, wire
from runtime.net.edge_bits import EdgeBits
from runtime.net.errors import SetupError
from runtime.net.security import is_private
from runtime.net.traffic import Traffic
from runtime.net.transport import STEP, Hub

logger = logging.getLogger(__name__)

_LONGEST_NS = 60 * 10**9
"""A stamp that is older was not taken from our clock."""


@dataclass(frozen=True, slots=True, eq=False)
class Sensed:
    """An observation that fits."""

    packet: wire.BodyObservation
    since_ns: int
    """When it was sent, by the body's stamp if that can be, else when it arrived."""


@dataclass(frozen=True, slots=True)
class NewBody:
    """Another body has taken over; it numbers its steps as it likes."""


class BodyLink:
    """The socket that an agent's body connects to."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        agent: int,
        spec: PolicySpec,
        rate_hz: float,
        traffic: Traffic,
    ) -> None:
        """Listen for a body.

        Raises:
            SetupError: the endpoint cannot be bound, or others than this machine could reach it.
        """
        if not is_private(endpoint):
            raise SetupError(
                f"{endpoint} can be reached from other machines: a body sits on its agent's host, "
                "use ipc or tcp over 127.0.0.1"
            )
        self._agent = agent
        self._dim = spec.observation_dim
        self._welcome = wire.BodyWelcome(agent, spec.observation_dim, spec.num_actions, rate_hz)
        self._traffic = traffic
        self._hub = Hub(context, endpoint, traffic, STEP)
        self._body: bytes | None = None
        self._newest_step: int | None = None
        self.latency = [0] * latency.BINS
        """Histogram of the time from observation to action."""

    @property
    def socket(self) -> zmq.Socket[bytes]:
        return self._hub.socket

    @property
    def is_embodied(self) -> bool:
        """Whether a body has said hello."""
        return self._body is not None

    def take(self) -> Iterator[Sensed | NewBody]:
        """What has arrived and is to be heeded."""
        for peer, packet in self._hub.drain(wire.BodyObservation, wire.BodyHello):
            if isinstance(packet, wire.BodyHello):
                if self._greet(peer, packet):
                    yield NewBody()
                continue
            assert isinstance(packet, wire.BodyObservation)
            reason = self._refusal(peer, packet)
            if reason is not None:
                self._traffic.dropped(reason)
                continue
            self._newest_step = packet.step
            yield Sensed(packet, _since(packet.sent_ns, time.monotonic_ns()))

    def _greet(self, peer: bytes, hello: wire.BodyHello) -> bool:
        """Answer a hello; True if it is that of a new body."""
        self._hub.send(peer, self._welcome)  # who wants another agent learns whom it has found
        if hello.agent != self._agent:
            self._traffic.dropped("unknown_sender")
            return False
        if peer == self._body:
            return False
        is_another = self._body is not None
        self._body, self._newest_step = peer, None
        logger.info("a body has connected%s", " in place of another" if is_another else "")
        return True

    def _refusal(self, peer: bytes, packet: wire.BodyObservation) -> str | None:
        if peer != self._body:
            return "unknown_sender"
        if packet.observation.shape != (self._dim,):
            return "shape"
        if not is_plausible(packet.observation, LARGEST_OBSERVATION):
            return "range"
        if self._newest_step is not None and ticks.ahead(packet.step, self._newest_step) <= 0:
            return "stale"
        return None

    def act(self, sensed: Sensed, action: wire.Action) -> None:
        """Answer an observation."""
        assert self._body is not None
        step, chosen = sensed.packet.step, action.actions[0]
        answer: wire.BodyAction | wire.BodyReals
        if action.actions.dtype == np.float32:
            answer = wire.BodyReals(step, chosen, action.policy_version)
        else:
            answer = wire.BodyAction(step, int(chosen), action.policy_version)
        if self._hub.send(self._body, answer):
            self.latency[latency.bin_of(time.monotonic_ns() - sensed.since_ns)] += 1

    def close(self) -> None:
        self._hub.close()


def as_observation(
    packet: wire.BodyObservation, tick: int, step: int, bits: EdgeBits
) -> wire.Observation:
    """What a world would have handed out for it, had there been one.

    Args:
        tick: number of the moment.
        step: number within the episode; 0 makes the agent forget what went before.
        bits: how masks of the agent's edges are written.
    """
    is_alive = bool(packet.flags & wire.ALIVE)
    unknown = bits.zeros(1)
    return wire.Observation(
        tick=tick,
        epsilon=0.0,
        episodes=np.zeros(1, dtype=np.uint32),
        steps=np.array([min(step, 0xFFFF)], dtype=np.uint16),
        flags=np.array([packet.flags & wire.ALIVE], dtype=np.uint8),
        in_masks=unknown,
        peer_masks=unknown,
        beacon_masks=unknown,
        observations=packet.observation[None] if is_alive else packet.observation[None][:0],
    )


def overtaking(older: Sensed | None, newer: Sensed) -> Sensed:
    """The newer one, which is all that is left for the next tick.

    If the older one was the first of an episode that no tick has seen, the episode begins with
    this.
    """
    if older is None or not older.packet.flags & wire.FIRST:
        return newer
    return replace(newer, packet=replace(newer.packet, flags=newer.packet.flags | wire.FIRST))


def _since(sent_ns: int, now_ns: int) -> int:
    return sent_ns if 0 < sent_ns <= now_ns < sent_ns + _LONGEST_NS else now_ns
