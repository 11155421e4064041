"""Planned failures of an evaluation: agents killed for good at a step, packets lost on every edge.

    fraction, step, seed -> victims -> (the world asks, the node kills) -> Aftermath -> figures

The experiment that the SOPS paper leaves for later (its C.3.2 and C.3.3). Loss itself is drawn by
the agents that receive (agents/comm/link_loss.py); a killed agent's body stays where it is and does
nothing.

Dimension key: E = copies, N = agents, T = steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from configs import streams
from configs.arrays import BoolArray
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_CYCLES
from configs.streams import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """What is made to fail."""

    kill_fraction: Annotated[float, within(0.0, 1.0, below_high=True)] = 0.0
    """Share of the agents that are killed, rounded up to whole ones; one is always left."""

    kill_at: Annotated[int, between(0, MAX_CYCLES)] = 0
    """Steps that every copy has played of its episode when they die; 0 kills before the first."""

    drop_edges: Annotated[float, within(0.0, 1.0)] = 0.0
    """Probability with which a packet on an edge is lost, for each edge, copy and step anew."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def victims(self, num_agents: int, seed: int) -> tuple[int, ...]:
        """Who is killed, in ascending order: 0.1 of 16 agents are two."""
        # 0.07 × 100 is a little more than 7 in floating point, and not eight agents.
        count = min(math.ceil(round(self.kill_fraction * num_agents, 9)), num_agents - 1)
        rng = streams.generator(seed, Role.VICTIMS)
        return tuple(sorted(rng.choice(num_agents, size=count, replace=False).tolist()))


NO_FAILURES = Failures()


class Aftermath:
    """Sums over the evaluation episodes of a world: edges before and after the kill, and how those
    that were not chosen have fared.

    Only copies whose episode counts are looked at: not those that keep the others company.
    """

    def __init__(self, num_agents: int, victims: Sequence[int]) -> None:
        self._spared_N: BoolArray = np.ones(num_agents, dtype=np.bool_)
        self._spared_N[list(victims)] = False
        self._agent_steps = [0, 0]
        """Before the kill and after it, as are the edges."""
        self._edges_open = [0, 0]
        self._returns = 0.0
        self._squared_returns = 0.0

    def count_step(
        self, acting_EN: BoolArray, masks_EN: NDArray[np.unsignedinteger[Any]], *, is_after: bool
    ) -> None:
        """Take in a step of the copies that count: who lived and acted, and on which out-edges."""
        bits = np.unpackbits(np.ascontiguousarray(masks_EN[acting_EN]).view(np.uint8))
        self._agent_steps[is_after] += int(acting_EN.sum())
        self._edges_open[is_after] += int(bits.sum())

    def count_episode(self, rewards_TN: NDArray[np.floating]) -> None:
        spared_return = float(rewards_TN[:, self._spared_N].mean(axis=1, dtype=np.float64).sum())
        self._returns += spared_return
        self._squared_returns += spared_return**2

    def figures(self) -> dict[str, float]:
        """The sums by name, for the world's status."""
        return {
            "evaluated_agent_steps": float(sum(self._agent_steps)),
            "evaluated_edges_open": float(sum(self._edges_open)),
            "agent_steps_after_kill": float(self._agent_steps[True]),
            "edges_open_after_kill": float(self._edges_open[True]),
            "spared_return_sum": self._returns,
            "spared_return_squares": self._squared_returns,
        }


def standard_error(total: float, squares: float, count: int) -> float | None:
    """Of the mean of `count` independent numbers, from their sum and that of their squares.

    The sample's standard deviation (count - 1) over the root of count; None for less than two.
    """
    if count < 2:
        return None
    variance = max(squares - total**2 / count, 0.0) / (count - 1)
    return math.sqrt(variance / count)
