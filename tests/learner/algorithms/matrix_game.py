"""A game of one step for two agents that see nothing, and what a learner makes of it."""

from dataclasses import replace

import numpy as np
import torch

from agents.policy import PolicySpec, initialise
from configs.arrays import FloatArray
from configs.schema import LearnerConfig, NetworkConfig, RunConfig
from learner.comm.unroll import UnrollInput, unroll
from learner.experience.episode import Dimensions, Episode
from learner.learner import Learner

PAIR = Dimensions(num_agents=2, observation_dim=1, num_actions=3, state_dim=1)
NOT_MONOTONIC = np.array([[2, -3, -3], [-3, 0, 0], [-3, 0, 0]], dtype=np.float32)
"""An action is good only if the other agent takes it, too: no monotonic mixer fits it."""
ADDITIVE = np.array([[-4, -2, -3], [-2, 0, -1], [-3, -1, -2]], dtype=np.float32)
"""What the agents lose adds up."""


def play_once(number: int, first: int, second: int, payoff: FloatArray) -> Episode:
    """An episode in which they take these actions."""
    return Episode(
        dimensions=PAIR,
        number=number,
        env_steps=number,
        observations=np.ones((2, 2, 1), dtype=np.float32),
        actions=np.array([[first, second]], dtype=np.uint8),
        rewards=np.full((1, 2), payoff[first, second], dtype=np.float32),
        states=np.ones((2, 1), dtype=np.float32),
        alive=np.ones((2, 2), dtype=np.bool_),
        terminated=True,
        columns={"gates": np.zeros((1, 2), dtype=np.uint16)},
        first_versions=np.ones(2, dtype=np.uint32),
        last_versions=np.ones(2, dtype=np.uint32),
    )


def trained(settings: LearnerConfig, payoff: FloatArray, updates: int) -> Learner:
    """A learner of this game after so many updates on all joint actions."""
    sizes = NetworkConfig(hidden=8, message=4, attention=3, beacon=3, edge_embedding=2, scorer=3)
    settings = replace(
        settings,
        device="cpu",
        learning_starts=1,
        batch_size=9,
        learning_rate=2e-2,
        mixing_embed=8,
        hypernet_embed=8,
        target_update_period=10_000,
    )
    run = RunConfig(num_agents=2, comm="none", network=sizes, learner=settings)
    spec = PolicySpec.of(sizes, observation_dim=1, num_actions=3)
    learner = Learner(run, spec, PAIR, initialise(spec, np.random.default_rng(0)))
    for number, (first, second) in enumerate(np.ndindex(3, 3)):
        learner.add(play_once(number, first, second, payoff))
    for _ in range(updates):
        learner.update()
    return learner


def greedy_actions(learner: Learner) -> list[int]:
    """What the two agents do."""
    window = UnrollInput(torch.ones(1, 1, 2, 1), torch.ones(1, 1, 2, dtype=torch.bool))
    q_TBNA = unroll(learner.network, window, learner.algorithm.rule()).q_TBNA
    return [int(action) for action in q_TBNA[0, 0].argmax(-1)]
