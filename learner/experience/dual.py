"""Dual replay: part of each batch from the newest episodes, the rest from all (MAST, section 3.2).

    Episode -> B1: all that the replay holds ── b1 rows ──┐
               B2: the newest of them         ── b2 rows ──┴-> one batch of b1 + b2

Targets look several steps ahead, and the steps that they look at were chosen by the policy of their
time: the newest episodes are those of nearly the present one. Both buffers take in every episode
and lose the oldest first, so the small one is the young end of the large one and needs no memory of
its own. An episode may be in both parts of a batch, in neither part twice.
"""

import numpy as np

from configs.schema import LearnerConfig
from learner.experience.replay import Replay


class DualReplay(Replay):
    """A replay with a share of each batch reserved for its newest episodes.

    Args:
        capacity: episodes held.
        online_episodes: how many of them count as the newest.
        online_share: share of a batch that comes from those, rounded to whole rows; 1 leaves the
            old ones out.
    """

    def __init__(self, capacity: int, online_episodes: int, online_share: float) -> None:
        super().__init__(capacity)
        self._online_episodes = online_episodes
        self._online_share = online_share

    def _draw(self, rng: np.random.Generator, batch_size: int) -> list[int]:
        online_rows = round(batch_size * self._online_share)
        offline = super()._draw(rng, batch_size - online_rows)
        newest = min(self._online_episodes, len(self))
        online = rng.choice(newest, size=min(online_rows, newest), replace=False)
        return offline + (online + len(self) - newest).tolist()


def make_replay(config: LearnerConfig) -> Replay:
    """The replay that a run asks for."""
    if not config.online_episodes:
        return Replay(config.replay_episodes)
    return DualReplay(config.replay_episodes, config.online_episodes, config.online_share)
