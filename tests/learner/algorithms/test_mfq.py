"""MFQ's target, by hand."""

import math

import numpy as np
import pytest
import torch

from configs.algorithms.mfq import OPTIONS
from configs.schema import GateConfig, LearnerConfig
from learner.algorithms.mfq import boltzmann_value
from learner.forbidden import FORBIDDEN
from learner.learner import Learner
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec
from tests.scheme_cases import Case


def test_the_next_value_is_the_mean_under_the_boltzmann_policy() -> None:
    q, decides = torch.tensor([1.0, 5.0, -2.0]), torch.tensor([math.log(2.0), 0.0, math.log(3.0)])
    value = boltzmann_value(q, decides, 1.0)
    assert value.item() == pytest.approx((2 * 1.0 + 1 * 5.0 + 3 * -2.0) / 6)
    # At half the temperature odds are squared.
    value = boltzmann_value(q, decides, 0.5)
    assert value.item() == pytest.approx((4 * 1.0 + 1 * 5.0 + 9 * -2.0) / 14)


def test_a_cold_policy_takes_the_best_and_a_hot_one_the_mean() -> None:
    q = torch.tensor([1.0, 4.0, -2.0])
    assert boltzmann_value(q, q, 1e-4).item() == pytest.approx(4.0)
    assert boltzmann_value(q, q, 1e4).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("temperature", [1e-4, 0.1, 1e4])
def test_an_action_that_is_not_allowed_has_no_part_in_it(temperature: float) -> None:
    q = torch.tensor([1.0, FORBIDDEN, 1.0])
    assert boltzmann_value(q, q, temperature).item() == pytest.approx(1.0)


def make_learner(options: str = "", *, double_q: bool = True) -> Learner:
    learner = LearnerConfig(
        device="cpu",
        algorithm="mfq",
        options=options,
        batch_size=4,
        learning_starts=1,
        learning_rate=1e-2,
        double_q=double_q,
    )
    run = make_config(comm="mfq", gate=GateConfig(mode="open"), learner=learner)
    spec = Case("mfq", "", "causal").applied(make_spec())
    made = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(4):
        made.add(make_episode(number, lifetimes=(6, 3, 0, 6, 5, 1) if number % 2 else None))
    return made


def test_a_fixed_batch_can_be_learnt_by_heart() -> None:
    learner = make_learner()
    losses = [learner.update()["loss"] for _ in range(80)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_temperature_and_who_decides_matter_in_the_target() -> None:
    def target(options: str, *, double_q: bool = True) -> float:
        learner = make_learner(options, double_q=double_q)
        learner.update()  # online and target networks part
        return learner.compute_gradient()["target_mean"]

    found = [
        target(""),
        target("temperature=1.0"),
        target("temperature=10"),
        target("", double_q=False),
    ]
    assert len(np.unique(np.round(found, 7))) == len(found)


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e5])
def test_a_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        OPTIONS(temperature=temperature)
