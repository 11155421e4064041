"""An environment of one's own, for `--env my_env:make` in the folder of this file.

    python -m runtime.launch --env my_env:make --env.options agents=4,size=9 --steps 20000

Agents stand on a line and should all come to the same cell, whichever it is.
"""

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Meeting(ParallelEnv):
    metadata = {"name": "meeting"}  # noqa: RUF012  # as all of PettingZoo's

    def __init__(self, agents: int = 4, size: int = 9) -> None:
        self.possible_agents = [f"agent_{i}" for i in range(agents)]
        self.size, self.max_cycles = size, 20

    def observation_space(self, agent):
        return spaces.Box(0.0, 1.0, (2,), np.float32)  # where I am, what time it is

    def action_space(self, agent):
        return spaces.Discrete(3)  # left, stay, right

    def reset(self, seed=None, options=None):
        self.agents, self.cycle = list(self.possible_agents), 0
        self.cells = np.random.default_rng(seed).integers(self.size, size=len(self.agents))
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        moves = np.array([actions[agent] - 1 for agent in self.agents])
        self.cells = (self.cells + moves).clip(0, self.size - 1)
        self.cycle += 1
        met = bool((self.cells == self.cells[0]).all())
        late = self.cycle == self.max_cycles
        names, reward = self.agents, 1.0 if met else -float(np.ptp(self.cells)) / self.size
        outcome = [dict.fromkeys(names, value) for value in (reward, met, late)]
        seen, infos = self._seen(), {agent: {} for agent in names}
        self.agents = [] if met or late else names
        return seen, *outcome, infos

    def _seen(self):
        now = self.cycle / self.max_cycles
        rows = zip(self.agents, self.cells / (self.size - 1), strict=True)
        return {agent: np.array([cell, now], np.float32) for agent, cell in rows}


def make(agents: int = 4, size: int = 9) -> Meeting:
    return Meeting(agents, size)
