"""Relay: one agent knows the colour, all must name it. Communication is everything.

    source sees the colour ... messages ... last step: every agent names a colour

The diagnostic of the gate: without messages nobody but the source does better than a quarter, and
an episode lasts just long enough for the colour to travel the whole backbone.

Dimension key: N = agents, D = observation features, S = state.
"""

from typing import ClassVar

import numpy as np

from configs import streams
from configs.arrays import FloatArray, IntArray
from configs.schema import MAX_AGENTS
from configs.streams import Role
from envs.base import EnvSpec, Snapshot, Transition
from envs.family import EnvFamily, NoOptions
from envs.scene import Ring
from envs.spaces import Discrete
from runtime.net.topology import diameter

MIN_AGENTS = 2
NUM_COLOURS = 4
_SLACK = 2
"""Steps beyond the diameter. A message is heard one step after it is sent, so that an agent d hops
from the source can name the colour in step d + 1: one more than the diameter, and one to spare."""


def relay_spec(num_agents: int) -> EnvSpec:
    """Spaces and length of a Relay.

    Raises:
        ValueError: not between 2 and 4096 agents.
    """
    if not MIN_AGENTS <= num_agents <= MAX_AGENTS:
        raise ValueError(
            f"relay takes between {MIN_AGENTS} and {MAX_AGENTS} agents, got {num_agents}"
        )
    return EnvSpec(
        name="relay",
        num_agents=num_agents,
        observation_shape=(1 + NUM_COLOURS + 1,),
        actions=Discrete(NUM_COLOURS),
        state_dim=NUM_COLOURS + 1,
        episode_limit=diameter(num_agents) + _SLACK,
        noop_action=0,
    )


class Relay:
    """Name the colour that only the source sees.

    An observation is [1 for the source, the colour one-hot for the source and zeros for the others,
    share of the episode gone]. An action names a colour; only the last step counts: 1.0 to every
    agent that is right, so that the team reward is the share that is. Nobody dies. The episode is
    terminated, never truncated: the task itself ends there. It is won if all are right.
    """

    def __init__(self, num_agents: int) -> None:
        self._spec = relay_spec(num_agents)
        self._source = 0
        self._colour = 0
        self._cycle = self._spec.episode_limit

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the seed draws the source and the colour."""
        rng = streams.generator(seed, Role.RELAY)
        self._source = int(rng.integers(self._spec.num_agents))
        self._colour = int(rng.integers(NUM_COLOURS))
        self._cycle = 0
        return self._snapshot()

    def step(self, actions_N: IntArray) -> Transition:
        """Name one colour per agent.

        Raises:
            ValueError: not one action for each agent.
        """
        limit = self._spec.episode_limit
        assert self._cycle < limit, "the episode is over: reset before the next step"
        if actions_N.shape != (self._spec.num_agents,):
            raise ValueError(
                f"relay has {self._spec.num_agents} actions to play, got shape {actions_N.shape}"
            )
        self._cycle += 1
        right_N = actions_N == self._colour
        over = self._cycle == limit
        return Transition(
            after=self._snapshot(),
            rewards_N=(right_N & over).astype(np.float32),
            terminated=over,
            truncated=False,
            won=over and bool(right_N.all()),
        )

    def scene(self) -> Ring:
        """Who knows the colour, and which it is."""
        return Ring(self._source, self._colour, NUM_COLOURS)

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        spec = self._spec
        gone = self._cycle / spec.episode_limit
        observations_ND = np.zeros((spec.num_agents, spec.observation_dim), dtype=np.float16)
        observations_ND[self._source, 0] = 1.0
        observations_ND[self._source, 1 + self._colour] = 1.0
        observations_ND[:, -1] = gone
        return Snapshot(
            observations_ND=observations_ND,
            state_S=self._state(gone),
            alive_N=np.ones(spec.num_agents, dtype=np.bool_),
        )

    def _state(self, gone: float) -> FloatArray:
        """[S] colour one-hot, share of the episode gone."""
        state_S = np.zeros(self._spec.state_dim, dtype=np.float32)
        state_S[self._colour] = 1.0
        state_S[-1] = gone
        return state_S


class RelayFamily(EnvFamily[NoOptions]):
    """Relay at all its sizes."""

    Options = NoOptions
    is_heavy: ClassVar[bool] = False

    def spec(self, options: NoOptions, num_agents: int) -> EnvSpec:
        return relay_spec(num_agents)

    def make(self, options: NoOptions, num_agents: int) -> Relay:
        return Relay(num_agents)


ENVIRONMENT = RelayFamily
