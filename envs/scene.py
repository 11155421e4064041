"""What there is to see of an environment at one moment, for a picture of it.

    Env with a method `scene` -> Map | Ring | frame -> runtime/seeing

An environment need not offer it: its agents are then drawn on a circle, with their edges. What is
drawn is never computed unless somebody asks, so that a run pays nothing for it.

Dimension key: U = units of a team, W = cells with a wall.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray, IntArray

NOWHERE = -1
"""Both coordinates of a unit that is dead."""


class Team(NamedTuple):
    """Units that are alike."""

    name: str
    positions_U2: IntArray
    """[U, 2] x and y of the cell of a body with the smallest x and y; `NOWHERE` for the dead."""
    health_U: FloatArray
    """[U] of what a unit has at most, in [0, 1]; 0 for the dead."""
    alive_U: BoolArray
    body: int = 1
    """Cells along each side of a unit."""


class Sight(NamedTuple):
    """How a flat observation lies as planes of cells around an agent."""

    shape: tuple[int, int, int]
    axis: int
    """Of the shape: the one that counts planes. What is left are rows (y) and columns (x)."""
    planes: tuple[str, ...]
    """What each plane shows."""


class Map(NamedTuple):
    """Units on a grid; y grows downwards."""

    width: int
    height: int
    """Cells, the walls around included."""
    teams: tuple[Team, ...]
    """The first is the learning team, agent by agent."""
    walls_W2: IntArray
    """[W, 2] x and y."""
    sight: Sight | None = None


class Ring(NamedTuple):
    """Agents at no place, so on a circle; all must name a colour that one of them knows."""

    source: int
    """Agent that sees the colour."""
    colour: int
    num_colours: int


Frame = NDArray[np.uint8]
"""[height, width, 3] what an environment has drawn itself."""

Scene = Map | Ring | Frame


@runtime_checkable
class Pictured(Protocol):
    """An environment that can be drawn."""

    def scene(self) -> Scene | None:
        """What there is to see now; None if there is nothing after all."""
        ...


def team_of(
    name: str,
    size: int,
    living_L: IntArray,
    positions_L2: IntArray,
    health_L: NDArray[Any] | float = 1.0,
    body: int = 1,
) -> Team:
    """A team of which the living are known, in whatever order.

    Args:
        size: U, the dead included.
        living_L: index of each within the team.
    """
    positions_U2 = np.full((size, 2), NOWHERE, dtype=np.int64)
    health_U, alive_U = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.bool_)
    positions_U2[living_L], health_U[living_L], alive_U[living_L] = positions_L2, health_L, True
    return Team(name, positions_U2, health_U, alive_U, body)
