"""Battle with both teams in hand, for training who plays the other one.

    observe(team) -> [L, D];  step(actions of red, actions of blue) -> rewards and deaths of both

`envs.battle` is one team's world and its opponent's hidden; here the same engine, map, observations
and rewards serve a policy that plays against itself, or against another from either side.

Dimension key: L = living agents of a team, D = observation features.
"""

from typing import NamedTuple

import numpy as np

from configs.arrays import BoolArray, FloatArray, IntArray
from envs.battle.battle import HITS_PAY, OBSERVATION_DIM, SOLDIER
from envs.battle.map import Deployment
from envs.magent import OTHER_HP, OWN_HP, WALL, GridWorld

RED, BLUE = 0, 1
TEAMS = (RED, BLUE)


class TeamStep(NamedTuple):
    """What one step brought to one team."""

    rewards_L: FloatArray
    """Of those who lived before the step."""
    survived_L: BoolArray


class Duel:
    """One battle at a time, seen from both sides."""

    def __init__(self, deployment: Deployment, max_cycles: int = 200) -> None:
        self._places = (deployment.left, deployment.right)
        self._max_cycles = max_cycles
        self._world = GridWorld(
            map_size=deployment.map_size,
            kinds=(SOLDIER, SOLDIER),
            hits=HITS_PAY,
        )
        self._cycle = 0
        self._living = [0, 0]

    def reset(self, seed: int) -> None:
        self._world.reset(seed, self._places)
        self._cycle = 0
        self._living = [len(places) for places in self._places]

    def num_living(self, team: int) -> int:
        return self._living[team]

    def living(self, team: int) -> IntArray:
        """[L] index of each living agent within its team."""
        return self._world.living(team)

    def observe(self, team: int) -> FloatArray:
        """[L, D] what the living see, as in Battle.

        Raises:
            ValueError: nobody of this team lives.
        """
        if self._living[team] == 0:
            raise ValueError("nobody of this team lives to see anything")
        view = self._world.views(team)
        wall = view[..., WALL]
        both = np.concatenate([view[..., OWN_HP] - wall, view[..., OTHER_HP] - wall], axis=-1)
        return both.reshape(-1, OBSERVATION_DIM).astype(np.float16).astype(np.float32)

    def step(self, red_L: IntArray, blue_L: IntArray) -> tuple[TeamStep, TeamStep]:
        """Play one action for each living agent of both teams, in the order of `observe`."""
        world = self._world
        world.order(RED, red_L)
        world.order(BLUE, blue_L)
        world.step()
        self._cycle += 1
        red, blue = (TeamStep(world.rewards(t).copy(), world.survivors(t).copy()) for t in TEAMS)
        world.bury()
        self._living = [int(red.survived_L.sum()), int(blue.survived_L.sum())]
        return red, blue

    @property
    def is_decided(self) -> bool:
        """Whether a team is extinct."""
        return 0 in self._living

    @property
    def is_over(self) -> bool:
        return self.is_decided or self._cycle >= self._max_cycles
