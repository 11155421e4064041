"""The environment interface: what a world hosts.

    reset(seed) -> Snapshot;  step(actions) -> Transition

Dimension key: E = copies, N = agents of the learning team, D = observation features, S = state, A =
actions. Every environment states up front which population it supports, so that a run can refuse
before it starts.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
HalfArray = NDArray[np.float16]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpec:
    """Spaces and population of an environment."""

    name: str
    num_agents: int
    """N, agents of the learning team."""
    observation_dim: int
    """D"""
    num_actions: int
    """A"""
    state_dim: int
    """S"""
    episode_limit: int
    """Steps after which an episode ends at the latest."""
    noop_action: int
    """Action played for an agent whose process is gone."""


class Snapshot(NamedTuple):
    """What can be seen at one moment."""

    observations_ND: HalfArray
    """[N, D] zeros for the dead. Observations travel and are stored as float16: environments round
    them, so that agent and learner see the same."""
    state_S: FloatArray
    """[S] global state, for the learner only."""
    alive_N: BoolArray
    """[N]"""


class Transition(NamedTuple):
    """What one step brought."""

    after: Snapshot
    rewards_N: FloatArray
    """[N] individual rewards; the team reward is their mean."""
    terminated: bool
    """The task itself has ended: there is no value beyond."""
    truncated: bool
    """Time ran out: the task would have gone on."""
    won: bool
    """Only meaningful when the episode has ended."""


class Env(Protocol):
    """One environment, one team."""

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode; equal seeds give equal episodes."""
        ...

    def step(self, actions_N: IntArray) -> Transition:
        """Play one action per agent; actions of dead agents are ignored."""
        ...

    def close(self) -> None: ...
