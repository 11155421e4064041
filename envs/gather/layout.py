"""Where agents and food of Gather are before the first step.

    lay_out(num_agents) -> Layout(map_size, agents, food)            normal: always the same
    scatter(num_agents) -> Scattered(map_size, agents, food)         random: how many
        at(seed) -> Layout                                           and where, by the episode

The normal one is NVIF's, recovered from its table of agents and food: agents on a square around the
field, food on eight squares within each other. Maps of 24, 48 and 96 cells then hold its 27, 56 and
115 agents with 87, 237 and 521 pieces of food. In the random one the same maps hold 15, 29 and 49
agents and 17, 49 and 161 pieces of food, each on a cell of its own; how they are drawn the paper
does not say, and uniformly is ours. With `clustered` the food of an episode lies together: then
only those near it see any, as the paper says of its random task. Scattered, almost everybody does.
"""

from dataclasses import dataclass

import numpy as np

from configs import streams
from configs.arrays import IntArray
from configs.streams import Role

MAP_SIZES = range(24, 865, 24)
RANDOM_MAPS = ((24, 15, 17), (48, 29, 49), (96, 49, 161))
"""Cells along each side, agents and food of NVIF's "random" tasks."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Scattered:
    """A square map, and how many there are on it."""

    map_size: int
    agents: int
    food: int
    clustered: bool = False
    """All food lies together."""

    def at(self, seed: int) -> Layout:
        """Put everybody and all food on free cells, uniformly; or the food around a cell that is
        drawn so. Equal seeds do it equally.
        """
        inside = self.map_size - 2
        rng = streams.generator(seed, Role.LAYOUT)
        size = self.agents + (1 if self.clustered else self.food)
        cells = rng.choice(inside * inside, size=size, replace=False)
        agents, food = np.split(_inside(cells, inside), [self.agents])
        if self.clustered:
            free = np.setdiff1d(np.arange(inside * inside), cells[: self.agents])
            squares = np.square(_inside(free, inside) - food[0]).sum(axis=1)
            food = _inside(free[np.argsort(squares, kind="stable")[: self.food]], inside)
        return Layout(map_size=self.map_size, agents=agents, food=food)


def _inside(cells: IntArray, inside: int) -> IntArray:
    """[…, 2] x and y of cells that are numbered row by row within the walls."""
    return np.stack((cells % inside, cells // inside), axis=1).astype(np.int64) + 1


def scatter(num_agents: int, *, clustered: bool = False) -> Scattered:
    """The smallest of NVIF's maps that has so many agents: up to 15 on 24×24, up to 29 on 48×48, up
    to 49 on 96×96. The food is that of the map.

    Raises:
        ValueError: not between 2 and 49 agents.
    """
    for map_size, agents, food in RANDOM_MAPS:
        if MIN_AGENTS <= num_agents <= agents:
            return Scattered(map_size=map_size, agents=num_agents, food=food, clustered=clustered)
    most = max(agents for _, agents, _ in RANDOM_MAPS)
    raise ValueError(
        f"gather with layout={'clustered' if clustered else 'random'} takes between {MIN_AGENTS} "
        f"and {most} agents, got {num_agents}"
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
