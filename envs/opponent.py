"""A player of the other team, where an environment has one.

    observations of living opponents of several copies, a uniform number for each -> act -> actions

An opponent has no memory and does not know which agent a row belongs to, so that one call serves
many copies. Chance comes in from outside, a number for each row: what a row does then depends on
nothing but the row.

Dimension key: B = agents asked at once, D = observation features.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.arrays import FloatArray, IntArray

UniformArray = NDArray[np.float64]


class Opponent(Protocol):
    """A team without memory."""

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        """[B] one action for each row, from what it sees and a uniform number of [0, 1)."""
        ...
