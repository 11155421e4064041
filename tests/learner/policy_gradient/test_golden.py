"""Losses and advantages against golden data of the reference code (MAGPO, Mava), with gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from learner.policy_gradient.clipped import surrogate, value_loss
from learner.policy_gradient.gae import advantages, normalised
from learner.policy_gradient.guided import divergence, double_clipped, strays
from tests.learner_helpers import array, tensor

FOLDER = Path(__file__).parents[2] / "data" / "golden"
PRECISIONS = {"f64": (torch.float64, 1e-10), "f32": (torch.float32, 2e-5)}
SETTINGS = ("a", "b", "c", "d")
FORBIDDEN = float(np.finfo(np.float32).min)

Golden = dict[str, NDArray[Any]]


def read(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def losses() -> Golden:
    return read("magpo_losses")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("group", ["g99_l95", "g95_l0", "g1_l1"])
def test_advantages_are_those_of_the_reference(group: str, precision: str) -> None:
    golden, (dtype, tolerance) = read("gae"), PRECISIONS[precision]
    gamma, gae_lambda = (float(number) for number in golden[f"{group}/gamma_lambda"])
    values = np.concatenate((golden["in/value"], golden["in/last_value"][None]))
    goes_on = tensor(~golden["in/ended"])[..., None].expand(9, 4, 2)
    found = advantages(
        tensor(golden["in/reward"]).to(dtype),
        tensor(values).to(dtype),
        goes_on,
        torch.ones_like(goes_on),
        gamma,
        gae_lambda,
    )
    assert_allclose(array(found), golden[f"{group}/{precision}/advantage"], atol=tolerance)
    targets = array(found) + golden["in/value"]
    assert_allclose(targets, golden[f"{group}/{precision}/target"], atol=tolerance)


class Case:
    """The inputs in one precision; what may have a gradient, has one."""

    def __init__(self, golden: Golden, setting: str, precision: str) -> None:
        self.golden, self.setting, self.precision = golden, setting, precision
        self.dtype, self.tolerance = PRECISIONS[precision]
        mask = tensor(golden["in/action_mask"])
        self.action = tensor(golden["in/action"]).long().unsqueeze(-1)
        self.guider_logits = self.leaf("guider_logits")
        self.learner_logits = self.leaf("learner_logits")
        self.value = self.leaf("value")
        self.guider = self.guider_logits.masked_fill(~mask, FORBIDDEN)
        self.learner = self.learner_logits.masked_fill(~mask, FORBIDDEN)
        self.old_log_mu = self.log_prob(
            self.leaf("guider_old_logits").masked_fill(~mask, FORBIDDEN)
        )
        advantage = self.leaf("advantage").detach()
        self.advantage = normalised(advantage, torch.ones_like(advantage, dtype=torch.bool))
        names = ("clip_eps", "clip_gpo", "alpha", "ent_coef", "vf_coef")
        self.clip, self.delta, self.alpha, self.entropy_coef, self.value_coef = (
            float(golden[f"{setting}/cfg/{name}"]) for name in names
        )

    def leaf(self, name: str) -> Tensor:
        return tensor(self.golden[f"in/{name}"]).to(self.dtype).requires_grad_()

    def log_prob(self, logits: Tensor) -> Tensor:
        return functional.log_softmax(logits, -1).gather(-1, self.action).squeeze(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits, -1)
        return -(log_p.exp() * log_p).sum(-1).mean()

    def value_loss(self) -> Tensor:
        old, target = self.leaf("value_old").detach(), self.leaf("value_target").detach()
        return value_loss(self.value, old, target, self.clip).mean()

    def check(self, name: str, found: Tensor, group: str = "") -> None:
        expected = self.golden[f"{group or self.setting}/{self.precision}/{name}"]
        scale = max(1.0, float(np.abs(expected).max()))
        assert_allclose(array(found), expected, atol=self.tolerance * scale, err_msg=name)


@pytest.fixture(params=[(s, p) for s in SETTINGS for p in PRECISIONS], ids="-".join)
def case(request: pytest.FixtureRequest, losses: Golden) -> Case:
    return Case(losses, *request.param)


def test_the_guiders_loss_and_its_gradient(case: Case) -> None:
    log_mu, log_pi = case.log_prob(case.guider), case.log_prob(case.learner)
    ppo = double_clipped(
        log_mu, log_pi, case.old_log_mu.detach(), case.advantage, case.clip, case.delta
    ).mean()
    mask = strays(log_mu, log_pi, case.delta)
    if case.precision == "f64":
        assert array(mask).astype(int).tolist() == case.golden[f"{case.setting}/f64/mask"].tolist()
    pull = (mask * divergence(case.guider, case.learner.detach())).mean()
    entropy, value = case.entropy(case.guider), case.value_loss()
    case.check("guider_ppo", ppo)
    case.check("guider_kl", pull)
    case.check("guider_entropy", entropy)
    case.check("value_loss", value)
    total = ppo + pull - case.entropy_coef * entropy + case.value_coef * value
    case.check("guider_total", total)
    leaves = (case.guider_logits, case.value, case.learner_logits)
    by_guider, by_value, by_learner = torch.autograd.grad(total, leaves, allow_unused=True)
    case.check("grad_guider_total__guider_logits", by_guider)
    case.check("grad_guider_total__value", by_value)
    assert by_learner is None, "in the released code it is not zero, and is thrown away"


def test_the_learners_loss_and_its_gradient(case: Case) -> None:
    log_pi = case.log_prob(case.learner)
    ppo = surrogate(log_pi, case.old_log_mu.detach(), case.advantage, case.clip).mean()
    pull = divergence(case.guider.detach(), case.learner).mean()
    case.check("learner_ppo", ppo)
    case.check("learner_kl", pull)
    total = case.alpha * ppo + pull
    case.check("learner_total", total)
    (by_learner,) = torch.autograd.grad(total, case.learner_logits)
    case.check("grad_learner_total__learner_logits", by_learner)


def test_mappos_losses_and_their_gradients(case: Case) -> None:
    group = f"mappo_{case.setting}"
    log_mu, entropy = case.log_prob(case.guider), case.entropy(case.guider)
    ppo = surrogate(log_mu, case.old_log_mu.detach(), case.advantage, case.clip).mean()
    case.check("ppo", ppo, group)
    actor, critic = ppo - case.entropy_coef * entropy, case.value_coef * case.value_loss()
    case.check("actor_total", actor, group)
    case.check("critic_total", critic, group)
    (by_logits,) = torch.autograd.grad(actor, case.guider_logits)
    (by_value,) = torch.autograd.grad(critic, case.value)
    case.check("grad_actor__logits", by_logits, group)
    case.check("grad_critic__value", by_value, group)
