"""A rollout: episodes of the newest policy, worked off a few times and forgotten.

    Episode -> Rollout (until it is full) -> epochs × minibatches, each once an epoch -> empty

Episodes that come while one rollout is worked off belong to the next. What a checkpoint has counted
is not taken up again: it is of an older policy.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from configs.algorithms.base import OnPolicy
from learner.experience.episode import Episode
from learner.experience.replay import Replay, Windows


class Rollout(Replay):
    """Whole episodes until they are used up.

    Args:
        terms: how many, and how often they are used.
    """

    def __init__(self, terms: OnPolicy) -> None:
        super().__init__(capacity=1 << 31)
        self._terms = terms
        self.prepared: Callable[[Sequence[Episode]], Sequence[Episode]] = lambda episodes: episodes
        """Adds to a full rollout what all its gradient steps have in common."""
        self._minibatches: deque[list[int]] = deque()
        """Positions of the episodes of each, of those that have not been drawn."""
        self._steps_left = 0

    @property
    def steps_left(self) -> int:
        """Gradient steps that the rollout is still worth; 0 before it is full."""
        if self._steps_left == 0 and len(self) >= self._terms.episodes:
            return self._terms.epochs * self._terms.minibatches
        return self._steps_left

    def choose(self, rng: np.random.Generator, batch_size: int, window: int = 0) -> Windows:
        """The next minibatch, of whole episodes; `batch_size` and `window` have no say.

        Raises:
            ValueError: the rollout is not full.
        """
        if not self._minibatches:
            self._begin(rng)
        episodes = [self._episodes[index] for index in self._minibatches.popleft()]
        return Windows(episodes, [0] * len(episodes), [e.length for e in episodes])

    def stepped(self) -> None:
        self._steps_left -= 1
        if self._steps_left == 0:
            self.drop_oldest(self._terms.episodes)

    def remember(self, episode: Episode) -> None:
        pass

    def _begin(self, rng: np.random.Generator) -> None:
        terms = self._terms
        if len(self) < terms.episodes:
            raise ValueError(
                f"a rollout has {terms.episodes} episodes, so far there are {len(self)}"
            )
        whole = [self._episodes.popleft() for _ in range(terms.episodes)]
        prepared = self.prepared(whole)
        self._episodes.extendleft(reversed(prepared))
        self.size_bytes += sum(e.size_bytes for e in prepared) - sum(e.size_bytes for e in whole)
        for _ in range(terms.epochs):
            order = rng.permutation(terms.episodes)
            parts = np.array_split(order, terms.minibatches)
            self._minibatches += [[int(index) for index in part] for part in parts]
        self._steps_left = terms.epochs * terms.minibatches
