"""NVIF's three losses against cases computed by hand."""

import math

import pytest
import torch
from torch import distributions
from torch.testing import assert_close

from learner.pretraining.losses import consistency, divergence, reconstruction


def test_cross_entropy_of_an_observation_is_summed_over_its_numbers() -> None:
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4.
    logits = torch.tensor([0.0, math.log(3.0), math.log(3.0)])
    target = torch.tensor([1.0, 1.0, 0.0])
    by_hand = -math.log(1 / 2) - math.log(3 / 4) - math.log(1 / 4)
    assert_close(float(reconstruction(logits, target, "bce")), by_hand)


def test_half_the_squared_error_is_summed_over_the_numbers_of_an_observation() -> None:
    decoded, target = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, 6.0])
    assert float(reconstruction(decoded, target, "mse")) == 0.5 * (0 + 4 + 9)


def test_the_prior_itself_is_no_distance_away_from_it() -> None:
    assert float(divergence(torch.zeros(4), torch.zeros(4))) == 0.0


def test_divergence_is_that_of_two_normal_distributions() -> None:
    mean, log_deviation = torch.tensor([0.5, -2.0]), torch.tensor([math.log(2.0), -1.0])
    first = 0.5 * (0.25 + 4.0 - 1.0 - 2.0 * math.log(2.0))
    second = 0.5 * (4.0 + math.exp(-2.0) - 1.0 + 2.0)
    found = float(divergence(mean, log_deviation))
    assert found == pytest.approx(first + second, rel=1e-6)
    normal = distributions.Normal(mean, log_deviation.exp())
    prior = distributions.Normal(torch.zeros(2), torch.ones(2))
    assert found == pytest.approx(float(distributions.kl_divergence(normal, prior).sum()), rel=1e-6)


def test_consistency_measures_from_the_mean_of_the_living() -> None:
    latent = torch.tensor([[1.0, 0.0], [3.0, 4.0], [100.0, 100.0]])
    counts = torch.tensor([True, True, False])
    # The mean of the two is (2, 2): both are 1² + 2² away from it.
    assert_close(consistency(latent, counts), torch.tensor([5.0, 5.0, 0.0]))


def test_where_nobody_counts_consistency_is_nothing() -> None:
    assert not consistency(torch.ones(3, 2), torch.zeros(3, dtype=torch.bool)).any()
