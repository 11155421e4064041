import numpy as np
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

import agents.comm.gate
from configs.schema import GateConfig
from learner.comm.gates import GateRule, gate
from learner.kernels.straight_through import round_beacon, round_message
from tests.learner_helpers import array


def allowed(scores: Tensor) -> Tensor:
    return torch.ones_like(scores, dtype=torch.bool)


def test_gates_are_hard_forward_and_smooth_backward() -> None:
    scores = torch.tensor([-2.0, -0.1, 0.1, 3.0], requires_grad=True)
    gates = gate(scores, allowed(scores), GateRule("causal", "learned", temperature=0.5))
    assert_array_equal(array(gates), [0.0, 0.0, 1.0, 1.0])
    (slope,) = torch.autograd.grad(gates.sum(), scores)
    y = torch.sigmoid(scores.detach() / 0.5)
    assert_allclose(array(slope), array(y * (1 - y) / 0.5), rtol=1e-6)


def test_noise_opens_an_edge_with_the_probability_of_its_score() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.full((200_000,), 1.0)
    for temperature in (1.0, 0.3):  # which has no say in it
        rule = GateRule("causal", "learned", temperature, generator)
        assert abs(float(gate(scores, allowed(scores), rule).mean()) - 0.7311) < 0.005


def test_rounding_is_that_of_the_wire_and_gradients_pass() -> None:
    x = torch.tensor([0.1, -0.123456, 1e-7, 0.5 / 127], requires_grad=True)
    beacon = round_beacon(x, "int8")
    assert_allclose(array(beacon * 127), [13, -16, 0, 0], atol=1e-5)  # half goes to even
    (slope,) = torch.autograd.grad(beacon.sum(), x)
    assert_array_equal(array(slope), np.ones(4))
    assert round_beacon(x, "float32") is x


def test_the_gradient_of_a_message_passes_its_rounding() -> None:
    x = torch.tensor([0.1, 0.9], requires_grad=True)
    message = round_message(x, "float16")
    assert_array_equal(array(message), np.array([0.1, 0.9], np.float16).astype(np.float32))
    (slope,) = torch.autograd.grad(message.sum(), x)
    assert_array_equal(array(slope), np.ones(2))
    assert round_message(x, "float32") is x


def test_agents_that_never_speak_have_closed_gates() -> None:
    assert GateRule.of("none", GateConfig()).mode == "closed"
    assert GateRule.of("sops", GateConfig()).mode == "learned"


def test_a_budget_opens_the_same_edges_as_in_the_agents() -> None:
    rng = np.random.default_rng(2)
    for offsets in (1, 4, 7, 12):
        # Steps of a half: most rows hold equal scores.
        scores = (rng.integers(-4, 5, (300, offsets)) / 2).astype(np.float32)
        possible = rng.random(scores.shape) < 0.8
        for budget in range(offsets + 2):
            rule = GateRule("causal", "learned", budget=budget)
            opened = gate(torch.tensor(scores), torch.tensor(possible), rule)
            expected = agents.comm.gate.within_budget(scores, possible & (scores > 0), budget)
            assert_array_equal(array(opened), expected)


def test_episodes_without_noise_are_unrolled_as_they_will_be_played() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.full((6, 4, 5, 3), 1.0)
    noisy = torch.tensor([True, False, True, False])
    rule = GateRule("causal", "learned", 1.0, generator, noisy)
    whole = gate(scores, allowed(scores), rule).amin(dim=(0, 2, 3))
    # All 90 edges of a noisy episode stay open once in 10^12.
    assert_array_equal(array(whole), [0.0, 1.0, 0.0, 1.0])


def test_noise_has_its_say_in_who_gets_the_budget() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.tensor([3.0, 2.5]).expand(2000, 2)
    opened = gate(scores, allowed(scores), GateRule("causal", "learned", 1.0, generator, budget=1))
    assert float(opened.sum(-1).max()) == 1.0
    assert 0.5 < float(opened[:, 0].mean()) < 0.7


def test_with_a_budget_the_gradient_is_that_of_overtaking_a_rival() -> None:
    scores = torch.tensor([4.0, 3.0, 1.5, -1.0], requires_grad=True)
    opened = gate(scores, allowed(scores), GateRule("causal", "learned", budget=2))
    assert_array_equal(array(opened), [1.0, 1.0, 0.0, 0.0])
    (slope,) = torch.autograd.grad(opened.sum(), scores)
    # The first two close when the third overtakes them; the others open when they overtake the
    # second.
    y = torch.sigmoid(torch.tensor([4.0 - 1.5, 3.0 - 1.5, 1.5 - 3.0, -1.0 - 3.0]))
    assert_allclose(array(slope), array(y * (1 - y)), rtol=1e-6)


def test_below_its_budget_an_agent_scores_against_zero() -> None:
    scores = torch.tensor([4.0, -3.0, -1.0], requires_grad=True)
    opened = gate(scores, allowed(scores), GateRule("causal", "learned", budget=2))
    (slope,) = torch.autograd.grad(opened.sum(), scores)
    y = torch.sigmoid(scores.detach())
    assert_allclose(array(slope), array(y * (1 - y)), rtol=1e-6)


def test_an_edge_to_nobody_has_no_gradient() -> None:
    scores = torch.tensor([4.0, 3.0], requires_grad=True)
    opened = gate(scores, torch.tensor([True, False]), GateRule("causal", "learned"))
    (slope,) = torch.autograd.grad(opened.sum(), scores)
    assert float(slope[0]) > 0.0
    assert float(slope[1]) == 0.0
