"""What the loops beside ours have to do: the same packets, the same sizes, the same network.

    figures of a run of ours -> Workload -> bare_loop, pipe_star, ray_actors

Which edges are open is a rule that both ends know, so that nobody has to be told what to wait for:
an equidistributed sequence over agents, offsets and ticks, with the share that ours had.

Ray's interpreter imports this too: standard library and the backbone only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.net import topology

PERIOD = 64
"""Ticks after which the pattern of open edges begins anew."""

_GOLDEN = 0.6180339887498949
_PLASTIC = 0.7548776662466927


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """N agents, E copies; sizes are payload bytes of one packet."""

    agents: int
    copies: int
    seconds: float
    """How long steps are played."""
    messages_per_agent_tick: float
    """Packets that an agent sends over its K out-edges in one tick of all copies."""
    beacons_per_agent_tick: float
    observation_bytes: int
    action_bytes: int
    message_bytes: int
    beacon_bytes: int
    observation_dim: int
    num_actions: int
    hidden: int = 64
    message: int = 64
    attention: int = 16
    beacon: int = 16
    scorer: int = 32
    turns: str = ""
    """Socket of a referee who says when to play, in place of `seconds`; empty without one."""

    @property
    def offsets(self) -> int:
        """K"""
        return len(topology.offsets(self.agents))

    def message_edges(self, agent: int, tick: int) -> tuple[int, ...]:
        """Offsets over which an agent sends a message in a tick."""
        return self._edges(agent, tick, self.messages_per_agent_tick)

    def beacon_edges(self, agent: int, tick: int) -> tuple[int, ...]:
        """Offsets of the in-neighbours whom an agent sends its beacon in a tick."""
        return self._edges(agent, tick + PERIOD // 2, self.beacons_per_agent_tick)

    def heard_messages(self, agent: int, tick: int) -> tuple[int, ...]:
        """Offsets of the in-neighbours whose message of a tick an agent waits for."""
        peers = topology.in_neighbours(agent, self.agents)
        return tuple(k for k, peer in enumerate(peers) if k in self.message_edges(peer, tick))

    def heard_beacons(self, agent: int, tick: int) -> tuple[int, ...]:
        """Offsets of the out-neighbours whose beacon of a tick an agent waits for."""
        peers = topology.out_neighbours(agent, self.agents)
        return tuple(k for k, peer in enumerate(peers) if k in self.beacon_edges(peer, tick))

    def _edges(self, agent: int, tick: int, packets: float) -> tuple[int, ...]:
        share = packets / self.offsets
        at = agent * self.offsets * _GOLDEN + tick % PERIOD * _PLASTIC
        return tuple(k for k in range(self.offsets) if (at + k * _GOLDEN) % 1.0 < share)


def workload_of(
    figures: Mapping[str, float | None],
    *,
    agents: int,
    copies: int,
    seconds: float,
    observation_dim: int,
    num_actions: int,
) -> Workload:
    """The work that a run of ours did, by its own counters.

    Raises:
        ValueError: it did not count (runtime.telemetry off).
    """
    counted = {name: value for name, value in figures.items() if value is not None}
    try:
        return Workload(
            agents=agents,
            copies=copies,
            seconds=seconds,
            messages_per_agent_tick=counted["messages_per_agent_tick"],
            beacons_per_agent_tick=counted["beacons_per_agent_tick"],
            observation_bytes=round(counted["observation_bytes"]),
            action_bytes=round(counted["action_bytes"]),
            # Where none was sent its size does not matter.
            message_bytes=round(counted.get("message_bytes", 0.0)),
            beacon_bytes=round(counted.get("beacon_bytes", 0.0)),
            observation_dim=observation_dim,
            num_actions=num_actions,
        )
    except KeyError as error:
        raise ValueError(f"the run did not count {error.args[0]}") from error
