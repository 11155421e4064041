"""A rollout: episodes of the newest policy, worked off a few times and forgotten.

    Episode -> Rollout (until it is full) -> epochs × minibatches, each once an epoch -> empty

An algorithm may work it off in several turns, and look at it anew before each (HAPPO).
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
        turns: how often all that is done.
    """

    def __init__(self, terms: OnPolicy, turns: int = 1) -> None:
        super().__init__(capacity=1 << 31)
        self._terms, self._turns = terms, turns
        self.prepared: Callable[[Sequence[Episode]], Sequence[Episode]] = lambda episodes: episodes
        """Adds to a full rollout what all its gradient steps have in common."""
        self.in_turn: Callable[[Sequence[Episode], int, np.random.Generator], Sequence[Episode]] = (
            lambda episodes, turn, rng: episodes
        )
        """Adds to it what those of one turn have in common."""
        self._turn = 0
        """The next one."""
        self._minibatches: deque[list[int]] = deque()
        """Positions of the episodes of each, of those that have not been drawn."""
        self._steps_left = 0

    @property
    def steps_left(self) -> int:
        """Gradient steps that the rollout is still worth; 0 before it is full."""
        if self._steps_left == 0 and len(self) >= self._terms.episodes:
            return self._steps_of_a_turn * self._turns
        return self._steps_left

    @property
    def _steps_of_a_turn(self) -> int:
        return self._terms.epochs * self._terms.minibatches

    @property
    def draws_ahead(self) -> bool:
        return bool(self._minibatches)

    def choose(self, rng: np.random.Generator, batch_size: int, window: int = 0) -> Windows:
        """The next minibatch, of whole episodes; `batch_size` and `window` have no say.

        Raises:
            ValueError: the rollout is not full.
        """
        if not self._minibatches:
            if self._steps_left == 0:
                self._begin()
            self._begin_turn(rng)
        episodes = [self._episodes[index] for index in self._minibatches.popleft()]
        return Windows(episodes, [0] * len(episodes), [e.length for e in episodes])

    def stepped(self) -> None:
        self._steps_left -= 1
        if self._steps_left == 0:
            self.drop_oldest(self._terms.episodes)

    def remember(self, episode: Episode) -> None:
        pass

    def _begin(self) -> None:
        if len(self) < self._terms.episodes:
            raise ValueError(
                f"a rollout has {self._terms.episodes} episodes, so far there are {len(self)}"
            )
        self._replace(self.prepared)
        self._turn, self._steps_left = 0, self._steps_of_a_turn * self._turns

    def _replace(self, look: Callable[[Sequence[Episode]], Sequence[Episode]]) -> None:
        """Put what is made of the rollout's episodes in their place."""
        whole = [self._episodes.popleft() for _ in range(self._terms.episodes)]
        found = look(whole)
        self._episodes.extendleft(reversed(found))
        self.size_bytes += sum(e.size_bytes for e in found) - sum(e.size_bytes for e in whole)

    def _begin_turn(self, rng: np.random.Generator) -> None:
        terms, turn = self._terms, self._turn
        self._replace(lambda episodes: self.in_turn(episodes, turn, rng))
        self._turn += 1
        for _ in range(terms.epochs):
            order = rng.permutation(terms.episodes)
            parts = np.array_split(order, terms.minibatches)
            self._minibatches += [[int(index) for index in part] for part in parts]
