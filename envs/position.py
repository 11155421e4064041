"""Positions at the end of observations, for schemes that choose edges by distance.

    observation [D] -> [D, x, y]      --env.options position=true

An agent that moves knows where it is; the paper's edge-budget baseline (SOPS, section 5.4) reads
it. Both numbers are scaled to [-1, 1] over the map, so that distances on square maps keep their
order. The map does not wrap.

Dimension key: N = agents, L = living agents, D = observation features.
"""

from dataclasses import replace

import numpy as np

from configs.arrays import IntArray
from configs.schema.limits import POSITION
from envs.base import EnvSpec, ObservationArray


def positioned(spec: EnvSpec) -> EnvSpec:
    """The same environment, whose observations are flat and end with a position."""
    return replace(spec, observation_shape=(spec.observation_dim + POSITION,), has_position=True)


def with_position(
    observations_ND: ObservationArray, living_L: IntArray, positions_L2: IntArray, map_size: int
) -> ObservationArray:
    """[N, D + 2] the observations with the positions of the living; zeros for the dead.

    Args:
        living_L: numbers of the living, in the order of their positions.
        positions_L2: x and y, cells from 0 to map_size - 1.
    """
    places_N2 = np.zeros((len(observations_ND), POSITION), dtype=observations_ND.dtype)
    places_N2[living_L] = positions_L2 * (2.0 / (map_size - 1)) - 1.0
    return np.concatenate((observations_ND, places_N2), axis=1)
