"""What an open edge costs, when, and what that does to a gate."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import initialise
from configs.arrays import FloatArray
from configs.schema import GateConfig, GateMode
from learner.learner import Learner
from learner.price import EdgePrice, open_edges
from tests.learner_helpers import DIMENSIONS, array, make_config, make_episode, make_spec


def test_the_price_rises_late_and_in_a_straight_line() -> None:
    gate = GateConfig(price=0.004, price_start=1000, price_steps=400)
    steps = (0, 999, 1000, 1100, 1300, 1400, 10**9)
    expected = [0.0, 0.0, 0.0, 0.001, 0.003, 0.004, 0.004]
    assert_allclose([EdgePrice(gate).at(step) for step in steps], expected, rtol=1e-12)


def test_without_a_ramp_the_price_is_there_at_once() -> None:
    gate = GateConfig(price=0.5, price_start=10)
    assert [EdgePrice(gate).at(step) for step in (9, 10, 11)] == [0.0, 0.5, 0.5]
    assert EdgePrice(GateConfig(price=0.5)).at(0) == 0.5
    assert EdgePrice(GateConfig()).at(10**6) == 0.0


def test_a_policy_that_gets_worse_is_charged_less() -> None:
    price = EdgePrice(GateConfig(price=0.4, price_loss=0.02, noise_share=0.5))
    assert price.at(0) == 0.0, "nothing is known of how good it is"
    charged: list[float] = []
    for loss in (0.01, 0.02, 0.03, 0.04, 0.5, 0.01):
        for _ in range(200):  # the running mean has come there
            price.hear(loss)
        charged.append(price.at(0))
    assert charged == pytest.approx([0.4, 0.4, 0.2, 0.0, 0.0, 0.4], abs=1e-6)


def test_one_bad_batch_does_not_waive_the_price() -> None:
    price = EdgePrice(GateConfig(price=0.4, price_loss=0.02, noise_share=0.5))
    for _ in range(200):
        price.hear(0.01)
    price.hear(0.1)
    assert price.at(0) == pytest.approx(0.4)


def test_the_loss_that_decides_needs_episodes_without_noise() -> None:
    with pytest.raises(ValueError, match=r"give gate\.noise_share less than 1"):
        GateConfig(price_loss=0.01)


@pytest.mark.parametrize("field", ["budget", "price", "price_start", "price_steps", "price_loss"])
def test_what_a_gate_costs_and_may_open_is_never_negative(field: str) -> None:
    with pytest.raises(ValueError, match=rf"gate\.{field} must be .*, got -1"):
        dataclasses.replace(GateConfig(), **{field: -1})


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_the_share_of_noisy_episodes_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match=r"gate\.noise_share must be in \[0, 1\]"):
        GateConfig(noise_share=share)


def test_open_edges_are_counted_and_press_on_scores_by_their_probability() -> None:
    scores = torch.tensor([[6.0, -0.9, 0.0, 3.0, -1.1]], requires_grad=True)
    gates = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0]])
    counts = torch.tensor([[True, True, True, False, True]])
    number = open_edges(scores, gates, counts)
    assert number.item() == 2.0
    (slope,) = torch.autograd.grad(number, scores)
    # However decided an open edge is, it feels the whole price; what is shut is left alone.
    expected = 1.0 / (1.0 + np.exp(-array(scores))) * array(counts) * (array(scores) > -1.0)
    assert_allclose(array(slope), expected, rtol=1e-6)


def make_learner(gate: GateConfig, *, reward_scale: float = 1.0) -> Learner:
    config = make_config(gate=gate)
    learner = dataclasses.replace(config.learner, reward_scale=reward_scale, learning_rate=2e-2)
    spec = make_spec()
    flat = initialise(spec, np.random.default_rng(0))
    return Learner(dataclasses.replace(config, learner=learner), spec, DIMENSIONS, flat)


def feed(learner: Learner, episodes: int = 8) -> None:
    for number in range(episodes):
        learner.add(make_episode(number, lifetimes=[6, 6, 6, 3, 6, 6], terminated=True))


def test_a_price_closes_gates_that_teach_nothing() -> None:
    """Rewards are noise here, so no edge is worth anything."""
    shares: list[float] = []
    for price in (0.0, 1.0):
        learner = make_learner(GateConfig(price=price, noise_share=0.0))
        feed(learner)
        metrics = [learner.update() for _ in range(20)]
        shares.append(metrics[-1]["open_fraction"])
    free, priced = shares
    assert free > 0.5
    assert priced < 0.1


def test_the_charge_is_the_price_of_the_open_edges_of_an_agent_step() -> None:
    learner = make_learner(GateConfig(price=0.25, noise_share=0.0), reward_scale=2.0)
    feed(learner)
    metrics = learner.compute_gradient()
    # An untrained gate leaves all 3 edges open: of the living, to whom was alive.
    assert metrics["open_fraction"] == 1.0
    assert 2.0 * 0.25 * 2.4 < metrics["edge_charge"] < 2.0 * 0.25 * 3.0
    learner.apply_gradient(metrics)
    assert metrics["gate_price"] == 0.25


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_edges_that_nobody_chooses_are_not_charged(mode: GateMode) -> None:
    learner = make_learner(GateConfig(price=0.25, mode=mode))
    feed(learner)
    assert learner.compute_gradient()["edge_charge"] == 0.0


def test_a_price_yet_to_come_changes_nothing() -> None:
    flats: list[FloatArray] = []
    for gate in (GateConfig(), GateConfig(price=0.3, price_start=10**9)):
        learner = make_learner(gate)
        feed(learner)
        for _ in range(3):
            learner.update()
        flats.append(learner.parameters_flat())
    assert_array_equal(flats[0], flats[1])


def test_noise_free_episodes_say_how_the_policy_would_do() -> None:
    """Half of the episodes get noise; that of all and that of none have nothing to tell apart."""
    updates: dict[float, list[dict[str, float]]] = {}
    for share in (1.0, 0.5, 0.0):
        learner = make_learner(GateConfig(noise_share=share))
        feed(learner, 40)
        # A batch is small: in one update it may be that no episode gets noise, or every one.
        updates[share] = [learner.update() for _ in range(6)]
    assert all("deployed_loss" not in metrics for metrics in updates[1.0])
    for metrics in updates[0.0]:
        assert metrics["deployed_loss"] == pytest.approx(metrics["loss"], rel=1e-5)
        assert metrics["open_fraction"] == metrics["open_share"]
    mixed = [metrics for metrics in updates[0.5] if "deployed_loss" in metrics]
    differences = [abs(metrics["deployed_loss"] - metrics["loss"]) for metrics in mixed]
    assert max(differences) > 1e-3
    assert updates[1.0][0]["open_fraction"] < updates[1.0][0]["open_share"]


def test_a_learner_waives_the_price_while_its_loss_is_high() -> None:
    charges: list[float] = []
    for limit in (1e-6, 1e6):
        learner = make_learner(GateConfig(price=0.5, price_loss=limit, noise_share=0.5))
        feed(learner)
        learner.update()
        charges.append(learner.update()["edge_charge"])
    assert charges[0] == 0.0
    assert charges[1] > 0.5
