"""MAST's targets, buffers and algorithms within the learner."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from configs.arrays import FloatArray
from configs.schema import GateConfig, LearnerConfig, SparseConfig
from learner import learner as learner_module
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.experience.dual import DualReplay
from learner.learner import Learner
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec

MAST = LearnerConfig(
    device="cpu",
    algorithm="qmix",
    batch_size=4,
    learning_starts=1,
    operator="mellowmax",
    td_lambda=0.8,
    online_episodes=2,
    online_share=0.25,
    central_hidden=10,
    central_embed=11,
    target_update_period=10_000,
)


def make_learner(config: LearnerConfig, *, gate: GateConfig | None = None) -> Learner:
    spec = make_spec()
    run = make_config(gate=gate, learner=config)
    return Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))


def fill(learner: Learner, count: int = 6) -> None:
    for number in range(count):
        lifetimes = (6, 3, 0, 6, 5, 1) if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, terminated=number % 3 == 0))


@pytest.mark.parametrize("algorithm", ["iql", "qmix", "wqmix", "res"])
def test_a_fixed_batch_can_be_learnt_by_heart(algorithm: str) -> None:
    learner = make_learner(replace(MAST, algorithm=algorithm, learning_rate=1e-2))
    fill(learner, 4)
    metrics = [learner.update() for _ in range(80)]
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    assert all(np.isfinite(list(m.values())).all() for m in metrics)
    assert ("central_loss" in metrics[0]) is (algorithm == "wqmix")
    assert ("return_loss" in metrics[0]) is (algorithm == "res")
    if algorithm == "wqmix":
        assert metrics[-1]["central_loss"] < 0.6 * metrics[0]["central_loss"]


@pytest.mark.parametrize("algorithm", ["wqmix", "res"])
@pytest.mark.parametrize("window", [0, 3])
def test_parts_of_a_batch_add_up_to_the_whole(
    algorithm: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[list[FloatArray]] = []
    for limit in (1_000_000, 40):  # all rows at once, one at a time
        monkeypatch.setitem(learner_module.AGENT_STEPS_PER_PART, "cpu", limit)
        config = replace(MAST, algorithm=algorithm, window=window)
        learner = make_learner(config, gate=GateConfig(mode="open"))
        fill(learner)
        learner.compute_gradient()
        found = [p.grad.numpy().copy() for p in learner.online.parameters() if p.grad is not None]
        gradients.append(found)
    for whole, parts in zip(*gradients, strict=True):
        assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["wqmix", "res", "facmac"])
def test_a_resumed_learner_takes_the_steps_the_old_one_would_have_taken(
    algorithm: str, tmp_path: Path
) -> None:
    # Targets that are neither what they were at first nor what the online networks are.
    config = replace(MAST, target_update_period=2, target_rate=0.5)
    if algorithm == "facmac":  # its critic has no maximum to be careful with
        config = replace(config, operator="max", critic_hidden=9)
    config = replace(config, algorithm=algorithm)
    path = tmp_path / "checkpoint.safetensors"
    old, fresh = make_learner(config), make_learner(config)
    for learner in (old, fresh):
        fill(learner)
    for _ in range(3):
        old.update()
    save_checkpoint(path, old, version=17, config="")
    load_checkpoint(path, fresh)
    for _ in range(3):
        expected, found = old.update(), fresh.update()
        assert found == expected
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())


def test_the_central_target_follows_the_central_critic() -> None:
    learner = make_learner(replace(MAST, algorithm="wqmix", target_update_period=2))
    fill(learner)
    central = ("central_agent", "central_mixer")

    def same(ours: nn.Module, theirs: nn.Module) -> bool:
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        return all(torch.equal(one, other) for one, other in pairs)

    learner.update()
    assert not any(same(learner.online[name], learner.target[name]) for name in central)
    learner.update()
    assert all(same(learner.online[name], learner.target[name]) for name in central)


@pytest.mark.parametrize("algorithm", ["iql", "qmix", "wqmix", "res"])
@pytest.mark.parametrize("far", [{"td_lambda": 0.8}, {"td_lambda": 0.0, "n_step": 3}])
def test_targets_look_one_step_ahead_until_they_may_look_further(
    algorithm: str, far: dict[str, float]
) -> None:
    def target_mean(config: LearnerConfig) -> float:
        learner = make_learner(config, gate=GateConfig(mode="open"))
        fill(learner)
        assert learner.progress.env_steps == 25
        return learner.compute_gradient()["target_mean"]

    base = replace(MAST, algorithm=algorithm, td_lambda=0.0)
    one_step = target_mean(base)
    looking_far = replace(base, **far)  # type: ignore[arg-type]  # values from the list above
    further = target_mean(looking_far)
    assert further != one_step
    assert target_mean(replace(looking_far, td_lambda_start=26)) == one_step
    assert target_mean(replace(looking_far, td_lambda_start=25)) == further


@pytest.mark.parametrize("algorithm", ["wqmix", "facmac"])
def test_critics_and_their_targets_are_as_sparse_as_the_policy(algorithm: str) -> None:
    config = replace(MAST, algorithm=algorithm, operator="max", target_update_period=2)
    sparse = SparseConfig(method="rigl", sparsity=0.8, period=1)
    spec = make_spec()
    run = replace(make_config(learner=config), sparse=sparse)
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    fill(learner)
    names = ("critic",) if algorithm == "facmac" else ("central_agent", "central_mixer")
    assert learner.topology is not None
    absent = 0
    for _ in range(4):
        learner.update()
        for name in names:
            online, target = learner.online[name], learner.target[name]
            for ours, theirs in zip(online.parameters(), target.parameters(), strict=True):
                mask = learner.topology.mask_of(ours)
                assert (mask is None) is (ours.ndim == 1), "all but biases"
                if mask is not None:
                    absent += int((~mask).sum())
                    assert not ours[~mask].any()
                    assert learner.progress.gradient_steps % 2 or not theirs[~mask].any()
    assert absent


def test_the_learner_draws_from_both_buffers() -> None:
    learner = make_learner(MAST)
    assert isinstance(learner.replay, DualReplay)
    fill(learner, 6)
    learner.add(make_episode(7, length=30))
    learner.add(make_episode(8, length=30))
    # Only the newest two are that long, and one of four rows is theirs in every batch.
    lengths = [len(learner._draw()[0].actions) for _ in range(20)]  # pyright: ignore[reportPrivateUsage]
    assert lengths == [30] * 20


def test_looking_ahead_in_two_ways_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_step .*td_lambda"):
        LearnerConfig(n_step=3, td_lambda=0.5)
