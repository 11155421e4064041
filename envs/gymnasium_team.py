"""Gymnasium environments with a tuple of observations and a list of rewards, as ours.

    env.reset, env.step: a tuple and a list by agent  ->  GymnasiumTeam  ->  Snapshot, Transition

Level-based foraging and the robotic warehouse share this interface, which is not PettingZoo's. Both
say `done` at their time limit and never `truncated`, so `is_finished` tells the two apart here.

Dimension key: N = agents, A = actions, D = observation features, S = state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray
from envs.base import ActionArray, EnvSpec, Snapshot, Transition


class GymnasiumTeam(ABC):
    """A gymnasium environment whose agents all live and act in every step."""

    def __init__(self, env: Any, spec: EnvSpec) -> None:
        self._env = env
        self._spec = spec
        self._over = True

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode; equal seeds give equal ones."""
        observations, _ = self._env.reset(seed=seed)
        self._over = False
        return self._snapshot(observations)

    def step(self, actions_N: ActionArray) -> Transition:
        """Play one action per agent.

        Raises:
            ValueError: not one action for each agent.
        """
        assert not self._over, "the episode is over: reset before the next step"
        if actions_N.shape != (self._spec.num_agents,):
            raise ValueError(
                f"{self._spec.name} has {self._spec.num_agents} actions to play, got shape "
                f"{actions_N.shape}"
            )
        observations, rewards, self._over, _, _ = self._env.step(actions_N.tolist())
        finished = self.is_finished()
        return Transition(
            after=self._snapshot(observations),
            rewards_N=self.rewards(np.array(rewards, dtype=np.float32)),
            terminated=self._over and finished,
            truncated=self._over and not finished,
            won=self._over and finished,
        )

    def close(self) -> None:
        self._env.close()

    def is_finished(self) -> bool:
        """Whether the task itself has ended with the latest step."""
        return False

    def rewards(self, own_N: FloatArray) -> FloatArray:
        """[N] what agents are told for what the environment gives each of them."""
        return own_N

    def masks(self) -> BoolArray | None:
        """[N, A] actions that are allowed now, where the environment says so."""
        return None

    @abstractmethod
    def state(self, observations_ND: NDArray[Any]) -> FloatArray:
        """[S]"""

    def _snapshot(self, observations: Sequence[NDArray[np.float32]]) -> Snapshot:
        spec = self._spec
        seen_ND = np.stack(observations).astype(spec.observation_dtype)
        return Snapshot(
            observations_ND=seen_ND,
            state_S=self.state(seen_ND),
            alive_N=np.ones(spec.num_agents, dtype=np.bool_),
            action_masks_NA=self.masks(),
        )
