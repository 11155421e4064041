"""An environment with everything that environments may have, and nothing to be learned in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from envs.base import ActionArray, EnvSpec, ObservationDtype, Snapshot, Transition
from envs.spaces import ActionSpace, Discrete


class RichEnv:
    """Observations are drawn by episode and step; lives, masks and spaces are what a test says."""

    def __init__(
        self,
        length: int = 6,
        *,
        num_agents: int = 6,
        actions: ActionSpace | None = None,
        dtype: ObservationDtype = "float16",
        masks: bool = False,
        away: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """
        Args:
            masks: each agent may take every other action, which ones changes from step to step.
            away: agents that are not alive, by the moment.
        """
        self._length, self._masks, self._away = length, masks, away or {}
        self.played: list[NDArray[Any]] = []
        self.seen: list[Snapshot] = []
        self._step = 0
        self._spec = EnvSpec(
            name="rich",
            num_agents=num_agents,
            observation_shape=(3,),
            observation_dtype=dtype,
            actions=actions or Discrete(4),
            state_dim=1,
            episode_limit=1000,
            noop_action=0,
            has_action_masks=masks,
            comes_back=bool(away),
        )

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        self._step = 0
        return self._snapshot()

    def step(self, actions_N: ActionArray) -> Transition:
        self.played.append(actions_N.copy())
        self._step += 1
        over = self._step == self._length
        return Transition(
            after=self._snapshot(),
            rewards_N=np.ones(self._spec.num_agents, np.float32),
            terminated=False,
            truncated=over,
            won=False,
        )

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        spec = self._spec
        alive_N: BoolArray = np.ones(spec.num_agents, dtype=np.bool_)
        alive_N[list(self._away.get(self._step, ()))] = False
        drawn_ND = np.random.default_rng(self._step).normal(size=(spec.num_agents, 3))
        if spec.observation_dtype == "uint8":
            drawn_ND = np.abs(100.0 * drawn_ND).clip(max=255)
        masks_NA = None
        if self._masks:
            numbers = np.arange(spec.num_actions) + np.arange(spec.num_agents)[:, None]
            masks_NA = (numbers + self._step) % 2 == 0
        snapshot = Snapshot(
            observations_ND=(drawn_ND * alive_N[:, None]).astype(spec.observation_dtype),
            state_S=np.array([self._step], dtype=np.float32),
            alive_N=alive_N,
            action_masks_NA=masks_NA,
        )
        self.seen.append(snapshot)
        return snapshot
