"""Real numbers in a box: numpy against torch, at the border and far beyond it."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from agents import tanh_normal
from agents.policy import bounds_to_text
from agents.tanh_normal import Scale
from configs.arrays import FloatArray
from learner.policy_gradient.distributions import Boxed, distribution_of
from tests.agents_helpers import make_spec

BOUNDS = ((-1.0, 0.0, -3.0), (1.0, 4.0, 5.0))
SPEC = make_spec(num_actions=3, action_bounds=bounds_to_text(BOUNDS))


def outputs(count: int, *, spread: float = 1.0, log_std: float = 0.0) -> FloatArray:
    drawn = np.random.default_rng(0).normal(size=(count, 6))
    drawn[:, :3] *= spread
    drawn[:, 3:] += log_std
    return drawn.astype(np.float32)


def by_torch(given: FloatArray, actions: FloatArray) -> NDArray[np.float32]:
    policy = distribution_of(torch.tensor(given), SPEC)
    assert isinstance(policy, Boxed)
    return policy.log_prob(torch.tensor(actions)).numpy()


@pytest.mark.parametrize(
    ("spread", "log_std"), [(1.0, 0.0), (0.3, -4.0), (4.0, 0.0), (3.0, -9.0), (30.0, 3.0)]
)
def test_the_learner_finds_the_log_densities_that_agents_record(
    spread: float, log_std: float
) -> None:
    given, scale = outputs(2000, spread=spread, log_std=log_std), Scale.of(BOUNDS)
    actions = tanh_normal.drawn(given, scale, np.random.default_rng(1))
    assert ((actions >= BOUNDS[0]) & (actions <= BOUNDS[1])).all()
    recorded = tanh_normal.log_prob(given, scale, actions)
    assert np.isfinite(recorded).all()
    # A narrow normal tells numbers apart that single precision hardly does.
    assert_allclose(by_torch(given, actions), recorded, atol=2e-5, rtol=2e-5)


def test_an_action_at_the_border_has_the_density_of_its_tail() -> None:
    given, scale = outputs(50, log_std=2.0), Scale.of(BOUNDS)
    borders = np.tile(np.array([[-1.0, 4.0, 5.0]], np.float32), (50, 1))
    found = tanh_normal.log_prob(given, scale, borders)
    assert_allclose(by_torch(given, borders), found, rtol=1e-5)
    mean, deviation = given[:, :3], np.log1p(np.exp(given[:, 3:])) + 1e-3
    edge, signs = np.arctanh(0.999), np.array([-1.0, 1.0, 1.0])
    distances = torch.tensor((signs * mean - edge) / deviation)
    shares = 0.5 * torch.erfc(-distances / np.sqrt(2.0)).numpy()
    assert_allclose(found, np.log(shares / 0.001).sum(axis=1), atol=1e-3)


def test_tails_far_away_have_finite_densities_and_gradients() -> None:
    given = np.array([[9.0, -9.0, 0.0, -20.0, -20.0, 0.0]], dtype=np.float32)
    far = np.array([[-1.0, 4.0, 0.0]], dtype=np.float32)
    found = tanh_normal.log_prob(given, Scale.of(BOUNDS), far)
    assert found[0] < -1e7
    assert_allclose(by_torch(given, far), found, rtol=1e-4)
    leaf = torch.tensor(given, requires_grad=True)
    (gradient,) = torch.autograd.grad(Boxed(leaf, BOUNDS).log_prob(torch.tensor(far)).sum(), leaf)
    assert bool(torch.isfinite(gradient).all())


def test_the_middle_of_what_is_drawn_is_the_squeezed_mean() -> None:
    given = outputs(10)
    expected = Scale.of(BOUNDS).into(np.tanh(given[:, :3].astype(np.float64)))
    assert_allclose(tanh_normal.mode(given, Scale.of(BOUNDS)), expected, rtol=1e-6)


def test_a_number_that_the_box_leaves_no_choice_of_is_that_number() -> None:
    bounds = ((2.0, -1.0), (2.0, 1.0))
    given, scale = np.ones((5, 4), dtype=np.float32), Scale.of(bounds)
    actions = tanh_normal.drawn(given, scale, np.random.default_rng(0))
    assert (actions[:, 0] == 2.0).all()
    recorded = tanh_normal.log_prob(given, scale, actions)
    learned: Tensor = Boxed(torch.tensor(given), bounds).log_prob(torch.tensor(actions))
    assert_allclose(learned.numpy(), recorded, atol=1e-5)
    assert np.isfinite(recorded).all()
