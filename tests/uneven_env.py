"""An environment whose episodes end, and whose agents die, at drawn times."""

import numpy as np

from envs.base import ActionArray, EnvSpec, Snapshot, Transition
from envs.spaces import Discrete


class UnevenEnv:
    """Observations and rewards are drawn by episode and step: what was seen says when.

    An episode takes 1 to `longest` steps. It is terminated or truncated, whatever is drawn.
    """

    def __init__(self, longest: int = 12, *, num_agents: int = 6, deaths: float = 0.1) -> None:
        """
        Args:
            deaths: probability with which an agent dies in a step; the first never does.
        """
        self._longest, self._deaths = longest, deaths
        self._spec = EnvSpec(
            name="uneven",
            num_agents=num_agents,
            observation_shape=(3,),
            actions=Discrete(4),
            state_dim=2,
            episode_limit=longest,
            noop_action=0,
        )
        self._rng = np.random.default_rng(0)
        self._step = self._length = 0
        self._alive_N = np.ones(num_agents, dtype=np.bool_)
        self.seeds: list[int] = []
        self.lengths: list[int] = []
        """Of the episodes so far, as they were meant to be."""

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        self._rng = np.random.default_rng(seed)
        self._step = 0
        self._length = int(self._rng.integers(1, self._longest + 1))
        self.seeds.append(seed)
        self.lengths.append(self._length)
        self._alive_N = np.ones(self._spec.num_agents, dtype=np.bool_)
        return self._snapshot()

    def step(self, actions_N: ActionArray) -> Transition:
        self._step += 1
        dies_N = self._rng.random(self._spec.num_agents) < self._deaths
        dies_N[0] = False
        self._alive_N = self._alive_N & ~dies_N
        over, terminates = self._step == self._length, bool(self._rng.random() < 0.5)
        return Transition(
            after=self._snapshot(),
            rewards_N=self._rng.normal(size=self._spec.num_agents).astype(np.float32),
            terminated=over and terminates,
            truncated=over and not terminates,
            won=False,
        )

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        drawn_ND = self._rng.normal(size=(self._spec.num_agents, 3)) * self._alive_N[:, None]
        return Snapshot(
            observations_ND=drawn_ND.astype(np.float16),
            state_S=np.array([self._step, self._length], dtype=np.float32),
            alive_N=self._alive_N,
        )
