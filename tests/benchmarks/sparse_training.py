"""Policies in sparse training, as the benchmarks of the wire and of inference want them.

Battle's sizes, episodes of noise -> Learner with RigL -> flat vector and mask every few updates
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from agents.policy import PolicySpec, initialise
from agents.sparse_parameters import Masked
from configs.load import preset_for
from configs.schema import RunConfig, SparseConfig
from envs.registry import spec_of
from learner.experience.episode import Dimensions
from learner.learner import Learner
from tests.benchmarks.learner_update import synthetic_episode

AGENTS = 6
EPISODES, STEPS = 16, 40
UPDATES_PER_VERSION = 4
"""configs/schema/learner.py, publish_period."""
EVOLUTION_PERIOD = 16
"""Updates; the default is 200, but a short training shall see several."""


def battle_config(sparsity: float) -> RunConfig:
    preset = preset_for("battle")
    learner = replace(
        preset.learner, device="cpu", batch_size=2, window=8, burn_in=0, learning_starts=1
    )
    sparse = SparseConfig(
        method="rigl" if sparsity else "none", sparsity=sparsity, period=EVOLUTION_PERIOD
    )
    return replace(preset, num_agents=AGENTS, learner=learner, sparse=sparse)


def battle_policy(config: RunConfig) -> PolicySpec:
    env = spec_of(config.env, config.num_agents)
    return PolicySpec.of(config.network, env.observation_dim, env.num_actions)


def versions(sparsity: float, count: int) -> Iterator[Masked]:
    """What a learner publishes: its first parameters and then one version after the other."""
    torch.set_num_threads(1)
    config = battle_config(sparsity)
    env = spec_of(config.env, AGENTS)
    dimensions = Dimensions(
        num_agents=AGENTS,
        observation_dim=env.observation_dim,
        num_actions=env.num_actions,
        state_dim=env.state_dim,
    )
    spec = battle_policy(config)
    flat = initialise(spec, np.random.default_rng(0))
    learner = Learner(config, spec, dimensions, flat)
    for number in range(EPISODES):
        learner.add(synthetic_episode(env, config, number, STEPS))
    for version in range(count):
        if version:
            for _ in range(UPDATES_PER_VERSION):
                learner.update()
        mask = learner.mask_flat()
        everything = np.ones(spec.size, dtype=np.bool_)
        yield Masked.of(learner.parameters_flat(), everything if mask is None else mask)
