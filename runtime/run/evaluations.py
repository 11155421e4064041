"""Evaluations of a run: from single episodes to whole evaluations.

    EpisodeResult -> Evaluations.add -> Evaluation, once its last episode has ended

Evaluations may overlap: an episode says which one it belongs to by the training step at which that
one fell due. Figures are of whole evaluations only, because the episodes that end first are the
short ones.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from runtime.net.wire import EpisodeResult


class _Measured(Protocol):
    """An episode, played or simulated."""

    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes that were played to judge the policy of one moment."""

    env_steps: int
    """Training steps when it fell due."""
    results: tuple[EpisodeResult, ...]
    """In the order in which they ended."""

    @property
    def return_mean(self) -> float:
        return sum(result.episode_return for result in self.results) / len(self.results)

    @property
    def win_rate(self) -> float:
        return sum(result.won for result in self.results) / len(self.results)

    @property
    def metrics(self) -> dict[str, float]:
        """Means of the environment's own figures."""
        return mean_metrics(self.results)


def mean_metrics(results: Collection[_Measured]) -> dict[str, float]:
    """Means of the figures that all these episodes have."""
    known = [set(result.metrics) for result in results]
    names = sorted(set[str].intersection(*known)) if known else []
    return {name: sum(r.metrics[name] for r in results) / len(results) for name in names}


class Evaluations:
    """Sorts episodes into evaluations."""

    def __init__(self, episodes: int) -> None:
        """Expect evaluations of this many episodes each."""
        self._episodes = episodes
        self._under_way: dict[int, list[EpisodeResult]] = {}
        """Results by the training step of their evaluation."""
        self.count = 0
        """Episodes of all evaluations."""
        self.last: Evaluation | None = None
        """The whole evaluation with the most training; None if there is none yet."""

    def add(self, result: EpisodeResult) -> Evaluation | None:
        """Take one episode; returns the evaluation that it completes, if it does."""
        self.count += 1
        results = self._under_way.setdefault(result.evaluated_at, [])
        results.append(result)
        if len(results) < self._episodes:
            return None
        whole = Evaluation(result.evaluated_at, tuple(self._under_way.pop(result.evaluated_at)))
        if self.last is None or whole.env_steps >= self.last.env_steps:
            self.last = whole
        return whole

    @property
    def under_way(self) -> Evaluation | None:
        """The unfinished evaluation that fell due last, as far as it has come."""
        if not self._under_way:
            return None
        env_steps = max(self._under_way)
        return Evaluation(env_steps, tuple(self._under_way[env_steps]))
