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
from configs.arrays import FloatArray
from configs.streams import Role
from envs.base import Env, Snapshot
from envs.copies import ContestedEnv
from envs.opponent import Opponent

_Seen = spaces.Space[NDArray[np.float32]]
_Done = spaces.Space[int]


def agent_name(agent: int) -> str:
    """PettingZoo's name of an agent: agent_17."""
    return f"agent_{agent}"


def agent_index(name: str) -> int:
    """The number in an agent's name."""
    return int(name.removeprefix("agent_"))


class Parallel(ParallelEnv[str, NDArray[np.float32], int]):
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
        self.possible_agents = [agent_name(agent) for agent in range(env.spec.num_agents)]
        self.agents: list[str] = []
        self.metadata = {**self.metadata, "name": env.spec.name}
        self.render_mode = None
        # The same object for an agent every time: a space has a generator of its own.
        shape, num_actions = (env.spec.observation_dim,), env.spec.num_actions
        self.observation_spaces = {
            name: cast("_Seen", spaces.Box(-np.inf, np.inf, shape, np.float32))
            for name in self.possible_agents
        }
        self.action_spaces = {
            name: cast("_Done", spaces.Discrete(num_actions)) for name in self.possible_agents
        }

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
    ) -> tuple[dict[str, FloatArray], dict[str, dict[str, Any]]]:
        """Begin an episode; equal seeds give equal episodes, and those that follow without one."""
        if seed is not None:
            self._rng = streams.generator(seed, Role.PARALLEL)
        seed = int(self._rng.integers(1 << 31))
        self.agents = list(self.possible_agents)
        return self._seen(self._env.reset(seed)), self._infos(won=False)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, FloatArray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play one action for each agent that is there.

        Raises:
            KeyError: no action for an agent that is there.
        """
        spec = self._env.spec
        actions_N = np.full(spec.num_agents, spec.noop_action, dtype=np.int64)
        for name in self.agents:
            actions_N[agent_index(name)] = actions[name]
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
            self._infos(won=transition.won),
        )
        over = transition.terminated or transition.truncated
        self.agents = [] if over else [n for n, i in present.items() if after.alive_N[i]]
        return outcome

    def close(self) -> None:
        self._env.close()

    def _seen(self, snapshot: Snapshot) -> dict[str, FloatArray]:
        return {
            name: snapshot.observations_ND[agent_index(name)].astype(np.float32)
            for name in self.agents
        }

    def _infos(self, *, won: bool) -> dict[str, dict[str, Any]]:
        return {name: {"won": won} for name in self.agents}
