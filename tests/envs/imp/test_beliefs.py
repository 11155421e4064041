"""Belief updates, against Bayes' rule written out for one component after the other."""

import numpy as np
import pytest

from configs.arrays import IntArray
from envs.imp.actions import INSPECT, NOTHING, REPAIR
from envs.imp.beliefs import Beliefs, IndependentBeliefs
from envs.imp.correlated_beliefs import CorrelatedBeliefs
from envs.imp.deterioration import Correlation, Deterioration, RealArray, shipped

FINDS, MISSES = 0.0, 1.0 - 1e-12
"""Chances with which an inspection finds damage, and does not."""


def tiny() -> Deterioration:
    """Two bins, two rates, two values of the factor."""
    return Deterioration(
        initial_LF=np.array([[0.9, 0.1]]),
        transition_LRFF=np.array([[[[0.8, 0.2], [0.0, 1.0]], [[0.5, 0.5], [0.0, 1.0]]]]),
        detection_LF=np.array([[0.25, 0.75]]),
        correlation=Correlation(
            prior_C=np.array([0.5, 0.5]),
            initial_CF=np.array([[0.98, 0.02], [0.82, 0.18]]),
            repaired_CF=np.array([[1.0, 0.0], [0.9, 0.1]]),
        ),
    )


def one_by_one(model: Deterioration, steps: list[tuple[list[int], list[float]]]) -> RealArray:
    """[N, F] beliefs of the correlated system after these steps, in plain loops."""
    of = model.correlation
    assert of is not None
    num_components = len(steps[0][0])
    factor_C = of.prior_C.copy()
    given = [of.initial_CF.copy() for _ in range(num_components)]
    rates = [0] * num_components
    for actions, uniforms in steps:
        learnt_C = factor_C.copy()
        for i, action in enumerate(actions):
            given[i] = given[i] @ model.transition_LRFF[0, rates[i]]
            rates[i] += 1
            if action == REPAIR:
                given[i], rates[i] = of.repaired_CF.copy(), 0
            elif action == INSPECT:
                chance = float(factor_C @ given[i] @ model.detection_LF[0])
                detection = model.detection_LF[0]
                likelihood = detection if uniforms[i] < chance else 1.0 - detection
                joint = given[i] * likelihood
                learnt_C = learnt_C * joint.sum(1) / (learnt_C * joint.sum(1)).sum()
                given[i] = joint / joint.sum(1, keepdims=True)
        factor_C = learnt_C
    return np.stack([factor_C @ each for each in given])


def step(beliefs: Beliefs, actions: list[int], uniforms: list[float]) -> RealArray:
    return beliefs.step(np.array([actions]), np.array([uniforms])).after_EN[0]


def test_without_inspections_damage_only_grows_by_its_transition() -> None:
    beliefs = IndependentBeliefs(tiny(), np.array([0]))
    assert step(beliefs, [NOTHING], [FINDS]) == pytest.approx([0.9 * 0.2 + 0.1])
    np.testing.assert_allclose(beliefs.belief_ENF[0, 0], [0.72, 0.28])
    assert beliefs.rate_EN.tolist() == [[1]]


def test_an_inspection_weighs_damage_by_its_chance_of_being_found() -> None:
    found, missed = (IndependentBeliefs(tiny(), np.array([0])) for _ in range(2))
    # Failure is counted before what is seen, as in IMP-MARL.
    assert step(found, [INSPECT], [FINDS]) == pytest.approx([0.28])
    assert step(missed, [INSPECT], [MISSES]) == pytest.approx([0.28])
    seen = 0.72 * 0.25 + 0.28 * 0.75
    np.testing.assert_allclose(found.belief_ENF[0, 0], [0.72 * 0.25 / seen, 0.28 * 0.75 / seen])
    np.testing.assert_allclose(
        missed.belief_ENF[0, 0], [0.72 * 0.75 / (1 - seen), 0.28 * 0.25 / (1 - seen)]
    )


def test_a_repair_makes_new_and_the_rate_begins_at_zero() -> None:
    beliefs = IndependentBeliefs(tiny(), np.array([0, 0]))
    step(beliefs, [NOTHING, NOTHING], [FINDS, FINDS])
    after = step(beliefs, [REPAIR, NOTHING], [FINDS, FINDS])
    assert after == pytest.approx([0.1, 0.28 + 0.72 * 0.5])
    np.testing.assert_allclose(beliefs.belief_ENF[0, 0], [0.9, 0.1])
    assert beliefs.rate_EN.tolist() == [[0, 2]]


def test_damage_that_is_hardly_possible_is_never_found() -> None:
    model = tiny()
    blind = Deterioration(model.initial_LF, model.transition_LRFF, np.array([[0.0, 1e-6]]))
    beliefs = IndependentBeliefs(blind, np.array([0]))
    assert not beliefs.step(np.array([[INSPECT]]), np.array([[FINDS]])).found_EN.any()


def test_levels_have_transitions_of_their_own() -> None:
    farm = shipped("owf")
    beliefs = IndependentBeliefs(farm, np.array([0, 1, 2]))
    step(beliefs, [NOTHING] * 3, [FINDS] * 3)
    after = step(beliefs, [NOTHING] * 3, [FINDS] * 3)
    by_hand = [
        (farm.initial_LF[level] @ farm.transition_LRFF[level, 0] @ farm.transition_LRFF[level, 1])[
            -1
        ]
        for level in range(3)
    ]
    np.testing.assert_allclose(after, by_hand)


@pytest.mark.parametrize("model", [tiny(), shipped("correlated")], ids=["tiny", "shipped"])
def test_correlated_beliefs_are_those_of_plain_loops(model: Deterioration) -> None:
    rng = np.random.default_rng(3)
    steps = [
        (rng.integers(3, size=4).tolist(), rng.random(4).tolist()) for _ in range(model.num_rates)
    ]
    beliefs = CorrelatedBeliefs(model, 4)
    for actions, uniforms in steps:
        step(beliefs, actions, uniforms)
    np.testing.assert_allclose(beliefs.belief_ENF[0], one_by_one(model, steps), atol=1e-12)


def test_an_inspection_changes_what_is_known_of_the_others_by_hand() -> None:
    beliefs = CorrelatedBeliefs(tiny(), 2)
    step(beliefs, [INSPECT, NOTHING], [FINDS, FINDS])
    # Given the factor, damage is .216 or .344 after a step, so damage is found with .25 + .5 of it.
    likelihood = np.array([0.25 + 0.5 * 0.216, 0.25 + 0.5 * 0.344])
    factor = likelihood / likelihood.sum()
    np.testing.assert_allclose(beliefs.factor_EC[0], factor)
    assert beliefs.belief_ENF[0, 1, 1] == pytest.approx(factor @ [0.216, 0.344])


def test_episodes_that_are_played_at_once_do_not_mix() -> None:
    rng = np.random.default_rng(5)
    actions_TEN: IntArray = rng.integers(3, size=(6, 3, 5))
    uniforms_TEN = rng.random((6, 3, 5))
    together = CorrelatedBeliefs(shipped("correlated"), 5)
    together.begin(3)
    for actions_EN, uniforms_EN in zip(actions_TEN, uniforms_TEN, strict=True):
        together.step(actions_EN, uniforms_EN)
    for episode in range(3):
        alone = CorrelatedBeliefs(shipped("correlated"), 5)
        for step_ in range(6):
            alone.step(
                actions_TEN[step_, episode : episode + 1],
                uniforms_TEN[step_, episode : episode + 1],
            )
        np.testing.assert_allclose(alone.belief_ENF[0], together.belief_ENF[episode], atol=1e-12)
