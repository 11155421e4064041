"""The world's pace: how long it waits for agents, and when it waits for the learner.

A missed deadline costs everybody `step_timeout_s`. An agent that has missed one is hung: it is not
waited for until it speaks. An agent that misses one after the other, and speaks in between, also
sits out: with the n-th miss 2^(n-1) - 1 ticks, 1023 at most. RELIABLE_AFTER answers in time take
back one miss. So an agent that is slow once loses no tick, and an agent that does all it can to
stop the others costs them, in the long run, one deadline in RELIABLE_AFTER ticks.

Dimension key: N = agents.
"""

from collections import deque

import numpy as np

from configs.arrays import BoolArray

RELIABLE_AFTER = 100
"""Answers in time that take back one missed deadline."""
_MOST_DOUBLINGS = 10


class Patience:
    """Which agents the next tick waits for."""

    def __init__(self, num_agents: int) -> None:
        self._hung_N: BoolArray = np.zeros(num_agents, dtype=np.bool_)
        self._misses_N = np.zeros(num_agents, dtype=np.int64)
        self._in_time_N = np.zeros(num_agents, dtype=np.int64)
        """Answers in time since the last miss, or since one was taken back."""
        self._out_until_N = np.zeros(num_agents, dtype=np.int64)
        """First tick that waits for the agent again."""

    def waits_for(self, tick: int) -> BoolArray:
        """[N] who is waited for in this tick, if it is up."""
        return ~self._hung_N & (self._out_until_N <= tick)

    def spoke(self, agent: int) -> None:
        """It has said something valid, or is a new process: it does not hang."""
        self._hung_N[agent] = False

    def answered(self, agent: int) -> None:
        """It has answered in time."""
        self._in_time_N[agent] += 1
        if self._misses_N[agent] and self._in_time_N[agent] >= RELIABLE_AFTER:
            self._misses_N[agent] -= 1
            self._in_time_N[agent] = 0

    def missed(self, agent: int, tick: int) -> None:
        """It has let everybody wait until the deadline of this tick."""
        doublings = min(int(self._misses_N[agent]), _MOST_DOUBLINGS)
        self._misses_N[agent] = doublings + 1
        self._out_until_N[agent] = tick + (1 << doublings)
        self._in_time_N[agent] = 0
        self._hung_N[agent] = True


class LearnerPace:
    """How far the learner is behind, and whether the world has to wait for it.

    The learner looks up only between two updates, so its own word is always a little old: episodes
    on their way to it are counted here.
    """

    def __init__(
        self, updates_per_episode: float, max_backlog: int, *, must_speak: bool = False
    ) -> None:
        """
        Args:
            must_speak: nothing is played while there is no learner: what would be played is of no
                use to the next one.
        """
        self._must_speak = must_speak
        self._updates_per_episode = updates_per_episode
        self._max_backlog = max_backlog
        self._updates_owed = 0.0
        """By the learner's last word."""
        self._rollouts_owed = 0
        """The same, of full rollouts."""
        self.policy_version = 0
        """Newest that it has published, by the same word."""
        self._num_shipped = 0
        """Training episodes sent to the learner."""
        self._num_untold = 0
        """Of them those that have ended since the last tick: agents do not know it yet."""
        self._baseline: tuple[int, int] | None = None
        """Episodes shipped and episodes the learner had seen when this learner first spoke."""
        self._num_taken = 0

    @property
    def backlog(self) -> float:
        """Updates that the learner owes, those for episodes still on their way to it included."""
        return self._backlog_of(self._num_shipped)

    @property
    def keeps_up(self) -> bool:
        """Whether the world may play on.

        Agents ship an episode when the next tick tells them that it has ended. Episodes that they
        do not know to have ended hold nothing up: the learner would wait for them in vain, and the
        world for the learner.
        """
        if self._baseline is None and self._must_speak:
            return False
        return self._backlog_of(self._num_shipped - self._num_untold) <= self._max_backlog

    def shipped(self) -> None:
        """An episode has ended and goes to the learner; agents will know with the next tick."""
        self._num_shipped += 1
        self._num_untold += 1

    def tick_begins(self) -> None:
        self._num_untold = 0

    def progress(
        self,
        *,
        updates_owed: float,
        episodes_taken: int,
        rollouts_owed: int = 0,
        policy_version: int = 0,
    ) -> None:
        """The learner says what it owes, and how many episodes it has taken in or given up.

        A count that falls is another learner's. One that grows by more than was shipped is of a
        learner that has got again what its predecessor had not acknowledged. Either way the count
        begins anew: the world must neither run away from a learner nor wait for one that is idle.
        """
        another = episodes_taken < self._num_taken
        self._updates_owed, self._num_taken = updates_owed, episodes_taken
        self._rollouts_owed, self.policy_version = rollouts_owed, policy_version
        if self._baseline is not None and not another:
            shipped, taken = self._baseline
            if episodes_taken - taken <= self._num_shipped - shipped:
                return
        self._baseline = self._num_shipped, episodes_taken

    def gone(self) -> None:
        """Go on without a learner: nothing is owed until the next one speaks."""
        self._updates_owed, self._baseline = 0.0, None

    def rollout_ends(self) -> None:
        """A rollout of fixed length has been played."""

    def _backlog_of(self, num_shipped: int) -> float:
        """The backlog if so many episodes had been shipped."""
        if self._baseline is None:
            return 0.0
        shipped, taken = self._baseline
        under_way = (num_shipped - shipped) - (self._num_taken - taken)
        return self._updates_owed + max(under_way, 0) * self._updates_per_episode


class RolloutPace(LearnerPace):
    """Whether the next rollout of fixed length may be played: the learner has taken in all pieces
    of episodes that were to be taken in by now, and has done what it can do with them.
    """

    def __init__(self, *, may_be_ahead: bool) -> None:
        """
        Args:
            may_be_ahead: play one rollout while the learner works off the one before.
        """
        super().__init__(updates_per_episode=0.0, max_backlog=0, must_speak=True)
        self._ahead = int(may_be_ahead)
        """Rollouts that may be played while one is worked off."""
        self._ends: deque[int] = deque(maxlen=2 if may_be_ahead else 1)
        """Pieces shipped at the ends of the newest rollouts."""

    @property
    def keeps_up(self) -> bool:
        if self._baseline is None:
            return False
        if len(self._ends) != self._ends.maxlen:
            return True
        shipped, taken = self._baseline
        num_taken = shipped + self._num_taken - taken
        # One that is full may be the newest only if all of that has been taken in.
        owed = self._ahead if num_taken >= self._ends[-1] else 0
        return num_taken >= self._ends[0] and self._rollouts_owed <= owed

    def rollout_ends(self) -> None:
        self._ends.append(self._num_shipped)
