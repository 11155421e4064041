"""An environment whose observations are images, for networks that take them.

    --env tests.image_task:Spots

Every agent sees a coloured spot on a field of bytes, somewhere else in each step, and is to name
its quarter. Agents die one after the other.
"""

import numpy as np

from configs.arrays import BoolArray
from envs.base import ActionArray, Env, EnvSpec, Snapshot, Transition
from envs.family import EnvFamily, NoOptions
from envs.spaces import Discrete

SIDE, CHANNELS, LENGTH = 8, 3, 16


class Spots(EnvFamily[NoOptions]):
    Options = NoOptions
    is_heavy = False

    def spec(self, options: NoOptions, num_agents: int) -> EnvSpec:
        return EnvSpec(
            name=self.name,
            num_agents=num_agents,
            observation_shape=(SIDE, SIDE, CHANNELS),
            observation_dtype="uint8",
            actions=Discrete(4),
            state_dim=2 * num_agents,
            episode_limit=LENGTH,
            can_be_won=False,
        )

    def make(self, options: NoOptions, num_agents: int) -> Env:
        return Field(self.spec(options, num_agents))


class Field:
    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._rng = np.random.default_rng()
        self._step = 0

    def reset(self, seed: int) -> Snapshot:
        self._rng = np.random.default_rng(seed)
        self._step = 0
        return self._look()

    def step(self, actions_N: ActionArray) -> Transition:
        right_N = actions_N == 2 * (self._row_N >= SIDE // 2) + (self._column_N >= SIDE // 2)
        rewards_N = (right_N & self._alive_N).astype(np.float32)
        self._step += 1
        return Transition(
            after=self._look(),
            rewards_N=rewards_N,
            terminated=self._step == LENGTH,
            truncated=False,
            won=False,
        )

    @property
    def _alive_N(self) -> BoolArray:
        """Agent i dies after 8 + 2 i steps."""
        alive_N: BoolArray = self._step < 8 + 2 * np.arange(self.spec.num_agents)
        return alive_N

    def _look(self) -> Snapshot:
        agents = np.arange(self.spec.num_agents)
        self._row_N, self._column_N = self._rng.integers(SIDE, size=(2, agents.size))
        images = np.zeros((agents.size, SIDE, SIDE, CHANNELS), dtype=np.uint8)
        colours = self._rng.integers(100, 256, size=(agents.size, CHANNELS))
        images[agents, self._row_N, self._column_N] = colours
        images[~self._alive_N] = 0
        return Snapshot(
            observations_ND=images.reshape(agents.size, -1),
            state_S=np.concatenate((self._row_N, self._column_N)).astype(np.float32),
            alive_N=self._alive_N,
        )

    def close(self) -> None:
        pass
