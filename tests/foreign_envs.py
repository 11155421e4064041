"""PettingZoo environments that tests play: small, and odd in one way each."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class Foreign:
    """A parallel environment that a test tells what happens in each step.

    Agents see the number of the step and their own; `ends` says who is terminated or truncated by
    which step, `returns` who is there again.
    """

    metadata: Mapping[str, Any] = {"name": "foreign"}

    def __init__(
        self,
        names: tuple[str, ...] = ("agent_0", "agent_1"),
        *,
        seen: Mapping[str, Any] | None = None,
        acts: Mapping[str, Any] | None = None,
        look: Callable[[str, int], Any] | None = None,
        terminated: Mapping[int, tuple[str, ...]] | None = None,
        truncated: Mapping[int, tuple[str, ...]] | None = None,
        returns: Mapping[int, tuple[str, ...]] | None = None,
        infos: Callable[[str], dict[str, Any]] | None = None,
        raises_at: int = -1,
    ) -> None:
        self.possible_agents = list(names)
        self.agents: list[str] = []
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self._seen = seen or dict.fromkeys(names, box)
        self._acts = acts or dict.fromkeys(names, spaces.Discrete(3))
        self._look = look or self._number_and_own
        self._terminated = terminated or {}
        self._truncated = truncated or {}
        self._returns = returns or {}
        self._infos = infos or _nothing_to_say
        self._raises_at = raises_at
        self.step_number = 0
        self.seeds: list[int | None] = []
        self.played: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> Any:
        return self._seen[agent]

    def action_space(self, agent: str) -> Any:
        return self._acts[agent]

    def reset(
        self, seed: int | None = None, options: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seeds.append(seed)
        self.agents, self.step_number = list(self.possible_agents), 0
        return self._all(self.agents)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents)
        self.step_number += 1
        if self.step_number == self._raises_at:
            raise RuntimeError("the table\nhas fallen over")
        self.played.append(actions)
        there = list(self.agents)
        terminated = {name: name in self._terminated.get(self.step_number, ()) for name in there}
        truncated = {name: name in self._truncated.get(self.step_number, ()) for name in there}
        rewards = {name: float(i + 1) for i, name in enumerate(there)}
        back = self._returns.get(self.step_number, ())
        seen, infos = self._all([*there, *back])
        self.agents = [name for name in there if not (terminated[name] or truncated[name])]
        self.agents += back
        return seen, rewards, terminated, truncated, infos

    def close(self) -> None: ...

    def _number_and_own(self, name: str, step: int) -> NDArray[np.float32]:
        return np.array([step, self.possible_agents.index(name)], np.float32)

    def _all(self, names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        seen = {name: self._look(name, self.step_number) for name in names}
        return seen, {name: self._infos(name) for name in names}


def _nothing_to_say(name: str) -> dict[str, Any]:
    del name
    return {}


def make(raises_at: int = 3) -> Foreign:
    """For `--env tests.foreign_envs:make`."""
    return Foreign(raises_at=raises_at)
