"""Our environments as PettingZoo's ParallelEnv, for whoever drives agents from that side.

    reset(seed) -> observations by agent;  step(actions by agent) -> what came of it, by agent

Agents are named agent_0 … agent_N-1. PettingZoo lets an agent leave when it has died: its last
entry says terminated, and afterwards nobody asks for its action.

Dimension key: N = agents of the learning team, D = observation features.
"""

from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from configs import streams
from configs.streams import Role
from envs.base import ActionArray, Env, EnvSpec, Snapshot
from envs.copies import ContestedEnv
from envs.opponent import Opponent
from envs.spaces import Box, Discrete, MultiDiscrete

_Seen = spaces.Space[NDArray[Any]]
_Done = spaces.Space[Any]


def agent_name(agent: int) -> str:
    """PettingZoo's name of an agent: agent_17."""
    return f"agent_{agent}"


def agent_index(name: str) -> int:
    """The number in an agent's name."""
    return int(name.removeprefix("agent_"))


class Parallel(ParallelEnv[str, NDArray[Any], Any]):
    """One of our environments, seen from the learning team."""

    metadata: dict[str, Any] = {"name": "murmuration", "render_modes": []}  # noqa: RUF012  # theirs

    def __init__(self, env: Env, opponent: Opponent | None = None) -> None:
        """Take over an environment.

        Args:
            opponent: plays the other team, where there is one; without it that does nothing.
        """
        self._env = env
        self._opponent = opponent
        self._contested = env if isinstance(env, ContestedEnv) else None
        self._rng = streams.generator(None, Role.PARALLEL)
        self._alive_N = np.zeros(env.spec.num_agents, dtype=np.bool_)
        self.possible_agents = [agent_name(agent) for agent in range(env.spec.num_agents)]
        self.agents: list[str] = []
        self.metadata = {**self.metadata, "name": env.spec.name}
        self.render_mode = None
        # The same object for an agent every time: a space has a generator of its own.
        self.observation_spaces = {name: _seen_of(env.spec) for name in self.possible_agents}
        self.action_spaces = {name: _done_of(env.spec) for name in self.possible_agents}

    @property
    def num_actions(self) -> int:
        return self._env.spec.num_actions

    @property
    def noop_action(self) -> int:
        """What somebody plays who has nothing to play."""
        return self._env.spec.noop_action

    def observation_space(self, agent: str) -> "_Seen":
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> "_Done":
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
        """Begin an episode; equal seeds give equal episodes, and those that follow without one."""
        if seed is not None:
            self._rng = streams.generator(seed, Role.PARALLEL)
        seed = int(self._rng.integers(1 << 31))
        first = self._env.reset(seed)
        self._alive_N = first.alive_N
        self.agents = [
            n for n, alive in zip(self.possible_agents, first.alive_N, strict=True) if alive
        ]
        return self._seen(first), self._infos(first, won=False)

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, NDArray[Any]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play one action for each agent that is there.

        Raises:
            KeyError: no action for an agent that is there.
        """
        actions_N = self._noops()
        for name in self.agents:
            actions_N[agent_index(name)] = self._number_of(actions[name])
        if self._opponent is not None and self._contested is not None:
            seen_MD = self._contested.opponent_observations()
            uniforms_M = self._rng.random(len(seen_MD))
            self._contested.set_opponent_actions(self._opponent.act(seen_MD, uniforms_M))
        transition = self._env.step(actions_N)
        after = transition.after
        present = {name: agent_index(name) for name in self.agents}
        outcome = (
            self._seen(after),
            {name: float(transition.rewards_N[i]) for name, i in present.items()},
            {name: transition.terminated or not after.alive_N[i] for name, i in present.items()},
            dict.fromkeys(present, transition.truncated),
            self._infos(after, won=transition.won, **transition.metrics),
        )
        over = transition.terminated or transition.truncated
        back = after.alive_N & ~self._alive_N
        self._alive_N = after.alive_N
        # PettingZoo's test wants the dead to stay dead; where they come back, so they do here.
        there = [n for n, i in present.items() if after.alive_N[i]]
        self.agents = [] if over else there + [agent_name(i) for i in np.flatnonzero(back).tolist()]
        return outcome

    def close(self) -> None:
        self._env.close()

    def _noops(self) -> ActionArray:
        spec = self._env.spec
        if isinstance(spec.actions, Box):
            nearest_n = np.clip(0.0, spec.actions.low, spec.actions.high).astype(np.float32)
            return np.tile(nearest_n, (spec.num_agents, 1))
        return np.full(spec.num_agents, spec.noop_action, dtype=np.int64)

    def _number_of(self, action: Any) -> Any:
        """The action as it travels: one number for several choices."""
        parts = self._env.spec.actions
        if not isinstance(parts, MultiDiscrete) or np.ndim(action) == 0:
            return action
        return int(np.ravel_multi_index(tuple(action), parts.parts))

    def _seen(self, snapshot: Snapshot) -> dict[str, NDArray[Any]]:
        spec = self._env.spec
        dtype = np.uint8 if spec.observation_dtype == "uint8" else np.float32
        rows = snapshot.observations_ND
        return {
            name: rows[agent_index(name)].astype(dtype).reshape(spec.observation_shape)
            for name in self.agents
        }

    def _infos(self, snapshot: Snapshot, **said: Any) -> dict[str, dict[str, Any]]:
        """What is said beside: allowed actions as PettingZoo's own say them."""
        masks_NA = snapshot.action_masks_NA
        if masks_NA is None:
            return {name: dict(said) for name in self.agents}
        return {
            name: {**said, "action_mask": masks_NA[agent_index(name)].astype(np.int8)}
            for name in self.agents
        }


def _seen_of(spec: EnvSpec) -> "_Seen":
    if spec.observation_dtype == "uint8":
        return cast("_Seen", spaces.Box(0, 255, spec.observation_shape, np.uint8))
    return cast("_Seen", spaces.Box(-np.inf, np.inf, spec.observation_shape, np.float32))


def _done_of(spec: EnvSpec) -> "_Done":
    match spec.actions:
        case Discrete(n):
            return cast("_Done", spaces.Discrete(n))
        case MultiDiscrete(parts):
            return cast("_Done", spaces.MultiDiscrete(np.array(parts)))
        case Box(low, high):
            bounds = np.array(low, np.float32), np.array(high, np.float32)
            return cast("_Done", spaces.Box(*bounds, dtype=np.float32))
