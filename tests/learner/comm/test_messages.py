"""The hand-written parts of the unroll, each against autograd on the formula written out."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from learner.comm import pair_scores as pair_scores_module
from learner.comm.messages import message_sequence
from learner.comm.pair_scores import pair_scores
from learner.kernels.gru import gru
from learner.kernels.projections import projections
from learner.kernels.straight_through import straight_through
from tests.learner_helpers import array


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def hold_against(
    found: Sequence[Tensor], expected: Sequence[Tensor], inputs: Sequence[Tensor]
) -> None:
    """Values and gradients agree to the rounding of float64."""
    for ours, theirs in zip(found, expected, strict=True):
        assert_allclose(array(ours), array(theirs), atol=1e-10)
    weights = [torch.randn(x.shape, dtype=torch.float64) for x in expected]

    def gradients(outputs: Sequence[Tensor]) -> Any:
        total = sum((x * w).sum() for x, w in zip(outputs, weights, strict=True))
        return torch.autograd.grad(total, inputs)  # type: ignore[arg-type]  # a sum of tensors

    for ours, theirs in zip(gradients(found), gradients(expected), strict=True):
        assert_allclose(array(ours), array(theirs), atol=1e-10)


# --- messages -------------------------------------------------------------------------------------


def attended(query: Tensor, message: Tensor, gates: Tensor) -> Tensor:
    """Equation 5 by gathering, with gates as factors."""
    agents, offsets = gates.shape[1:]
    senders = [[(i - (1 << k)) % agents for i in range(agents)] for k in range(offsets)]
    tokens = torch.stack([message, *[message[:, s] for s in senders]], dim=2)
    logits = (query.unsqueeze(2) * tokens).sum(-1)
    heard = torch.cat((torch.ones_like(gates[..., :1]), gates), dim=-1)
    shifted = logits - logits.masked_fill(heard == 0, float("-inf")).amax(-1, keepdim=True)
    weights = heard * shifted.clamp(max=0.0).exp()
    return ((weights / weights.sum(-1, keepdim=True)).unsqueeze(-1) * tokens).sum(2)


def message_inputs(agents: int, offsets: int, *, hard: bool) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    gates = torch.rand(4, 2, agents, offsets, generator=generator, dtype=torch.float64)
    gates = (gates > 0.5).double() if hard else gates * 0.8 + 0.2
    shape = (4, 2, agents, 5)
    return (
        normal(*shape),
        normal(*shape, seed=1),
        gates.requires_grad_(),
        normal(2, agents, 5),
        normal(5, 5),
    )


@pytest.mark.parametrize(("agents", "offsets"), [(2, 1), (5, 3), (9, 4)])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_messages_and_their_gradient_equal_the_formula_step_by_step(
    agents: int, offsets: int, hard: bool, half: bool
) -> None:
    inputs = message_inputs(agents, offsets, hard=hard)
    own_part, queries, gates, own, weight = inputs
    expected: list[Tensor] = []
    for t in range(len(own_part)):
        message = torch.tanh(own_part[t] + attended(queries[t], own, gates[t]) @ weight)
        expected.append(message)
        own = message
        if half:
            own = straight_through(message, message.detach().half().double())
    found = message_sequence(*inputs, half=half)
    hold_against(found, (torch.stack(expected), own), inputs)


def test_messages_that_nobody_hears_follow_from_the_own_ones() -> None:
    own_part, weight, start = normal(3, 2, 4, 5), normal(5, 5), normal(2, 4, 5)
    own, expected = start, list[Tensor]()
    for part in own_part:
        own = torch.tanh(part + own @ weight)
        expected.append(own)
    found = message_sequence(own_part, None, None, start, weight, half=False)
    hold_against(found, (torch.stack(expected), own), (own_part, start, weight))


def test_gradient_of_messages_is_right_by_finite_differences() -> None:
    inputs = message_inputs(5, 3, hard=False)
    weight = normal(4, 2, 5, 5, seed=7).detach()
    direction = [normal(*x.shape, seed=8).detach() for x in inputs]

    def loss(step: float) -> Tensor:
        moved = [x + step * d for x, d in zip(inputs, direction, strict=True)]
        return (message_sequence(*moved, half=False)[0] * weight).sum()

    slopes: Any = torch.autograd.grad(loss(0.0), inputs)
    slope = sum(float((g * d).sum().detach()) for g, d in zip(slopes, direction, strict=True))
    by_hand = float((loss(1e-6) - loss(-1e-6)).detach()) / 2e-6
    assert by_hand == pytest.approx(slope, rel=1e-6)


def test_messages_without_gradient_are_the_same() -> None:
    inputs = message_inputs(9, 4, hard=True)
    with_tape = message_sequence(*inputs, half=True)
    with torch.no_grad():
        without = message_sequence(*inputs, half=True)
    for ours, theirs in zip(without, with_tape, strict=True):
        assert not ours.requires_grad
        assert_array_equal(array(ours), array(theirs))


# --- GRU, scores, projections ---------------------------------------------------------------------


def test_gru_and_its_gradient_equal_torch() -> None:
    module = torch.nn.GRU(5, 4).double()
    parameters: Any = tuple(module.parameters())
    inputs, start = normal(6, 3, 5), normal(3, 4)
    expected, _ = module(inputs, start.unsqueeze(0))
    found = gru(inputs, start, *parameters)
    hold_against([found], [expected], (inputs, start, *parameters))
    with torch.no_grad():
        assert_array_equal(array(gru(inputs, start, *parameters)), array(found))


@pytest.mark.parametrize("at_once", [1, 100, 100_000])
def test_scores_of_pairs_and_their_gradient_equal_the_formula(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pair_scores_module._NUMBERS_AT_ONCE, "cpu", at_once)  # pyright: ignore[reportPrivateUsage]  # steps one by one, some, all
    own, peer, edge, out = normal(5, 2, 6, 3), normal(5, 2, 6, 3, seed=1), normal(3, 3), normal(3)
    scores = [
        torch.relu(own + peer[:, :, [(i + (1 << k)) % 6 for i in range(6)]] + edge[k]) @ out
        for k in range(3)
    ]
    inputs = (own, peer, edge, out)
    hold_against([pair_scores(*inputs)], [torch.stack(scores, dim=-1)], inputs)


def test_layers_of_one_input_equal_layers_one_by_one() -> None:
    x, first, bias, second = normal(2, 3, 4), normal(5, 4), normal(5), normal(6, 4)
    expected = (x @ first.t() + bias, x @ second.t())
    found = projections(x, (first, bias), (second, None))
    hold_against(found, expected, (x, first, bias, second))


def test_a_layer_whose_output_goes_nowhere_has_no_gradient() -> None:
    x, first, second = normal(2, 4), normal(5, 4), normal(6, 4)
    used, _ = projections(x, (first, None), (second, None))
    found: Any = torch.autograd.grad(used.sum(), (x, first, second), allow_unused=True)
    assert_allclose(array(found[0]), array(first.sum(0)).reshape(1, -1).repeat(2, 0), atol=1e-12)
    assert found[2] is None
