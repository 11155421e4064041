"""Where the two teams of Battle stand before the first step.

    deploy(num_agents) -> Deployment(map_size, left, right)

MAgent2's lattice: each team is a square of (map/5)² places, every second cell, three cells off the
middle line. What falls on or beyond the walls is left out, and the right team has as many places as
the left one. The layout is the same in every episode.
"""

from dataclasses import dataclass

import numpy as np

from configs.arrays import IntArray

MIN_AGENTS = 4
MAX_AGENTS = 1024
MAP_SIZES = range(25, 161, 5)
_GAP = 3
"""Cells between the middle line and either team."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Deployment:
    """A square map and the starting places of both teams."""

    map_size: int
    """Cells along each side, the walls around included."""
    left: IntArray
    """[N, 2] x and y of the learning team, red."""
    right: IntArray
    """[M, 2] x and y of its opponent, blue."""


def deploy(num_agents: int) -> Deployment:
    """Put `num_agents` a side on the smallest map that holds them: 20 on 25×25, 100 on 50×50.

    Each team takes the first places of its lattice, column by column from the left. Fewer agents
    than places therefore face each other row by row, as far apart as the two first columns are.

    Raises:
        ValueError: not between 4 and 1024 agents.
    """
    if not MIN_AGENTS <= num_agents <= MAX_AGENTS:
        raise ValueError(
            f"battle takes between {MIN_AGENTS} and {MAX_AGENTS} agents, got {num_agents}"
        )
    map_size = next(size for size in MAP_SIZES if places(size) >= num_agents)
    left, right = _lattices(map_size)
    return Deployment(
        map_size=map_size,
        left=left[:num_agents],
        right=right[:num_agents],
    )


def places(map_size: int) -> int:
    """Agents a side that fit: 25 → 20, 35 → 42, 50 → 100, 100 → 400, 160 → 1024."""
    left, right = _lattices(map_size)
    return min(len(left), len(right))


def _lattices(map_size: int) -> tuple[IntArray, IntArray]:
    extent = 2 * (map_size // 5)
    middle = map_size // 2
    top = (map_size - extent) // 2
    left = _lattice(map_size, middle - _GAP - extent, top, extent)
    right = _lattice(map_size, middle + _GAP, top, extent)
    return left, right


def _lattice(map_size: int, x: int, y: int, extent: int) -> IntArray:
    """[places, 2] every second cell of a square inside the walls, column by column."""
    xs, ys = np.meshgrid(np.arange(x, x + extent, 2), np.arange(y, y + extent, 2), indexing="ij")
    cells = np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.int64)
    inside = ((cells > 0) & (cells < map_size - 1)).all(axis=1)
    return cells[inside]
