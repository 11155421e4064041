"""Copies: E independent environments that never stop.

    actions [E, N] -> opponents (one call each for all copies they play) -> step -> transition,
    and what is seen now

Where an episode ends, the next one begins at once: `transition.after` is the end of the old one,
`now` the beginning of the new one. An episode's seed depends on the root seed, the run's life, the
copy and how many episodes the copy has had, not on how the other copies fare.

Dimension key: E = copies, N = agents of the learning team, M = living opponents of one copy,
B = living opponents of all copies, D = observation features.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from configs import streams
from configs.arrays import BoolArray, FloatArray, IntArray
from configs.streams import Role
from envs.base import ActionArray, Env, EnvSpec, Snapshot, Transition
from envs.opponent import Opponent


@runtime_checkable
class ContestedEnv(Env, Protocol):
    """An environment with a second team, which somebody must play."""

    def opponent_observations(self) -> FloatArray:
        """[M, D] what the opponents who live see."""
        ...

    def set_opponent_actions(self, actions_M: IntArray) -> None:
        """Say what they do in the next step, in the same order."""
        ...


class EnvFailure(Exception):
    """An environment cannot go on. Whatever it raised is its author's to read: it stands in the
    log.
    """

    def __init__(self, name: str, method: str, error: Exception) -> None:
        said = " ".join(str(error).split())[:300]
        super().__init__(
            f"the environment {name} failed in its {method}: {type(error).__name__}: {said}"
        )


class CopyStep(NamedTuple):
    """What one step brought to one copy."""

    transition: Transition
    now: Snapshot
    """`transition.after`, or the first snapshot of the next episode if this one has ended."""


class EnvCopies(Protocol):
    """E environments of one kind, wherever they are: here (`Copies`) or in processes of their own
    (envs/shards.py).
    """

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self) -> tuple[Snapshot, ...]:
        """Begin the next episode of every copy."""
        ...

    def step(
        self,
        actions_EN: ActionArray,
        opponents_E: IntArray | None = None,
        rests_E: BoolArray | None = None,
    ) -> tuple[CopyStep, ...]:
        """Play one step in every copy."""
        ...

    def close(self) -> None: ...


class Copies:
    """E environments of one kind, reset as they end."""

    def __init__(
        self,
        envs: Sequence[Env],
        seed: int,
        opponents: Sequence[Opponent] = (),
        first_episode: int = 0,
        first_copy: int = 0,
        life: int = 0,
    ) -> None:
        """Take over the environments.

        Args:
            envs: E environments with equal specs.
            seed: root of every episode's seed.
            opponents: who can play the other team; without one it does nothing.
            first_episode: number of each copy's first episode; a resumed run continues its count
                here, so that it does not meet the same episodes again.
            first_copy: number of the first of these among all copies of the run, of which others
                may be elsewhere.
            life: how often the run has been resumed.

        Raises:
            ValueError: no environment, unequal specs, or an opponent where there is nobody to play.
        """
        if not envs:
            raise ValueError("copies need at least one environment, got none")
        if any(env.spec != envs[0].spec for env in envs):
            raise ValueError(f"copies must be alike, got {[env.spec for env in envs]}")
        contested = [env for env in envs if isinstance(env, ContestedEnv)]
        if opponents and len(contested) < len(envs):
            raise ValueError(f"{envs[0].spec.name} has no second team for an opponent to play")
        self._envs = list(envs)
        self._contested = contested
        self._opponents = tuple(opponents)
        self._chances: dict[int, np.random.Generator] = {}
        """Of the opponents, by copy: made anew with each episode."""
        self._seed = seed
        self._first_copy = first_copy
        self._life = life
        self._next_episodes = [first_episode] * len(envs)
        self._now: tuple[Snapshot, ...] = ()

    @property
    def spec(self) -> EnvSpec:
        return self._envs[0].spec

    def reset(self) -> tuple[Snapshot, ...]:
        """Begin the next episode of every copy."""
        self._now = tuple(self._begin(copy) for copy in range(len(self._envs)))
        return self._now

    @property
    def num_opponents(self) -> int:
        return len(self._opponents)

    def step(
        self,
        actions_EN: ActionArray,
        opponents_E: IntArray | None = None,
        rests_E: BoolArray | None = None,
    ) -> tuple[CopyStep, ...]:
        """Play one step in every copy.

        Args:
            opponents_E: which of the opponents plays in each copy; None: the first in all.
            rests_E: copies that are left as they are, so that nothing happens in their step; None:
                all are played.

        Raises:
            ValueError: not one row of actions for each copy.
            EnvFailure: an environment has raised something.
        """
        expected = (len(self._envs), self.spec.num_agents)
        if actions_EN.shape[:2] != expected:
            raise ValueError(f"copies play actions {expected}, got shape {actions_EN.shape}")
        plays_E = np.zeros(len(self._envs)) if opponents_E is None else opponents_E
        rests_E = np.zeros(len(self._envs), dtype=np.bool_) if rests_E is None else rests_E
        for index, opponent in enumerate(self._opponents):
            played = np.flatnonzero((plays_E == index) & ~rests_E).tolist()
            if played:
                envs = [self._contested[copy] for copy in played]
                _play(opponent, envs, [self._chances[copy] for copy in played])
        steps: list[CopyStep] = []
        for copy, env in enumerate(self._envs):
            if rests_E[copy]:
                now = self._now[copy]
                steps.append(CopyStep(_nothing_happens(now), now))
                continue
            try:
                transition = env.step(actions_EN[copy])
            except Exception as error:
                raise EnvFailure(self.spec.name, "step", error) from error
            ended = transition.terminated or transition.truncated
            now = self._begin(copy) if ended else transition.after
            steps.append(CopyStep(transition, now))
        self._now = tuple(step.now for step in steps)
        return tuple(steps)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _begin(self, copy: int) -> Snapshot:
        episode = self._next_episodes[copy]
        self._next_episodes[copy] += 1
        key = {"life": self._life, "copy": self._first_copy + copy, "episode": episode}
        if self._opponents:
            # A stream for each episode: how the other copies fare must not decide what happens in
            # this one, nor who hosts them.
            self._chances[copy] = streams.generator(self._seed, Role.OPPONENT_ACTIONS, **key)
        seed = streams.number(self._seed, Role.EPISODE, **key)
        try:
            return self._envs[copy].reset(seed)
        except Exception as error:
            raise EnvFailure(self.spec.name, "reset", error) from error


def _nothing_happens(now: Snapshot) -> Transition:
    rewards_N = np.zeros(len(now.alive_N), dtype=np.float32)
    return Transition(after=now, rewards_N=rewards_N, terminated=False, truncated=False, won=False)


def _play(
    opponent: Opponent, envs: Sequence[ContestedEnv], chances: Sequence[np.random.Generator]
) -> None:
    """Have one opponent choose the other team's actions in some copies, in one call."""
    observations = [env.opponent_observations() for env in envs]
    sizes = [len(rows) for rows in observations]
    uniforms = [chance.random(size) for chance, size in zip(chances, sizes, strict=True)]
    actions_B = opponent.act(np.concatenate(observations), np.concatenate(uniforms))
    begin = 0
    for env, size in zip(envs, sizes, strict=True):
        env.set_opponent_actions(actions_B[begin : begin + size])
        begin += size
