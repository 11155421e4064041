"""The average of the policy's latest parameters: what it is, who gets it, and how it survives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from configs.schema import LearnerConfig, RunConfig
from configs.schema.sparse import SparseConfig
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.checkpoint_file import read_checkpoint
from learner.learner import Learner
from learner.resumed_policy import resumed_policy
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec


def make_learner(rate: float, run: RunConfig | None = None) -> Learner:
    config = LearnerConfig(learning_starts=1, batch_size=2, learning_rate=0.01, average_rate=rate)
    run = replace(run or make_config(), learner=config)
    return Learner(run, make_spec(), DIMENSIONS, make_flat(make_spec()))


def trained(rate: float, run: RunConfig | None = None, updates: int = 3) -> Learner:
    learner = make_learner(rate, run)
    for number in range(4):
        learner.add(make_episode(number))
    for _ in range(updates):
        learner.update()
    return learner


def test_agents_get_the_average_and_the_learner_goes_on_with_the_newest() -> None:
    newest, averaged = make_learner(1.0), make_learner(0.25)
    expected = newest.parameters_flat()
    for learner in (newest, averaged):
        for number in range(4):
            learner.add(make_episode(number))
    for _ in range(3):
        assert averaged.update() == newest.update(), "an average changes nothing that is learnt"
        expected = expected + np.float32(0.25) * (newest.parameters_flat() - expected)
        assert_allclose(averaged.parameters_flat(), expected, rtol=1e-5, atol=1e-7)
    assert np.abs(averaged.parameters_flat() - newest.parameters_flat()).max() > 1e-3


def test_the_average_of_a_sparse_policy_has_the_links_that_the_policy_has() -> None:
    run = make_config()
    learner = make_learner(0.25, replace(run, sparse=SparseConfig(method="rigl", period=1)))
    for number in range(4):
        learner.add(make_episode(number))
    assert learner.topology is not None
    before = learner.mask_flat()
    for _ in range(4):
        learner.update()
        mask = learner.mask_flat()
        assert mask is not None
        assert not learner.parameters_flat()[~mask].any()
    assert before is not None
    assert (before != learner.mask_flat()).any(), "links have moved"


def test_a_resumed_learner_has_the_average_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    old = trained(0.25)
    save_checkpoint(path, old, version=3, config="")
    fresh = make_learner(0.25)
    load_checkpoint(path, fresh)
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())
    # The policy file is missing, so its agents begin with what the checkpoint has.
    begun = resumed_policy(tmp_path, read_checkpoint(path), make_spec())
    assert_array_equal(begun, old.parameters_flat())


@pytest.mark.parametrize(("before", "after"), [(1.0, 0.25), (0.25, 1.0)])
def test_a_run_may_begin_to_average_or_stop_it_when_it_is_resumed(
    before: float, after: float, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    old = trained(before)
    save_checkpoint(path, old, version=3, config="")
    fresh = make_learner(after)
    load_checkpoint(path, fresh)
    assert_array_equal(fresh.parameters_flat(), old.network.to_flat())
