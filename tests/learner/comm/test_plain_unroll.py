"""The unroll against its plainest form: the same values and the same gradients."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from configs.schema import GateMode, GateTiming, MessageDtype
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from tests.learner_helpers import array, make_flat, make_network, make_spec, make_window
from tests.plain_unroll import plain_unroll

Unroll = Callable[..., UnrollOutput]


def result_and_gradients(
    function: Unroll,
    dtype: torch.dtype,
    num_agents: int,
    rule: GateRule,
    message_dtype: MessageDtype,
    beacon_delta: float = 0.0,
    beacon_period: int = 1,
) -> tuple[UnrollOutput, dict[str, Tensor]]:
    """Two calls, the second with the carry of the first, and a loss over all they return."""
    spec = make_spec(message_dtype=message_dtype)
    spec = replace(spec, beacon_delta=beacon_delta, beacon_period=beacon_period)
    network = make_network(spec, num_agents, make_flat(spec)).to(dtype)
    if rule.noise is not None:
        rule.noise.manual_seed(5)
    loss, carry, output = torch.zeros((), dtype=dtype), None, None
    for seed in (1, 2):
        window = make_window(spec, num_agents=num_agents, seed=seed)
        window = UnrollInput(window.observations_TBND.to(dtype), window.alive_TBN)
        output = function(network, window, rule, carry)
        carry = output.carry
        generator = torch.Generator().manual_seed(seed)
        for x in (output.q_TBNA, output.messages_TBNM, output.scores_TBNK, output.gates_TBNK):
            weight = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype)
            loss = loss + (x * weight).sum()
    assert output is not None
    loss.backward()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in network.tensors().items()
    }
    return output, gradients


def hold_against_plain(
    dtype: torch.dtype,
    num_agents: int,
    rule: GateRule,
    message_dtype: MessageDtype,
    tolerance: float,
    beacon_delta: float = 0.0,
    beacon_period: int = 1,
) -> None:
    arguments = (dtype, num_agents, rule, message_dtype, beacon_delta, beacon_period)
    plain, plain_gradients = result_and_gradients(plain_unroll, *arguments)
    output, gradients = result_and_gradients(unroll, *arguments)
    assert_array_equal(array(output.gates_TBNK), array(plain.gates_TBNK))
    assert_array_equal(array(output.allowed_TBNK), array(plain.allowed_TBNK))
    pairs = [
        (output.q_TBNA, plain.q_TBNA),
        (output.messages_TBNM, plain.messages_TBNM),
        (output.scores_TBNK, plain.scores_TBNK),
        (output.carry.hidden_BNH, plain.carry.hidden_BNH),
        (output.carry.message_BNM, plain.carry.message_BNM),
        (output.carry.own["beacon"], plain.carry.own["beacon"]),
        *((gradients[name], plain_gradients[name]) for name in gradients),
    ]
    for ours, theirs in pairs:
        scale = max(float(theirs.detach().abs().max()), 1.0)
        assert_allclose(array(ours) / scale, array(theirs) / scale, atol=tolerance)


@pytest.mark.parametrize("timing", ["causal", "paper"])
@pytest.mark.parametrize("mode", ["learned", "open", "closed"])
@pytest.mark.parametrize("num_agents", [2, 9])
def test_values_and_gradients_are_those_of_the_plain_unroll(
    timing: GateTiming, mode: GateMode, num_agents: int
) -> None:
    rule = GateRule(timing, mode, 0.7, torch.Generator())
    for message_dtype in ("float16", "float32"):
        hold_against_plain(torch.float64, num_agents, rule, message_dtype, 1e-10)
    # Without float16 nothing can tip to the next number.
    hold_against_plain(torch.float32, num_agents, rule, "float32", 1e-5)


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_a_budget_and_beacons_that_are_not_said_every_time_change_nothing_about_that(
    timing: GateTiming,
) -> None:
    rule = GateRule(timing, "learned", 0.7, torch.Generator(), budget=2)
    hold_against_plain(torch.float64, 9, rule, "float16", 1e-10)
    rule = GateRule(timing, "learned", 0.7, torch.Generator())
    hold_against_plain(torch.float64, 9, rule, "float16", 1e-10, beacon_delta=0.3)
    hold_against_plain(torch.float64, 9, rule, "float16", 1e-10, beacon_period=4)
    hold_against_plain(torch.float64, 9, rule, "float16", 1e-10, 0.3, 2)
