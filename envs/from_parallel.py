"""Somebody's PettingZoo environment as one of ours.

    env.reset, env.step: dicts by agent  ->  FromParallel  ->  Snapshot, Transition: rows by number

Agents keep their numbers, the order of `possible_agents`, for good: who is not in `agents` is dead
for the time being, and may come back. An episode is over when nobody is left; who was truncated by
the last step has not died of it, so that what comes next still counts.

Dimension key: N = agents, D = observation features, S = state, A = actions.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray
from envs.base import ActionArray, EnvSpec, Snapshot, Transition
from envs.gym_spaces import MASK, Deeds, Sights, Space, kinds_of
from envs.scene import Frame
from envs.spaces import Box

_NUMBERED = re.compile(r"(.*?)_?\d+")
_SEEDS = 1 << 31
"""Older generators take no larger seed."""


class FromParallel:
    """A PettingZoo parallel environment, all of whose agents are one team."""

    def __init__(self, env: Any, name: str, episode_limit: int) -> None:
        """Take over an environment and learn its spaces, of which some show in an episode only.

        Args:
            episode_limit: steps after which an episode is truncated, if it has not been before.

        Raises:
            ValueError: a space that agents cannot see or act in.
        """
        self._env = env
        self._names = [str(agent) for agent in env.possible_agents]
        self._agents: dict[Any, int] = {a: i for i, a in enumerate(env.possible_agents)}
        seen: list[Space] = [env.observation_space(agent) for agent in self._agents]
        acts: list[Space] = [env.action_space(agent) for agent in self._agents]
        kinds_N = kinds_of(list(zip(map(_kind, self._names), seen, acts, strict=True)))
        self._sights = Sights(seen, kinds_N)
        self._deeds = Deeds(acts)
        self._cycle = 0
        observations, infos = env.reset(seed=0)
        del observations
        self._asks_infos = any(MASK in info for info in infos.values())
        self._has_masks = not isinstance(self._deeds.space, Box) and (
            not self._deeds.are_alike or any(self._sights.masked_N) or self._asks_infos
        )
        self._own_masks_NA = (
            np.array([self._deeds.own_mask(i) for i in range(len(seen))])
            if self._has_masks
            else None
        )
        num_agents, dim = len(seen), int(np.prod(self._sights.shape))
        try:
            state_dim = int(np.size(env.state()))
        except (NotImplementedError, AttributeError):
            state_dim = 0
        self._has_state = state_dim > 0
        self._spec = EnvSpec(
            name=name,
            num_agents=num_agents,
            observation_shape=self._sights.shape,
            observation_dtype=self._sights.dtype,
            actions=self._deeds.space,
            state_dim=state_dim or num_agents * dim,
            episode_limit=episode_limit,
            noop_action=0,
            has_action_masks=self._has_masks,
            kinds_N=kinds_N,
            comes_back=True,
            can_be_won=False,
        )
        self._last: Snapshot | None = None

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode; equal seeds give equal ones if the environment keeps that promise."""
        observations, infos = self._env.reset(seed=seed % _SEEDS)
        self._cycle = 0
        return self._snapshot(self._there(), observations, infos)

    def step(self, actions_N: ActionArray) -> Transition:
        """Play one action for each agent that is there."""
        assert self._last is not None, "reset before the first step"
        before = self._there()
        played = {agent: self._played(i, actions_N[i]) for agent, i in before.items()}
        observations, rewards, terminations, truncations, infos = self._env.step(played)
        self._cycle += 1
        rewards_N = np.zeros(self._spec.num_agents, dtype=np.float32)
        for agent, reward in rewards.items():
            rewards_N[self._agents[agent]] = reward
        # Some environments keep those listed who have just ended.
        left = {
            agent: i
            for agent, i in self._there().items()
            if not (terminations.get(agent, False) or truncations.get(agent, False))
        }
        cut_off = {
            agent: i
            for agent, i in before.items()
            if truncations.get(agent, False) and not terminations.get(agent, False)
        }
        over = not left
        truncated = bool(cut_off) if over else self._cycle >= self._spec.episode_limit
        return Transition(
            after=self._snapshot(cut_off if over else left, observations, infos),
            rewards_N=rewards_N,
            terminated=over and not truncated,
            truncated=truncated,
            won=False,
        )

    def scene(self) -> Frame | None:
        """What the environment draws of itself, if it was made with render_mode rgb_array."""
        if getattr(self._env, "render_mode", None) != "rgb_array":
            return None
        frame: Any = self._env.render()
        if not isinstance(frame, np.ndarray):
            return None
        picture = cast("NDArray[Any]", frame)
        is_rgb = picture.ndim == 3 and picture.shape[2] in (3, 4)
        return np.ascontiguousarray(picture[..., :3], dtype=np.uint8) if is_rgb else None

    def close(self) -> None:
        self._env.close()

    def _there(self) -> dict[Any, int]:
        return {agent: self._agents[agent] for agent in self._env.agents}

    def _played(self, agent: int, action: Any) -> Any:
        masks_NA = None if self._last is None else self._last.action_masks_NA
        if masks_NA is not None and not masks_NA[agent, int(action)]:
            # An agent whose process is gone plays the no-op, whatever it may be here.
            action = int(masks_NA[agent].argmax())
        return self._deeds.played(agent, action)

    def _snapshot(
        self, there: Mapping[Any, int], observations: Mapping[Any, Any], infos: Mapping[Any, Any]
    ) -> Snapshot:
        spec = self._spec
        alive_N = np.zeros(spec.num_agents, dtype=np.bool_)
        rows_ND: NDArray[Any] = np.zeros(
            (spec.num_agents, spec.observation_dim), dtype=spec.observation_dtype
        )
        masks_NA = None if self._own_masks_NA is None else self._own_masks_NA.copy()
        for agent, i in there.items():
            alive_N[i] = True
            self._sights.row(i, observations[agent], rows_ND[i])
            if masks_NA is not None:
                self._allow(i, observations[agent], infos.get(agent, {}), masks_NA[i])
        self._last = Snapshot(
            observations_ND=rows_ND,
            state_S=self._state(rows_ND),
            alive_N=alive_N,
            action_masks_NA=masks_NA,
        )
        return self._last

    def _allow(self, agent: int, seen: Any, info: Mapping[str, Any], mask_A: BoolArray) -> None:
        said = seen.get(MASK) if self._sights.masked_N[agent] else info.get(MASK)
        # Whose turn it is not may do nothing at all: what it plays then is not looked at.
        if said is not None and np.any(said):
            mask_A[: self._deeds.num_actions(agent)] = np.asarray(said).reshape(-1).astype(np.bool_)

    def _state(self, rows_ND: NDArray[Any]) -> FloatArray:
        """[S] of the environment's own, or what all agents see; images in [0, 1]."""
        raw = np.asarray(self._env.state()) if self._has_state else rows_ND
        scale = 255.0 if raw.dtype == np.uint8 else 1.0
        return (raw.reshape(-1) / scale).astype(np.float32)


def _kind(name: str) -> str:
    """What agents are called beside their number: adversary of adversary_2."""
    numbered = _NUMBERED.fullmatch(name)
    return numbered[1] if numbered else ""
