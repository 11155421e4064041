"""The environment interface: what a world hosts.

    reset(seed) -> Snapshot;  step(actions) -> Transition

Dimension key: E = copies, N = agents of the learning team, D = observation features, S = state, A =
actions. Every environment states up front which population it supports, so that a run can refuse
before it starts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from configs.arrays import BoolArray, Bounds, FloatArray
from envs.spaces import ActionSpace, Box

ObservationArray = NDArray[Any]
"""Of the dtype that the environment's specification names."""
ActionArray = NDArray[Any]
"""[N] int64 numbers of actions, or [N, n] float32 of a box."""


ObservationDtype = Literal["float16", "float32", "uint8"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpec:
    """Spaces and population of an environment."""

    name: str
    num_agents: int
    """N, agents of the learning team."""
    observation_shape: tuple[int, ...]
    """Of one agent's observation; it travels and is stored flat."""
    observation_dtype: ObservationDtype = "float16"
    """As it travels and is stored. Environments round, so that agent and learner see the same."""
    actions: ActionSpace
    state_dim: int
    """S"""
    episode_limit: int
    """Steps after which an episode ends at the latest."""
    noop_action: int = 0
    """Action played for an agent whose process is gone; in a box of real numbers the one nearest to
    zero is."""
    has_action_masks: bool = False
    """Whether a snapshot says which actions are allowed."""
    has_position: bool = False
    """Whether an observation ends with its agent's own position, x and y scaled to [-1, 1]
    (envs/position.py)."""
    has_neighbours: bool = False
    """Whether a snapshot says who is whose neighbour (envs/neighbours.py)."""
    kinds_N: tuple[int, ...] = ()
    """[N] number of each agent's kind, from 0; empty: all are alike."""
    comes_back: bool = False
    """Whether an agent may live again within an episode in which it died."""
    shared_reward: bool = False
    """Whether all agents are always given the same reward."""
    can_be_won: bool = True
    """Whether `Transition.won` means something."""
    metrics: tuple[str, ...] = ()
    """Names of the figures that `Transition.metrics` gives of an episode."""
    headline: str = "return"
    """The figure by which policies are compared: `return`, `win_rate` or one of `metrics`."""

    def __post_init__(self) -> None:
        known = ("return", *("win_rate" for _ in range(self.can_be_won)), *self.metrics)
        if self.headline not in known:
            raise ValueError(
                f"{self.name}: the headline is one of {', '.join(known)}, got {self.headline!r}"
            )

    @property
    def observation_dim(self) -> int:
        """D"""
        return math.prod(self.observation_shape)

    @property
    def num_actions(self) -> int:
        """A: combinations of a multi-discrete space, numbers of a box."""
        return self.actions.size if isinstance(self.actions, Box) else self.actions.n

    @property
    def is_continuous(self) -> bool:
        return isinstance(self.actions, Box)

    @property
    def bounds(self) -> Bounds | None:
        """Of the numbers of a box, the lower ones first; None: actions are chosen."""
        return (self.actions.low, self.actions.high) if isinstance(self.actions, Box) else None


class Snapshot(NamedTuple):
    """What can be seen at one moment."""

    observations_ND: ObservationArray
    """[N, D] zeros for the dead; of the dtype that the specification names."""
    state_S: FloatArray
    """[S] global state, for the learner only."""
    alive_N: BoolArray
    """[N]"""
    action_masks_NA: BoolArray | None = None
    """[N, A] actions that are allowed, where the specification has masks; a living agent has at
    least one."""
    neighbours_NN: BoolArray | None = None
    """[N, N] who is whose neighbour, where the specification has neighbours: symmetric, nobody its
    own, and the dead nobody's."""


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
    """Only meaningful when the episode has ended, and where the specification says so."""
    metrics: Mapping[str, float] = MappingProxyType({})
    """Further figures of the episode when it has ended: those that the specification names."""


class Env(Protocol):
    """One environment, one team."""

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode; equal seeds give equal episodes."""
        ...

    def step(self, actions_N: ActionArray) -> Transition:
        """Play one action per agent; actions of dead agents are ignored."""
        ...

    def close(self) -> None: ...
