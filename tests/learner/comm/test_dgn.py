"""DGN's rounds of attention by hand, on both sides; and its regulariser."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.comm.dgn import LAYERS, Options, Round
from agents.policy import PolicySpec
from configs.arrays import BoolArray, FloatArray
from learner.comm.carry import UnrollInput
from learner.comm.dgn import RoundTwin, divergence
from learner.comm.gates import GateRule
from learner.comm.unroll import unroll
from learner.network import PolicyNetwork
from tests.learner_helpers import array, make_flat, make_spec, make_window
from tests.scheme_cases import Case

E = math.e
OWN, OTHER, ABSENT = [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]
RULE = GateRule("causal", "open")


def by_agent(
    options: Options, own: list[float], heard: list[list[float]], *there: int
) -> FloatArray:
    """[F] what an agent's round makes of tokens, where all layers leave them as they are."""
    tensors = {f"{name}_1.weight": np.eye(options.feature, dtype=np.float32) for name in LAYERS}
    tensors |= {f"{name}_1.bias": np.zeros(options.feature, np.float32) for name in LAYERS}
    present: BoolArray = np.array([there], np.bool_)
    heard_EKF = np.array([heard], np.float32)
    return Round(options, tensors, "1")(np.array([own], np.float32), heard_EKF, present)[0]


def by_twin(
    options: Options, own: torch.Tensor, before: torch.Tensor, heard: torch.Tensor
) -> FloatArray:
    """[T, N, F] the same of the learner's, for all agents."""
    twin = RoundTwin(options)
    with torch.no_grad():
        for layer in twin.layers.values():
            torch.nn.init.eye_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        return array(twin(own[:, None], before[:, None], heard[:, None])[0])[:, 0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Products 1 and 0 with oneself and the other; weights e : 1.
        (Options(heads=1, head_size=2, scaled=False), [E / (E + 1), 1 / (E + 1)]),
        # The same over sqrt(2).
        (
            Options(heads=1, head_size=2),
            [E**0.5**0.5 / (E**0.5**0.5 + 1), 1 / (E**0.5**0.5 + 1)],
        ),
        # The first head asks 1 of 1 and 0, the second asks nothing and weighs both alike.
        (Options(heads=2, head_size=1), [E / (E + 1), 0.5]),
    ],
)
def test_a_round_weighs_tokens_as_worked_out_by_hand(
    options: Options, expected: list[float]
) -> None:
    found = by_agent(options, OWN, [OTHER, ABSENT], 1, 0)
    assert_allclose(found, expected, rtol=1e-6)
    own, before = torch.tensor([[OWN, OTHER, OWN]]), torch.tensor([[ABSENT, OTHER, ABSENT]])
    heard = torch.zeros(1, 3, 3, dtype=torch.bool)
    heard[0, 0, 1] = True
    assert_allclose(by_twin(options, own, before, heard)[0, 0], expected, rtol=1e-6)


def test_who_hears_nobody_attends_to_itself() -> None:
    options = Options(heads=1, head_size=2)
    assert_allclose(by_agent(options, OWN, [OTHER, ABSENT], 0, 0), OWN)
    own, before = torch.tensor([[OWN, OTHER]]), torch.tensor([[ABSENT, ABSENT]])
    nobody = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert_allclose(by_twin(options, own, before, nobody)[0], [OWN, OTHER])


def test_two_rounds_on_a_path_of_three_agents() -> None:
    """0 - 1 - 2, one head that asks nothing (its queries are 0): all weights are alike, and a round
    is the mean over an agent and its neighbours.
    """
    options = Options(heads=1, head_size=2, scaled=False)
    twin = RoundTwin(options)
    with torch.no_grad():
        for name, layer in twin.layers.items():
            torch.nn.init.eye_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
            if name == "query":
                torch.nn.init.zeros_(layer.weight)
    path = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    features = torch.tensor([[[6.0, 0.0], [0.0, 6.0], [12.0, 0.0]]])  # the same in each step
    first, _ = twin(features[:, None], features[:, None], path[None, None])
    assert_allclose(array(first)[0, 0], [[3, 3], [6, 2], [6, 3]], rtol=1e-6)
    second, _ = twin(first, first, path[None, None])
    assert_allclose(array(second)[0, 0], [[4.5, 2.5], [5, 8 / 3], [6, 2.5]], rtol=1e-6)


def spec_of(options: str) -> PolicySpec:
    return Case("dgn", options, "causal").applied(make_spec())


def test_a_message_is_the_feature_and_the_first_round() -> None:
    assert (spec_of("").message, spec_of("").context) == (256, 128)
    spec = spec_of("heads=2,head_size=3,concat=true")
    assert (spec.message, spec.context) == (12, 18)
    network = PolicyNetwork(spec, 5)
    window = make_window(spec, time=4, batch=1, num_agents=5)
    with torch.no_grad():
        messages = unroll(network, window, RULE).messages_TBNM
        hidden = network.recur(window.observations_TBND, torch.zeros(1, 5, spec.hidden))
        features = torch.relu(network.feature(hidden))
    assert_allclose(array(messages[..., :6]), array(features), atol=1e-6)


def test_what_is_seen_is_heard_a_step_later() -> None:
    spec = spec_of("heads=2,head_size=3")
    network = PolicyNetwork(spec, 4)
    network.load_flat(make_flat(spec))
    window = make_window(spec, time=4, batch=1, num_agents=4, deaths=False)
    other = window.observations_TBND.clone()
    other[0, 0, 2] += 1.0
    with torch.no_grad():
        q = unroll(network, window, RULE).q_TBNA
        moved = unroll(network, replace(window, observations_TBND=other), RULE).q_TBNA
    changed_TN = array((q - moved).abs().amax(-1)[:, 0] > 1e-6)
    assert_array_equal(changed_TN[0], [False, False, True, False])
    assert changed_TN[1].all()


def test_the_divergence_is_the_one_worked_out_by_hand() -> None:
    """Two agents that hear each other; in the next step the other's product has grown by log 3."""
    logits = torch.zeros(2, 1, 1, 2, 2)
    logits[1, 0, 0, 0, 1] = math.log(3.0)
    heard = torch.tensor([[0, 1], [1, 0]], dtype=torch.bool).expand(2, 1, 2, 2)
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert_allclose(array(divergence(logits, heard))[0, 0], [expected, 0.0], rtol=1e-5, atol=1e-7)
    nobody = torch.zeros_like(heard)
    assert_allclose(array(divergence(logits, nobody))[0, 0], [0.0, 0.0])


def test_consistency_moves_the_attention_of_a_step_and_not_of_the_next() -> None:
    logits = torch.randn(2, 1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    heard = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(divergence(logits, heard)[0].sum(), logits)
    assert gradient[0].abs().sum() > 0
    assert not gradient[1].any()


def test_what_the_dead_do_not_say_regularises_nothing() -> None:
    """An agent dies with step 2: what it would have said then nobody hears in step 3."""
    spec = spec_of("heads=2,head_size=3,consistency=0.03")
    network = PolicyNetwork(spec, 4)
    network.load_flat(make_flat(spec))
    window = make_window(spec, time=5, batch=2, num_agents=4, deaths=False)
    alive_TBN = window.alive_TBN.clone()
    alive_TBN[2:, :, 1] = False
    seen_TBND = window.observations_TBND * alive_TBN.unsqueeze(-1)
    of_ghost_TBND = seen_TBND.clone()
    of_ghost_TBND[2, :, 1] = 5.0
    losses = [
        unroll(network, UnrollInput(seen, alive_TBN), RULE).own_loss_TB
        for seen in (seen_TBND, of_ghost_TBND)
    ]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[0].sum() > 0
    assert_array_equal(array(losses[0]), array(losses[1]))


@pytest.mark.parametrize("consistency", [0.0, 0.03])
def test_the_regulariser_is_an_option(consistency: float) -> None:
    spec = spec_of(f"heads=2,head_size=3,consistency={consistency}")
    network = PolicyNetwork(spec, 4)
    network.load_flat(make_flat(spec))
    output = unroll(network, make_window(spec, time=4, batch=2, num_agents=4), RULE)
    if not consistency:
        assert output.own_loss_TB is None
        return
    assert output.own_loss_TB is not None
    assert (output.own_loss_TB[:-1] >= 0).all()
    assert output.own_loss_TB[:-1].sum() > 0
    keys = network.tensors()["key_2.weight"]
    (gradient,) = torch.autograd.grad(output.own_loss_TB.sum(), keys)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"heads": 0}, "heads must be between 1 and 1024, got 0"),
        ({"heads": 1024}, "a feature has at most 2048 numbers, got 1024 heads of 16"),
        ({"consistency": -1.0}, "consistency must be between 0 and 1e6"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Options(**options)  # type: ignore[arg-type]  # by name
