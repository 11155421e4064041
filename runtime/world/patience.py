"""How long the world waits for agents that have let it wait before.

A missed deadline costs everybody `step_timeout_s`. Who has missed one is hung, and is not waited
for until it speaks. Who misses one after the other, and speaks in between, also sits out: with the
n-th miss 2^(n-1) - 1 ticks, 1023 at most. RELIABLE_AFTER answers in time take back one miss. So an
agent that is slow once loses no tick, and an agent that does all it can to stop the others costs
them, in the long run, one deadline in RELIABLE_AFTER ticks.

Dimension key: N = agents.
"""

import numpy as np

from agents.comm.gate import BoolArray

RELIABLE_AFTER = 100
"""Answers in time that take back one missed deadline."""
_MOST_DOUBLINGS = 10


class Patience:
    """Whom the next tick waits for."""

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
