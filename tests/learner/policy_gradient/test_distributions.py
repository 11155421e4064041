"""Policies' distributions against golden data of the reference code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from learner.forbidden import FORBIDDEN
from learner.policy_gradient.guided import divergence
from learner.policy_gradient.tanh_normal import TanhNormal
from tests.learner_helpers import array, tensor

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "distributions.npz"
PRECISIONS = {"f64": (torch.float64, 1e-10), "f32": (torch.float32, 2e-5)}


class Case:
    def __init__(self, precision: str) -> None:
        with np.load(GOLDEN) as arrays:
            self.golden: dict[str, NDArray[Any]] = dict(arrays)
        self.precision = precision
        self.dtype, self.tolerance = PRECISIONS[precision]

    def given(self, name: str) -> Tensor:
        return tensor(self.golden[f"in/{name}"]).to(self.dtype)

    def check(
        self, name: str, found: Tensor, rows: slice = slice(None), factor: float = 1.0
    ) -> None:
        expected = self.golden[f"{self.precision}/{name}"][rows]
        scale = factor * self.tolerance * max(1.0, float(np.abs(expected).max()))
        assert_allclose(array(found)[rows], expected, atol=scale, err_msg=name)


@pytest.fixture(params=PRECISIONS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_actions_that_are_not_allowed_have_no_part(case: Case) -> None:
    logits = case.given("x") @ case.given("kernel") + case.given("bias")
    mask = tensor(case.golden["in/mask"])
    log_p = logits.masked_fill(~mask, FORBIDDEN).log_softmax(-1)
    action = tensor(case.golden["in/action"]).long().unsqueeze(-1)
    # Row 2 has nothing that is allowed: nobody acts then, and it is not ours to say.
    some = mask.any(-1)
    for name, found in {
        "log_prob": log_p.gather(-1, action).squeeze(-1),
        "entropy": -(log_p.exp() * log_p).sum(-1),
    }.items():
        expected = case.golden[f"{case.precision}/{name}"]
        assert_allclose(array(found[some]), expected[array(some)], atol=case.tolerance)
    probs = case.golden[f"{case.precision}/probs"][array(some)]
    assert_allclose(array(log_p.exp()[some]), probs, atol=case.tolerance)
    assert (array(log_p.exp()[some])[~array(mask[some])] == 0.0).all()


def test_the_divergence_and_its_gradients(case: Case) -> None:
    names, mask = ("guider", "learner"), tensor(case.golden["in/mask"])
    leaves = [
        tensor(case.golden[f"{case.precision}/kl_{name}_logits"]).requires_grad_() for name in names
    ]
    guider, learner = (leaf.masked_fill(~mask, FORBIDDEN) for leaf in leaves)
    found = divergence(guider, learner)
    case.check("kl_guider_learner", found)
    gradients = torch.autograd.grad(found.sum(), leaves)
    for name, gradient in zip(names, gradients, strict=True):
        case.check(f"grad_kl_{name}_logits", gradient, factor=5.0)


def test_real_numbers_squeezed_into_a_box(case: Case) -> None:
    kernel = case.given("tanh_kernel").requires_grad_()
    log_std = case.given("tanh_log_std").requires_grad_()
    mean = case.given("x") @ kernel + case.given("tanh_bias")
    actions = case.given("tanh_action")
    found = TanhNormal(mean, log_std).log_prob(actions)
    expected = case.golden[f"{case.precision}/tanh_log_prob"]
    # The reference has the threshold in single precision, which moves the tails a little.
    inside = array((actions.abs() < 0.999).all(-1))
    assert 0 < inside.sum() < len(inside)
    assert_allclose(array(found)[inside], expected[inside], atol=10.0 * case.tolerance)
    assert_allclose(array(found)[~inside], expected[~inside], atol=1e-4)
    by_kernel, by_deviation = torch.autograd.grad(found.sum(), (kernel, log_std))
    for name, gradient in (("mean_kernel", by_kernel), ("log_std", by_deviation)):
        expected = case.golden[f"{case.precision}/tanh_grad_{name}"]
        assert_allclose(array(gradient), expected, atol=2e-4 * np.abs(expected).max())


def test_draws_follow_their_density() -> None:
    mean, log_std = torch.tensor([[0.3, -0.5]]), torch.tensor([-0.5, 0.2])
    generator = torch.Generator().manual_seed(0)
    drawn = TanhNormal(mean.expand(20_000, 2), log_std).sample(generator)
    assert drawn.abs().max() <= 1.0
    grid = torch.linspace(-0.995, 0.995, 400)
    for number in range(2):
        one = TanhNormal(mean[:, number : number + 1].expand(400, 1), log_std[number : number + 1])
        density = one.log_prob(grid.unsqueeze(-1)).exp()
        expected = float((density * grid).sum() * (grid[1] - grid[0]))
        assert drawn[:, number].mean().item() == pytest.approx(expected, abs=0.02)
    noise = torch.randn(20_000, 2, generator=generator)
    whole = TanhNormal(mean.expand(20_000, 2), log_std)
    assert whole.entropy(noise).mean().item() == pytest.approx(
        -whole.log_prob(drawn).mean().item(), abs=0.03
    )
    assert_allclose(whole.mode()[0], torch.tanh(mean[0]))
