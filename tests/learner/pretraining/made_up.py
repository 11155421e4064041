"""A made-up map for pre-training: what an agent sees follows from what its neighbours saw before.

A landmark shines somewhere on a line in each episode. Agents stand along the line and see how near
it is; who stands near its place reads it off, and all others can know of it by messages alone.
"""

import numpy as np

from configs.arrays import BoolArray, FloatArray
from learner.pretraining.played import Played

AGENTS, STEPS, SEEN = 4, 6, 5


def lines(episodes: int, seed: int = 0) -> Played:
    """Agents on a line, each a neighbour of the next; the last one dies at step 4."""
    rng = np.random.default_rng(seed)
    shape = (episodes, STEPS, AGENTS)
    places_ETN = rng.uniform(-1.0, 1.0, shape)
    shining_E = rng.integers(0, 2, episodes)
    observations: FloatArray = np.zeros((*shape, SEEN + 2), dtype=np.float32)
    observations[..., 0] = shining_E[:, None, None]
    observations[..., 1:SEEN] = rng.random((*shape, SEEN - 1)) < 0.2
    observations[..., SEEN] = places_ETN
    observations[..., SEEN + 1] = rng.uniform(-1.0, 1.0, shape)
    alive: BoolArray = np.ones(shape, dtype=np.bool_)
    alive[:, 4:, -1] = False
    observations[~alive] = 0.0
    along = np.abs(np.arange(AGENTS)[:, None] - np.arange(AGENTS)) == 1
    neighbours = along & alive[..., None] & alive[..., None, :]
    return Played(observations.astype(np.float16), alive, neighbours)
