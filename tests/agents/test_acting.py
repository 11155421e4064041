"""Ways of acting: what they draw, what they may, and what they say about it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from agents import tanh_normal
from agents.acting import Actor, EpsilonGreedy, Random, Sample, SampleBox, make_actor
from agents.participation import Participants, Participation
from agents.tanh_normal import Scale
from runtime.net import wire
from tests.agents_helpers import make_rules, observation

COPIES = 4000
RULES = make_rules(copies=COPIES)


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def now(*, explore: bool, epsilon: float = 0.0) -> wire.Observation:
    return observation(RULES, 1, explore=explore, epsilon=epsilon)


def participation(seen: wire.Observation) -> Participation:
    found = Participants(COPIES, relays=False).of(seen.flags)
    assert found is not None
    return found


def chosen(
    actor: Actor,
    values: ArrayLike,
    *,
    explore: bool,
    epsilon: float = 0.0,
    allowed: ArrayLike | None = None,
) -> NDArray[Any]:
    seen = now(explore=explore, epsilon=epsilon)
    values_EA = np.tile(np.array(values, np.float32), (COPIES, 1))
    allowed_EA = None if allowed is None else np.tile(np.array(allowed, bool), (COPIES, 1))
    return actor.choose(values_EA, seen, participation(seen), allowed_EA)


def shares(actions: NDArray[Any], num_actions: int) -> NDArray[np.float64]:
    return np.bincount(actions, minlength=num_actions) / len(actions)


def test_greedy_takes_the_best_action_that_is_allowed() -> None:
    actor = EpsilonGreedy(4, rng())
    assert (chosen(actor, [0, 3, 2, 1], explore=False) == 1).all()
    assert (chosen(actor, [0, 3, 2, 1], explore=False, allowed=[1, 0, 0, 1]) == 3).all()


def test_exploring_draws_from_what_is_allowed_and_from_nothing_else() -> None:
    actor = EpsilonGreedy(4, rng())
    free = chosen(actor, [0, 3, 2, 1], explore=True, epsilon=1.0)
    np.testing.assert_allclose(shares(free, 4), [0.25] * 4, atol=0.03)
    bound = chosen(actor, [0, 3, 2, 1], explore=True, epsilon=1.0, allowed=[1, 0, 1, 0])
    np.testing.assert_allclose(shares(bound, 4), [0.5, 0, 0.5, 0], atol=0.03)
    half = chosen(actor, [0, 3, 2, 1], explore=True, epsilon=0.5)
    np.testing.assert_allclose(shares(half, 4), [0.125, 0.625, 0.125, 0.125], atol=0.03)


def test_more_than_256_actions_are_numbers_of_16_bits() -> None:
    values = np.zeros(1000)
    values[700] = 1.0
    actions = chosen(EpsilonGreedy(1000, rng()), values, explore=False)
    assert actions.dtype == np.uint16
    assert (actions == 700).all()
    assert chosen(EpsilonGreedy(256, rng()), values[:256], explore=False).dtype == np.uint8


def test_sampling_follows_the_softmax_and_says_its_log_probability() -> None:
    actor = Sample(3, rng())
    logits = np.log([0.2, 0.5, 0.3])
    actions = chosen(actor, logits, explore=True)
    np.testing.assert_allclose(shares(actions, 3), [0.2, 0.5, 0.3], atol=0.03)
    np.testing.assert_allclose(actor.computed["log_prob"], logits[actions], atol=1e-5)
    assert actor.computed["log_prob"].dtype == np.float32


def test_sampling_never_draws_what_is_not_allowed() -> None:
    actor = Sample(3, rng())
    actions = chosen(actor, np.log([0.2, 0.5, 0.3]), explore=True, allowed=[1, 0, 1])
    np.testing.assert_allclose(shares(actions, 3), [0.4, 0, 0.6], atol=0.03)
    np.testing.assert_allclose(actor.computed["log_prob"][actions == 0], np.log(0.4), atol=1e-5)


def test_whoever_samples_takes_the_likeliest_where_nobody_explores() -> None:
    actor = Sample(3, rng())
    assert (chosen(actor, [0.1, 0.3, 0.2], explore=False) == 1).all()


def test_whoever_always_samples_does_so_where_nobody_explores() -> None:
    actor = make_actor("sample-always", 3, None, rng())
    actions = chosen(actor, np.log([0.2, 0.5, 0.3]), explore=False)
    np.testing.assert_allclose(shares(actions, 3), [0.2, 0.5, 0.3], atol=0.03)


def test_random_heeds_no_values_and_no_exploration() -> None:
    actions = chosen(Random(4, None, rng()), [0, 9, 0, 0], explore=False)
    np.testing.assert_allclose(shares(actions, 4), [0.25] * 4, atol=0.03)


def test_random_fills_a_box_of_real_numbers() -> None:
    actions = chosen(Random(2, ((-1.0, 0.0), (1.0, 4.0)), rng()), [0, 0], explore=True)
    assert (actions.shape, actions.dtype) == ((COPIES, 2), np.float32)
    np.testing.assert_allclose(actions.min(axis=0), [-1.0, 0.0], atol=0.02)
    np.testing.assert_allclose(actions.max(axis=0), [1.0, 4.0], atol=0.02)


BOX = ((-1.0, 0.0), (1.0, 4.0))
OUTPUTS = [0.3, -0.5, -1.0, 0.5]
"""Of the head: two means, two log deviations before softplus."""


def test_real_numbers_are_drawn_in_the_box_and_say_their_log_density() -> None:
    actor = SampleBox(BOX, rng())
    actions = chosen(actor, OUTPUTS, explore=True)
    assert (actions.shape, actions.dtype) == ((COPIES, 2), np.float32)
    # The inverse of the way into the box has the mean and the deviation of the head.
    u = np.arctanh(
        np.stack([actions[:, 0], actions[:, 1] / 2.0 - 1.0], axis=1).clip(-0.9999, 0.9999)
    )
    deviations = np.log1p(np.exp(OUTPUTS[2:])) + 1e-3
    np.testing.assert_allclose(u.mean(axis=0), OUTPUTS[:2], atol=0.05)
    np.testing.assert_allclose(u.std(axis=0), deviations, rtol=0.05)
    outputs = np.tile(np.array(OUTPUTS, np.float32), (COPIES, 1))
    expected = tanh_normal.log_prob(outputs, Scale.of(BOX), actions)
    np.testing.assert_array_equal(actor.computed["log_prob"], expected)


def test_real_numbers_are_the_squeezed_mean_where_nobody_explores() -> None:
    middle = [np.tanh(0.3), 2.0 + 2.0 * np.tanh(-0.5)]
    actions = chosen(SampleBox(BOX, rng()), OUTPUTS, explore=False)
    np.testing.assert_allclose(actions, np.tile(middle, (COPIES, 1)), rtol=1e-6)
    always = make_actor("sample-always", 2, BOX, rng())
    assert chosen(always, OUTPUTS, explore=False).std(axis=0).min() > 0.1


def test_who_takes_the_best_of_a_list_takes_no_real_numbers() -> None:
    with pytest.raises(ValueError, match="real numbers"):
        make_actor("epsilon-greedy", 2, ((0.0, 0.0), (1.0, 1.0)), rng())


def test_the_dead_do_nothing() -> None:
    seen = observation(RULES, 1, alive=[copy % 2 == 0 for copy in range(COPIES)])
    actions = EpsilonGreedy(3, rng()).choose(
        np.tile(np.array([0, 0, 1], np.float32), (COPIES, 1)), seen, participation(seen), None
    )
    assert (actions[::2] == 2).all()
    assert (actions[1::2] == 0).all()
