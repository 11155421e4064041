"""What value-based algorithms share: actions that are not allowed are neither chosen nor valued."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from configs.columns import ACTION_MASK, GATES
from configs.schema import GateConfig, LearnerConfig
from learner.forbidden import FORBIDDEN
from learner.learner import Learner
from learner.ranks import shared_out
from tests.learner_helpers import (
    DIMENSIONS,
    REPLAYED,
    load_part,
    make_config,
    make_episode,
    make_flat,
    make_spec,
)


def masked_learner(algorithm: str, forbidden: int) -> Learner:
    """One whose environment never allows one of the actions."""
    sizes = replace(DIMENSIONS, columns=(GATES, ACTION_MASK))
    settings = LearnerConfig(device="cpu", algorithm=algorithm, batch_size=2, learning_starts=1)
    run = make_config(gate=GateConfig(mode="open"), learner=settings)
    spec = make_spec()
    learner = Learner(run, spec, sizes, make_flat(spec, gain=1.0))
    for number in range(2):
        episode = make_episode(number, length=4 + number, lifetimes=(6, 3, 0, 6, 5, 1))
        mask = np.repeat(episode.alive[..., None], DIMENSIONS.num_actions, axis=-1).astype(np.uint8)
        mask[..., forbidden] = 0
        episode.actions[episode.actions == forbidden] = 0
        columns: dict[str, Any] = {**episode.columns, ACTION_MASK.name: mask}
        learner.add(replace(episode, dimensions=sizes, columns=columns))
    return learner


def prefer(learner: Learner, action: int, by: float) -> None:
    """Let the head value an action above all others."""
    with torch.no_grad():
        for policy in (learner.network, learner.algorithm.target_policy):
            policy.q_out.bias[action] += by


@pytest.mark.parametrize("algorithm", REPLAYED)
def test_the_value_of_an_action_that_is_not_allowed_does_not_matter(algorithm: str) -> None:
    found: list[dict[str, float]] = []
    for by in (0.0, 50.0):
        learner = masked_learner(algorithm, forbidden=3)
        prefer(learner, 3, by)
        found.append(learner.compute_gradient())
    for name, value in found[0].items():
        assert np.isfinite(value)
        assert found[1][name] == pytest.approx(value, rel=1e-5), name


def test_it_is_below_all_others() -> None:
    learner = masked_learner("iql", forbidden=1)
    prefer(learner, 1, 50.0)
    batch = learner.replay.sample(np.random.default_rng(0), 2)
    (share,) = shared_out(batch, 2, ranks=1)[0]
    part = load_part(share, learner.generator, make_config())
    q_TBNA = learner.algorithm.unroll(part).q_TBNA
    acts_TBN = part.columns[ACTION_MASK.name].bool().any(-1)
    assert acts_TBN.any()
    assert (q_TBNA[acts_TBN][:, 1] == FORBIDDEN).all()
    assert not (q_TBNA[acts_TBN].argmax(-1) == 1).any()
