from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor
from torch.autograd import gradcheck

from learner.attention import attend
from learner.gates import GateRule, gate
from learner.straight_through import round_beacon, round_message
from tests.learner_helpers import array


def masked_softmax(query: Tensor, key: Tensor, message: Tensor, gates: Tensor) -> Tensor:
    """The same attention by gathering, with autograd's own gradient."""
    agents, offsets = gates.shape[1:]
    senders = [[(i - (1 << k)) % agents for i in range(agents)] for k in range(offsets)]
    tokens = torch.stack([message, *[message[:, s] for s in senders]], dim=2)
    keys = torch.stack([key, *[key[:, s] for s in senders]], dim=2)
    logits = (query.unsqueeze(2) * keys).sum(-1)
    heard = torch.cat((torch.ones_like(gates[..., :1]), gates), dim=-1)
    shifted = logits - logits.masked_fill(heard == 0, float("-inf")).amax(-1, keepdim=True)
    weights = heard * shifted.clamp(max=0.0).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    return (weights.unsqueeze(-1) * tokens).sum(2)


def attention_inputs(agents: int, offsets: int, *, hard: bool) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)

    def normal(width: int) -> Tensor:
        return torch.randn(2, agents, width, generator=generator, dtype=torch.float64)

    gates = torch.rand(2, agents, offsets, generator=generator, dtype=torch.float64)
    gates = (gates > 0.5).double() if hard else gates * 0.8 + 0.2
    return tuple(x.requires_grad_() for x in (normal(3), normal(3), normal(5), gates))


@pytest.mark.parametrize(("agents", "offsets"), [(2, 1), (5, 3), (9, 4)])
@pytest.mark.parametrize("hard", [True, False])
def test_attention_and_its_gradient_equal_a_masked_softmax(
    agents: int, offsets: int, hard: bool
) -> None:
    inputs = attention_inputs(agents, offsets, hard=hard)
    expected, result = masked_softmax(*inputs), attend(*inputs)
    assert_allclose(array(result), array(expected), atol=1e-12)
    weight = torch.randn(result.shape, dtype=torch.float64)
    wanted: Any = torch.autograd.grad((expected * weight).sum(), inputs)
    found: Any = torch.autograd.grad((result * weight).sum(), inputs)
    for x, y in zip(found, wanted, strict=True):
        assert_allclose(array(x), array(y), atol=1e-12)


def test_gradient_of_attention_is_right_by_finite_differences() -> None:
    assert gradcheck(attend, attention_inputs(5, 3, hard=False))


def test_gates_are_hard_forward_and_smooth_backward() -> None:
    scores = torch.tensor([-2.0, -0.1, 0.1, 3.0], requires_grad=True)
    gates = gate(scores, GateRule("causal", "learned", temperature=0.5))
    assert_array_equal(array(gates), [0.0, 0.0, 1.0, 1.0])
    (slope,) = torch.autograd.grad(gates.sum(), scores)
    y = torch.sigmoid(scores.detach() / 0.5)
    assert_allclose(array(slope), array(y * (1 - y) / 0.5), rtol=1e-6)


def test_noise_opens_an_edge_with_the_probability_of_its_score() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.full((200_000,), 1.0)
    for temperature in (1.0, 0.3):  # which has no say in it
        rule = GateRule("causal", "learned", temperature, generator)
        assert abs(float(gate(scores, rule).mean()) - 0.7311) < 0.005


def test_rounding_is_that_of_the_wire_and_gradients_pass() -> None:
    x = torch.tensor([0.1, -0.123456, 1e-7, 0.5 / 127], requires_grad=True)
    message, beacon = round_message(x, "float16"), round_beacon(x, "int8")
    assert_array_equal(array(message), array(x.half()).astype(np.float32))
    assert_allclose(array(beacon * 127), [13, -16, 0, 0], atol=1e-5)  # half goes to even
    for rounded in (message, beacon):
        (slope,) = torch.autograd.grad(rounded.sum(), x)
        assert_array_equal(array(slope), np.ones(4))
    assert round_message(x, "float32") is x
    assert round_beacon(x, "float32") is x


def test_agents_that_never_speak_have_closed_gates() -> None:
    assert GateRule.of("none", "causal", "learned").mode == "closed"
    assert GateRule.of("sops", "causal", "learned").mode == "learned"
