"""Soft mellowmax against its definition and its limits."""

import math

import pytest
import torch
from numpy.testing import assert_allclose

from learner.mellowmax import soft_mellowmax
from tests.learner_helpers import array

VALUES = [-1.0, 0.25, 0.5, 2.0]


def by_definition(q: list[float], alpha: float, omega: float) -> float:
    """Equation 3 of MAST, letter by letter."""
    total = sum(math.exp(alpha * x) for x in q)
    return math.log(sum(math.exp(alpha * x) / total * math.exp(omega * x) for x in q)) / omega


def soft(q: list[float], alpha: float, omega: float) -> float:
    return float(soft_mellowmax(torch.tensor(q, dtype=torch.float64), alpha, omega))


@pytest.mark.parametrize(("alpha", "omega"), [(1.0, 10.0), (5.0, 5.0), (0.0, 2.0), (-1.0, 3.0)])
def test_it_is_equation_3(alpha: float, omega: float) -> None:
    assert soft(VALUES, alpha, omega) == pytest.approx(by_definition(VALUES, alpha, omega))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 10.0])
def test_equal_values_are_their_own_soft_maximum(alpha: float) -> None:
    assert soft([-7.5] * 5, alpha, 10.0) == pytest.approx(-7.5)


def test_a_large_omega_comes_to_the_maximum_from_below() -> None:
    gaps = [2.0 - soft(VALUES, 1.0, omega) for omega in (1.0, 10.0, 100.0, 1e6)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert 0.0 <= gaps[-1] < 1e-6


def test_a_small_omega_comes_to_the_mean_under_the_softmax_weights() -> None:
    weights = [math.exp(x) for x in VALUES]
    mean = sum(w * x for w, x in zip(weights, VALUES, strict=True)) / sum(weights)
    assert soft(VALUES, 1.0, 1e-6) == pytest.approx(mean, abs=1e-4)


def test_alpha_zero_is_mellowmax() -> None:
    mellowmax = math.log(sum(math.exp(3.0 * x) for x in VALUES) / len(VALUES)) / 3.0
    assert soft(VALUES, 0.0, 3.0) == pytest.approx(mellowmax)
    assert soft(VALUES, 1.0, 3.0) > mellowmax, "softmax weights favour the better actions"


def test_values_whose_exponential_overflows_are_no_matter() -> None:
    far = torch.tensor([[1e4, 1e4 - 1.0], [-1e4, -1e4 - 1.0]])
    near = soft_mellowmax(torch.tensor([0.0, -1.0]), 1.0, 10.0)
    found = array(soft_mellowmax(far, 1.0, 10.0))
    assert_allclose(found, [1e4 + float(near), -1e4 + float(near)], rtol=1e-6)
