"""Small policies, windows and episodes for the learner's tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.found import scheme_of
from agents.policy import PolicySpec, initialise
from configs.algorithms.base import Replayed
from configs.algorithms.described import traits_of
from configs.arrays import FloatArray
from configs.columns import GATES, Q_VALUES
from configs.extensions import ALGORITHM, own_names
from configs.schema import (
    AgentsConfig,
    BeaconDtype,
    GateConfig,
    LearnerConfig,
    MessageDtype,
    NetworkConfig,
    RunConfig,
)
from learner.comm.unroll import UnrollInput
from learner.experience.device_batch import Transfer
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from learner.experience.part import Part, part_of
from learner.network import PolicyNetwork
from learner.ranks import Share
from runtime.net.wire import EpisodeRecord, Trajectory

# Matrices of a few numbers: threads would only wait for each other.
torch.set_num_threads(1)

DIMENSIONS = Dimensions(num_agents=6, observation_dim=5, num_actions=4, state_dim=3)
WITH_Q = replace(DIMENSIONS, columns=(GATES, Q_VALUES))

TRAITS = {name: traits_of(LearnerConfig(algorithm=name)) for name in own_names(ALGORITHM)}
REPLAYED = [
    name
    for name, traits in TRAITS.items()
    if traits.trains and isinstance(traits.experience, Replayed)
]
"""Algorithms that learn from batches of whatever was played, such as `make_episode` makes."""


def make_spec(
    *, message_dtype: MessageDtype = "float16", beacon_dtype: BeaconDtype = "int8"
) -> PolicySpec:
    """Every dimension differs, so that a mix-up of two shows."""
    return PolicySpec(
        observation_dim=5,
        num_actions=4,
        hidden=8,
        message=7,
        attention=3,
        beacon=6,
        edge_embedding=2,
        scorer=9,
        message_dtype=message_dtype,
        beacon_dtype=beacon_dtype,
    )


def make_flat(spec: PolicySpec, *, seed: int = 0, gain: float = 3.0) -> FloatArray:
    """Parameters large enough that messages, gates and rounding matter; scores of both signs."""
    flat = initialise(spec, np.random.default_rng(seed)) * np.float32(gain)
    # The scorer's last bias is the last number; with this one some edges open and some close.
    flat[-1] = -2.0
    return flat


def make_network(spec: PolicySpec, num_agents: int, flat: FloatArray) -> PolicyNetwork:
    network = PolicyNetwork(spec, num_agents)
    network.load_flat(flat)
    return network


def make_window(
    spec: PolicySpec,
    *,
    time: int = 6,
    batch: int = 3,
    num_agents: int = 6,
    seed: int = 0,
    deaths: bool = True,
) -> UnrollInput:
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(time, batch, num_agents, spec.observation_dim))
    lifetimes = rng.integers(0, time + 1, size=(batch, num_agents))
    lifetimes[rng.random(lifetimes.shape) < (0.4 if deaths else 1.0)] = time
    alive = np.arange(time)[:, None, None] < lifetimes
    observations *= alive[..., None]
    return UnrollInput(tensor(observations, np.float32), tensor(alive, np.bool_))


def window_of(
    spec: PolicySpec, episode: Episode, steps: slice | None = None, *, relay: bool = False
) -> UnrollInput:
    """Steps of a recorded episode, as the agents saw them: [T, 1, N, …].

    Args:
        steps: None: all.
        relay: the dead keep relaying.
    """
    steps = steps or slice(episode.length)
    observations = torch.tensor(episode.observations[steps].astype(np.float32))[:, None]
    alive = torch.tensor(episode.alive[steps])[:, None]
    if relay:
        observations, alive = observations * alive[..., None], torch.ones_like(alive)
    actions = None
    if scheme_of(spec.scheme).says_actions:
        actions = torch.tensor(episode.actions[steps].astype(np.int64))[:, None]
    return UnrollInput(observations, alive, actions_TBN=actions)


def tensor(array: NDArray[Any], dtype: Any = None) -> torch.Tensor:
    return torch.from_numpy(array.astype(dtype or array.dtype))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch


def array(tensor: torch.Tensor) -> NDArray[Any]:
    result: NDArray[Any] = tensor.detach().numpy()
    return result


def make_config(
    *,
    comm: str = "sops",
    gate: GateConfig | None = None,
    agents: AgentsConfig | None = None,
    learner: LearnerConfig | None = None,
) -> RunConfig:
    """A run with the sizes of `make_spec` and DIMENSIONS."""
    spec = make_spec()
    return RunConfig(
        num_agents=DIMENSIONS.num_agents,
        comm=comm,
        network=NetworkConfig(
            hidden=spec.hidden,
            message=spec.message,
            attention=spec.attention,
            beacon=spec.beacon,
            edge_embedding=spec.edge_embedding,
            scorer=spec.scorer,
        ),
        gate=gate or GateConfig(),
        agents=agents or AgentsConfig(),
        learner=learner or LearnerConfig(device="cpu", batch_size=4, learning_starts=1),
    )


def make_packets(
    number: int,
    *,
    length: int = 5,
    lifetimes: Sequence[int] | None = None,
    terminated: bool = False,
    complete: bool = True,
    with_q: bool = False,
    first_version: int = 1,
) -> tuple[list[Trajectory], EpisodeRecord]:
    """What agents and world send about one random episode; lifetimes count moments 0..length."""
    sizes, rng = DIMENSIONS, np.random.default_rng(number)
    agents = sizes.num_agents
    lived = np.array([length + 1] * agents if lifetimes is None else lifetimes)
    alive = np.arange(length + 1)[:, None] < lived
    trajectories: list[Trajectory] = []
    for agent in range(agents):
        steps = min(int(lived[agent]), length)
        q_shape = (steps if with_q else 0, sizes.num_actions)
        if steps > 0:
            trajectories.append(
                Trajectory(
                    agent=agent,
                    episode=number,
                    first_version=first_version,
                    last_version=first_version + 1,
                    observations=rng.normal(size=(steps, sizes.observation_dim)).astype(np.float16),
                    actions=rng.integers(0, sizes.num_actions, steps).astype(np.uint8),
                    columns={
                        "gates": rng.integers(0, 8, steps).astype(np.uint16),
                        "q_values": rng.normal(size=q_shape).astype(np.float32),
                    },
                )
            )
    played = np.zeros((length, agents), dtype=np.uint8)
    for trajectory in trajectories:
        played[: len(trajectory.actions), trajectory.agent] = trajectory.actions
    record = EpisodeRecord(
        episode=number,
        env_steps=number * length,
        states=rng.normal(size=(length + 1, sizes.state_dim)).astype(np.float32),
        actions=played,
        rewards=(rng.normal(size=(length, agents)) * alive[:-1]).astype(np.float32),
        alive=alive.astype(np.uint8),
        terminated=int(terminated),
        complete=int(complete),
        final_observations=rng.normal(size=(agents, sizes.observation_dim)).astype(np.float16),
        columns={},
    )
    return trajectories, record


def make_episode(
    number: int,
    *,
    length: int = 5,
    lifetimes: Sequence[int] | None = None,
    terminated: bool = False,
) -> Episode:
    trajectories, record = make_packets(
        number, length=length, lifetimes=lifetimes, terminated=terminated
    )
    joiner = EpisodeJoiner(DIMENSIONS)
    for trajectory in trajectories:
        assert joiner.add(trajectory) is None
    episode = joiner.add(record)
    assert episode is not None
    return episode


def load_part(
    share: Share,
    generator: torch.Generator,
    run: RunConfig,
) -> Part:
    """Rows as a loss gets them."""
    return part_of(Transfer(torch.device("cpu")).begin(share.batch), share.rows, generator, run)
