"""Episodes of a random policy: what NVIF is pre-trained on (algorithm 1, line 1).

    environment -> random actions -> observations, who is alive, who is whose neighbour

One process and no agents: nobody has anything to decide.

Dimension key: E = episodes, T = steps of the longest, N = agents, D = observation features, A =
actions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from configs import streams
from configs.arrays import BoolArray
from configs.schema import EnvConfig
from configs.streams import Role
from envs import registry
from envs.base import ActionArray, EnvSpec, ObservationArray, Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """Episodes one after the other; nobody is alive in the steps after an episode's end."""

    observations_ETND: ObservationArray
    """Of the dtype that the environment names; zeros for the dead."""
    alive_ETN: BoolArray
    neighbours_ETNN: BoolArray
    """Symmetric; nobody is its own neighbour, and the dead are nobody's. All false where the
    environment does not say."""

    def of(self, episodes: slice) -> "Played":
        """Some of them."""
        return Played(
            self.observations_ETND[episodes],
            self.alive_ETN[episodes],
            self.neighbours_ETNN[episodes],
        )


def play_at_random(
    config: EnvConfig,
    num_agents: int,
    episodes: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Played:
    """Play episodes in which every agent draws its actions evenly.

    Args:
        config: of the environment; copies, shards and opponents' schedules have no say.
        progress: called with the number of finished episodes.

    Raises:
        ValueError: the environment cannot be made, or memory does not hold so many episodes.
    """
    spec = registry.spec_of(config, num_agents)
    copies = registry.make_copies(config, num_agents, seed)
    rng = streams.generator(seed, Role.RANDOM_PLAY)
    limit = spec.episode_limit
    shape = (episodes, limit, num_agents)
    longest = 0
    try:
        played = Played(
            np.zeros((*shape, spec.observation_dim), dtype=spec.observation_dtype),
            np.zeros(shape, dtype=np.bool_),
            np.zeros((*shape, num_agents), dtype=np.bool_),
        )
        (now,) = copies.reset()
        for episode in range(episodes):
            for step in range(limit):
                played.observations_ETND[episode, step] = now.observations_ND
                played.alive_ETN[episode, step] = now.alive_N
                if now.neighbours_NN is not None:
                    played.neighbours_ETNN[episode, step] = now.neighbours_NN
                (brought,) = copies.step(_drawn(spec, now, rng)[None])
                now = brought.now
                longest = max(longest, step + 1)
                if brought.transition.terminated or brought.transition.truncated:
                    break
            progress(episode + 1)
    except MemoryError as error:
        raise ValueError(
            f"{episodes} episodes of {num_agents} agents do not fit into memory: give fewer "
            f"--episodes ({error})"
        ) from error
    finally:
        copies.close()
    return Played(
        played.observations_ETND[:, :longest],
        played.alive_ETN[:, :longest],
        played.neighbours_ETNN[:, :longest],
    )


def require_sight(spec: EnvSpec, *, neighbours: bool) -> None:
    """Check that an environment says what is trained on.

    Raises:
        ValueError: it does not say where an agent is, or who is whose neighbour and that is asked.
    """
    for said, what, option in (
        (spec.has_neighbours or not neighbours, "who is whose neighbour", "neighbours=true"),
        (spec.has_position, "where an agent is", "position=true"),
    ):
        if not said:
            raise ValueError(
                f"--env {spec.name} does not say {what}: give --env.options {option} if it takes "
                "that, or another environment"
            )


def _drawn(spec: EnvSpec, now: Snapshot, rng: np.random.Generator) -> ActionArray:
    """[N] actions, or [N, n] of a box."""
    agents = spec.num_agents
    if spec.bounds is not None:
        low, high = (np.array(ends, dtype=np.float32) for ends in spec.bounds)
        shares = rng.random((agents, spec.num_actions), dtype=np.float32)
        return low + shares * (high - low)
    weights_NA = rng.random((agents, spec.num_actions))
    if now.action_masks_NA is not None:
        weights_NA[~now.action_masks_NA] = -1.0
    return weights_NA.argmax(axis=1)
