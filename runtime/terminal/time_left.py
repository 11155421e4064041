"""How long a run will take from now on, from what it has done lately.

    (time, done) -> Pace -> rate        RunSnapshot -> TimeLeft.update -> Estimate

World and learner work at the same time, and the world waits when the learner owes too many updates.
Training therefore takes as long as the slower of the two: the steps that are left, or the updates
that are owed and those that the steps will bring.
"""

import math
from typing import NamedTuple

MEMORY_S = 30.0
"""What happened this long ago counts 1/e: an evaluation or a full backlog holds the steps up for
some seconds, again and again."""


class Pace:
    """Smoothed rate of a counter."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._done = self._time_s = 0.0

    def update(self, now_s: float, done: float) -> None:
        """Take in what the counter says now; one that falls begins anew."""
        if self._last is None or done < self._last[1]:
            self._last = now_s, done
            return
        passed_s = now_s - self._last[0]
        if passed_s <= 0.0:
            return
        kept = math.exp(-passed_s / MEMORY_S)
        self._done = kept * self._done + done - self._last[1]
        self._time_s = kept * self._time_s + passed_s
        self._last = now_s, done

    @property
    def per_s(self) -> float:
        """0.0 if it stands still, or nothing is known yet."""
        rate = self._done / self._time_s if self._time_s else 0.0
        return rate if rate > 1e-6 else 0.0


class Estimate(NamedTuple):
    """Of the training that is left; None where nobody can tell: nothing moves, or not yet."""

    steps_s: float | None
    """Seconds that the steps take."""
    updates: int
    """Updates that are owed, and those that the steps will bring."""
    updates_s: float | None
    """Seconds that these updates take."""

    @property
    def total_s(self) -> float | None:
        if self.steps_s is None or self.updates_s is None:
            return None
        return max(self.steps_s, self.updates_s)


class TimeLeft:
    """Watches a training run."""

    def __init__(self, steps: int) -> None:
        """Estimate for a run that ends after so many environment steps."""
        self._steps = steps
        self._played, self._taken, self._due = Pace(), Pace(), Pace()
        self._left = 0
        self._owed = 0

    def update(self, now_s: float, env_steps: int, updates: int, owed: int) -> None:
        """Take in how far world and learner have come.

        Args:
            updates: taken by the learner so far.
            owed: for the episodes that it has.
        """
        self._left = max(self._steps - env_steps, 0)
        self._owed = owed
        self._played.update(now_s, env_steps)
        self._taken.update(now_s, updates)
        self._due.update(now_s, updates + owed)

    def estimate(self) -> Estimate:
        played = self._played.per_s
        to_come = self._left * self._due.per_s / played if played else 0.0
        updates = self._owed + round(to_come)
        return Estimate(_time_s(self._left, played), updates, _time_s(updates, self._taken.per_s))


def _time_s(amount: float, per_s: float) -> float | None:
    if not amount:
        return 0.0
    return amount / per_s if per_s else None
