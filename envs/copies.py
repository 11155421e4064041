"""Copies: E independent environments that never stop.

    actions [E, N] -> opponent (one call for all copies) -> step -> transition, and what is seen now

Where an episode ends, the next one begins at once: `transition.after` is the end of the old one,
`now` the beginning of the new one. An episode's seed depends on the root seed, the copy and how
many episodes the copy has had, not on how the other copies fare.

Dimension key: E = copies, N = agents of the learning team, M = living opponents of one copy,
B = living opponents of all copies, D = observation features.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from envs.base import Env, EnvSpec, FloatArray, IntArray, Snapshot, Transition
from envs.opponents import Opponent


@runtime_checkable
class ContestedEnv(Env, Protocol):
    """An environment with a second team, which somebody must play."""

    def opponent_observations(self) -> FloatArray:
        """[M, D] what the opponents who live see."""
        ...

    def set_opponent_actions(self, actions_M: IntArray) -> None:
        """Say what they do in the next step, in the same order."""
        ...


class CopyStep(NamedTuple):
    """What one step brought to one copy."""

    transition: Transition
    now: Snapshot
    """`transition.after`, or the first snapshot of the next episode if this one has ended."""


class Copies:
    """E environments of one kind, reset as they end."""

    def __init__(
        self,
        envs: Sequence[Env],
        seed: int,
        opponent: Opponent | None = None,
        first_episode: int = 0,
    ) -> None:
        """Take over the environments.

        Args:
            envs: E environments with equal specs.
            seed: root of every episode's seed.
            opponent: plays the other team; without one it does nothing.
            first_episode: number of each copy's first episode; a resumed run continues its count
                here, so that it does not meet the same episodes again.

        Raises:
            ValueError: no environment, unequal specs, or an opponent where there is nobody to play.
        """
        if not envs:
            raise ValueError("copies need at least one environment, got none")
        if any(env.spec != envs[0].spec for env in envs):
            raise ValueError(f"copies must be alike, got {[env.spec for env in envs]}")
        contested = [env for env in envs if isinstance(env, ContestedEnv)]
        if opponent is not None and len(contested) < len(envs):
            raise ValueError(f"{envs[0].spec.name} has no second team for an opponent to play")
        self._envs = list(envs)
        self._contested = contested
        self._opponent = opponent
        self._seed = seed
        self._first_episode = first_episode
        self._next_episodes = [first_episode] * len(envs)
        self._num_steps = 0

    @property
    def spec(self) -> EnvSpec:
        return self._envs[0].spec

    def reset(self) -> tuple[Snapshot, ...]:
        """Begin the next episode of every copy."""
        return tuple(self._begin(copy) for copy in range(len(self._envs)))

    def step(self, actions_EN: IntArray) -> tuple[CopyStep, ...]:
        """Play one step in every copy.

        Raises:
            ValueError: not one row of actions for each copy.
        """
        expected = (len(self._envs), self.spec.num_agents)
        if actions_EN.shape != expected:
            raise ValueError(f"copies play actions {expected}, got shape {actions_EN.shape}")
        if self._opponent is not None:
            self._play_opponents(self._opponent)
        self._num_steps += 1
        steps: list[CopyStep] = []
        for copy, env in enumerate(self._envs):
            transition = env.step(actions_EN[copy])
            ended = transition.terminated or transition.truncated
            now = self._begin(copy) if ended else transition.after
            steps.append(CopyStep(transition, now))
        return tuple(steps)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _begin(self, copy: int) -> Snapshot:
        episode = self._next_episodes[copy]
        self._next_episodes[copy] += 1
        sequence = np.random.SeedSequence(self._seed, spawn_key=(copy, episode))
        return self._envs[copy].reset(int(sequence.generate_state(1)[0]))

    def _play_opponents(self, opponent: Opponent) -> None:
        observations = [env.opponent_observations() for env in self._contested]
        # A generator for each step: how many opponents live in later copies must not decide what
        # those of the first draw next. Three keys, where an episode's seed has two.
        sequence = np.random.SeedSequence(
            self._seed, spawn_key=(0, self._first_episode, self._num_steps)
        )
        actions_B = opponent.act(np.concatenate(observations), np.random.default_rng(sequence))
        ends = np.cumsum([len(rows) for rows in observations])
        for env, actions_M in zip(self._contested, np.split(actions_B, ends[:-1]), strict=True):
            env.set_opponent_actions(actions_M)
