"""Estimators beside everything else that a loss may have."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from configs.load import load_run_config
from configs.schema import GateConfig, GateEstimator, LearnerConfig, RunConfig
from learner.algorithms.base import SharedLoss
from learner.captured import refusal
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.experience.part import Divisors
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

ESTIMATORS: tuple[GateEstimator, ...] = ("score-function", "arm")


def make_run(
    estimator: GateEstimator, algorithm: str = "vdn", comm: str = "sops", noise_share: float = 0.5
) -> RunConfig:
    gate = GateConfig(
        estimator=estimator, budget=2, noise_share=noise_share, price=0.01, price_loss=100.0
    )
    config = LearnerConfig(
        device="cpu", algorithm=algorithm, aux="predict", batch_size=6, learning_starts=1
    )
    return make_config(comm=comm, gate=gate, learner=config)


def make_learner(run: RunConfig) -> Learner:
    spec = make_spec()
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=2.0))
    for number in range(8):
        learner.add(make_episode(number, lifetimes=(6, 3, 6, 6, 5, 1) if number % 2 else None))
    return learner


def scorer(learner: Learner) -> Mapping[str, Tensor]:
    return {
        name: p.detach().clone()
        for name, p in learner.network.named_parameters()
        if name.startswith("scorer")
    }


@pytest.mark.parametrize("algorithm", REPLAYED)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_algorithm_learns_its_gates_with_a_price_a_budget_and_episodes_without_noise(
    estimator: GateEstimator, algorithm: str
) -> None:
    learner, usual = (
        make_learner(make_run(name, algorithm)) for name in (estimator, "straight-through")
    )
    before, expected = scorer(learner), usual.update()
    metrics = learner.update()
    assert metrics.keys() == expected.keys()
    # Gates are drawn from the same noise.
    assert metrics["open_fraction"] == expected["open_fraction"]
    assert metrics["open_share"] == expected["open_share"]
    assert learner.progress.skipped_steps == 0
    for name, parameter in scorer(learner).items():
        assert not torch.equal(parameter, before[name]), name


def or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def gradients(loss: SharedLoss, learner: Learner, ranks: int) -> list[Tensor]:
    """Of a batch that so many processes share, added up."""
    batch = learner.replay.oldest(6).gather()
    total: list[Tensor] = []
    divisors = Divisors(torch.tensor(30.0), torch.tensor(150.0))
    for (share,) in shared_out(batch, 6, ranks):
        part = load_part(share, torch.Generator().manual_seed(3), make_run("arm"))
        value, _ = loss(part, divisors)
        found = torch.autograd.grad(value, list(loss.parameters()), allow_unused=True)
        filled = [*map(or_zeros, found, loss.parameters())]
        total = filled if not total else [a + b for a, b in zip(total, filled, strict=True)]
    return total


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_processes_that_share_a_batch_estimate_what_one_would(estimator: GateEstimator) -> None:
    learner = make_learner(make_run(estimator))
    loss = SharedLoss(learner.algorithm)
    for alone, shared in zip(gradients(loss, learner, 1), gradients(loss, learner, 3), strict=True):
        torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_resumed_learner_goes_on_with_the_noise_that_was_next(
    estimator: GateEstimator, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    old, fresh = (make_learner(make_run(estimator, "shaq")) for _ in range(2))
    for _ in range(2):
        old.update()
    save_checkpoint(path, old, version=1, config="")
    load_checkpoint(path, fresh)
    assert [fresh.update() for _ in range(2)] == [old.update() for _ in range(2)]
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())


@pytest.mark.parametrize("comm", ["none", "expocomm-static"])
def test_gates_that_are_not_learned_have_no_estimator(comm: str) -> None:
    learner = make_learner(make_run("arm", comm=comm))
    assert SharedLoss(learner.algorithm).estimates is False


def test_an_estimator_needs_noise() -> None:
    with pytest.raises(ValueError, match=r"^gate\.estimator arm learns from gates that noise has"):
        make_run("arm", noise_share=0.0)


def test_an_algorithm_that_tells_no_costs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(replace(make_run("arm")))

    def tells_nothing(*_: object) -> None: ...

    monkeypatch.setattr("learner.experience.part.Part.charge", tells_nothing)
    with pytest.raises(ValueError, match=r"tells no costs .* take gate\.estimator straight-th"):
        learner.update()


def test_updates_of_several_passes_are_not_recorded() -> None:
    cuda = torch.device("cuda")
    assert refusal(make_run("straight-through"), cuda, recordable=True) is None
    assert "gate.estimator arm" in str(refusal(make_run("arm"), cuda, recordable=True))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "--gate.mode open --gate.estimator arm",
            "gate.estimator has no effect: nothing is learned about edges (gate.mode is not "
            "learned)",
        ),
        (
            "--gate.estimator arm --gate.temperature-start 2",
            "gate.temperature_start has no effect: no smooth gate stands in for the hard one "
            "(gate.estimator is not straight-through)",
        ),
    ],
)
def test_what_an_estimator_leaves_without_effect_is_said(words: str, line: str) -> None:
    lines: list[str] = []
    load_run_config(words.split(), remark=lines.append)
    assert lines == [line]
