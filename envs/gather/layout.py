"""Where agents and food of Gather are before the first step.

    lay_out(num_agents) -> Layout(map_size, agents, food)

NVIF's layout, recovered from its table of agents and food: agents on a square around the field,
food on eight squares within each other. Maps of 24, 48 and 96 cells then hold its 27, 56 and 115
agents with 87, 237 and 521 pieces of food. It is the same in every episode.
"""

from dataclasses import dataclass

import numpy as np

from configs.arrays import IntArray

MAP_SIZES = range(24, 865, 24)
MIN_AGENTS = 2
MAX_AGENTS = 1024

Cell = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """A square map and the starting places on it."""

    map_size: int
    """Cells along each side, the walls around included."""
    agents: IntArray
    """[N, 2] x and y."""
    food: IntArray
    """[M, 2] x and y."""


def lay_out(num_agents: int) -> Layout:
    """Put `num_agents` around the smallest field that has places for them: 24 to 27 on 24×24, 28 to
    56 on 48×48, 57 to 87 on 72×72, 88 to 115 on 96×96.

    The food is that of the map. Fewer agents than places are spread evenly over these.

    Raises:
        ValueError: not between 2 and 1024 agents.
    """
    if not MIN_AGENTS <= num_agents <= MAX_AGENTS:
        raise ValueError(
            f"gather takes between {MIN_AGENTS} and {MAX_AGENTS} agents, got {num_agents}"
        )
    map_size = next(size for size in MAP_SIZES if len(_agent_places(size)) >= num_agents)
    places = np.array(_agent_places(map_size), dtype=np.int64)
    x, y = (places - map_size // 2).T
    around = np.argsort(np.arctan2(y, x), kind="stable")
    chosen = np.sort(around[np.arange(num_agents) * len(places) // num_agents])
    return Layout(
        map_size=map_size,
        agents=places[chosen],
        food=np.array(_food_places(map_size), dtype=np.int64),
    )


def _agent_places(map_size: int) -> list[Cell]:
    return list(dict.fromkeys(_square(map_size, map_size * 0.9, 3)))


def _food_places(map_size: int) -> list[Cell]:
    squares = [
        *[(map_size * 0.65, 10), (map_size * 0.6, 10), (map_size * 0.55, 10)],
        *[(map_size * 0.5, 4), (map_size * 0.45, 3), (map_size * 0.4, 1)],
        *[(map_size * 0.3 - 2, 1), (map_size * 0.3 - 6, 1)],
    ]
    return list(
        dict.fromkeys(cell for side, gap in squares for cell in _square(map_size, side, gap))
    )


def _square(map_size: int, length: float, gap: int) -> list[Cell]:
    """Every `gap`-th cell along the sides of a square in the middle of the map, as MAgent2 has it;
    corners may come twice.
    """
    middle, half = map_size // 2, int(length) // 2
    low, high = middle - half, middle + half
    along = range(low, high + 1, gap)
    return [
        *[(x, y) for x in along for y in (low, high)],
        *[(x, y) for y in along for x in (low, high)],
    ]
