"""A rollout: what the newest policy has played, worked off a few times and forgotten.

    Episode -> Rollout (until it is full) -> epochs × minibatches, each once an epoch -> empty

It is made of whole episodes, or of so many steps of each copy (`OnPolicy.steps`): then episodes
come in pieces, and a minibatch has all pieces of its copies.

An algorithm may work it off in several turns, and look at it anew before each (HAPPO).
What comes while one rollout is worked off belongs to the next. What a checkpoint has counted is not
taken up again, it is of an older policy; but for pieces of a rollout that was not worked off.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from configs.algorithms.base import OnPolicy
from learner.experience.episode import Episode, Piece
from learner.experience.replay import Replay, Windows


class Rollout(Replay):
    """Episodes, or pieces of them, until they are used up.

    Args:
        terms: how many, and how often they are used.
        turns: how often all that is done.
        copies: that a rollout of fixed length has.
    """

    def __init__(self, terms: OnPolicy, turns: int = 1, copies: int = 1) -> None:
        super().__init__(capacity=1 << 31)
        self._terms, self._turns = terms, turns
        self._whole_steps = terms.steps * copies
        self.prepared: Callable[[Sequence[Episode]], Sequence[Episode]] = lambda episodes: episodes
        """Adds to a full rollout what all its gradient steps have in common."""
        self.in_turn: Callable[[Sequence[Episode], int, np.random.Generator], Sequence[Episode]] = (
            lambda episodes, turn, rng: episodes
        )
        """Adds to it what those of one turn have in common."""
        self.ends = False
        """Whether the last gradient step was the last of its rollout."""
        self.done = -1
        """Newest rollout of fixed length that has been worked off, by its number."""
        self._work: list[Episode] = []
        """What is worked off; it stands at the head of the episodes."""
        self._lost: Counter[int] = Counter()
        """Steps by rollout, of pieces that are lost."""
        self._turn = 0
        """The next one."""
        self._minibatches: deque[list[int]] = deque()
        """Positions of the episodes of each, of those that have not been drawn."""
        self._steps_left = 0

    @property
    def steps_left(self) -> int:
        """Gradient steps that the rollout is still worth; 0 before it is full."""
        if self._steps_left == 0 and self._full():
            return self._steps_of_a_turn * self._turns
        return self._steps_left

    @property
    def owed(self) -> int:
        """Rollouts that are full and have not been worked off, the one in work included."""
        if not self._terms.steps:
            return int(self.steps_left > 0)
        return bool(self._work) + sum(n >= self._whole_steps for n in self._steps_here().values())

    @property
    def policy_version(self) -> int:
        """Newest that has played the rollout in work; 0 while there is none."""
        return max((episode.last_version for episode in self._work), default=0)

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
        self.ends = self._steps_left == 0
        if self.ends:
            self.done = max(self.done, self._work[0].piece.rollout)
            self.drop_oldest(len(self._work))
            self._work = []

    def remember(self, episode: Episode) -> None:
        if self._terms.steps and episode.piece.rollout > self.done:
            self.add(episode)

    def lost(self, piece: Piece, steps: int) -> None:
        """Go without a piece that will not come."""
        self._lost[piece.rollout] += steps

    def _steps_here(self) -> Counter[int]:
        """Steps by rollout, of those behind the one in work: here, or lost with others here."""
        steps: Counter[int] = Counter()
        for episode in islice(self._episodes, len(self._work), None):
            steps[episode.piece.rollout] += episode.length
        return Counter({number: steps[number] + self._lost[number] for number in steps})

    def _full(self) -> list[Episode]:
        """The episodes of the oldest full rollout behind the one in work; none without one."""
        waiting = list(islice(self._episodes, len(self._work), None))
        if not self._terms.steps:
            whole = self._terms.episodes
            return waiting[:whole] if len(waiting) >= whole else []
        full = [number for number, n in self._steps_here().items() if n >= self._whole_steps]
        return [e for e in waiting if e.piece.rollout == min(full)] if full else []

    def _begin(self) -> None:
        whole, terms = self._full(), self._terms
        if not whole:
            what = f"{self._whole_steps} steps" if terms.steps else f"{terms.episodes} episodes"
            raise ValueError(f"a rollout has {what}, so far there are {len(self)} episodes")
        others = list(self._episodes)[len(whole) :]
        if terms.steps:
            # Of older rollouts no more will come.
            number = whole[0].piece.rollout
            others = [e for e in self._episodes if e.piece.rollout > number]
            self._lost = Counter({n: steps for n, steps in self._lost.items() if n > number})
        # In the order of their numbers, not of arrival: a run depends on its seed alone.
        whole.sort(key=lambda episode: episode.number)
        self._work = whole
        self._episodes = deque([*whole, *others])
        self.size_bytes = sum(episode.size_bytes for episode in self._episodes)
        self._replace(self.prepared)
        minibatches = terms.minibatches
        if terms.steps:  # of some copies there may be nothing
            minibatches = min(minibatches, len({e.piece.copy for e in whole}))
        self._turn, self._steps_left = 0, terms.epochs * minibatches * self._turns

    def _replace(self, look: Callable[[Sequence[Episode]], Sequence[Episode]]) -> None:
        """Put what is made of the rollout's episodes in their place."""
        self.drop_oldest(len(self._work))
        self._work = list(look(self._work))
        self._episodes.extendleft(reversed(self._work))
        self.size_bytes += sum(episode.size_bytes for episode in self._work)

    def _begin_turn(self, rng: np.random.Generator) -> None:
        turn = self._turn
        self._replace(lambda episodes: self.in_turn(episodes, turn, rng))
        self._turn += 1
        for _ in range(self._terms.epochs):
            self._minibatches += self._shared_out(rng)

    def _shared_out(self, rng: np.random.Generator) -> list[list[int]]:
        """Positions of the episodes of an epoch's minibatches; none is empty."""
        if not self._terms.steps:
            parts = np.array_split(rng.permutation(len(self._work)), self._terms.minibatches)
            return [[int(index) for index in part] for part in parts]
        copies = np.array([episode.piece.copy for episode in self._work])
        parts = np.array_split(rng.permutation(np.unique(copies)), self._terms.minibatches)
        return [np.flatnonzero(np.isin(copies, part)).tolist() for part in parts if len(part)]
