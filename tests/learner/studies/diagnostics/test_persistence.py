"""Edges of two populations, matched and compared by hand."""

import numpy as np
import pytest

from learner.studies.diagnostics.persistence import (
    READINGS,
    Activation,
    jaccard,
    matched,
    pearson,
)
from learner.studies.diagnostics.realised import RealisedEpisode


def activation(offsets: tuple[int, ...], opened_NK: list[list[int]], steps: int = 10) -> Activation:
    opened = np.array(opened_NK)
    return Activation(offsets, opened, np.full_like(opened, steps), steps)


THREE = activation((1, 2), [[1, 2], [3, 4], [5, 6]])
FIVE = activation((1, 2, 4), [[1, 2, 9], [3, 4, 9], [5, 6, 9], [7, 7, 7], [8, 8, 8]])


def test_frequencies_are_of_all_steps_or_of_those_in_which_an_edge_could_be_used() -> None:
    open_TNK = np.array([[[True, False]], [[True, False]], [[False, False]], [[False, False]]])
    allowed_TNK = np.array([[[True, False]], [[True, False]], [[True, False]], [[False, False]]])
    alive_TN = np.ones((4, 1), dtype=np.bool_)
    one = RealisedEpisode(alive_TN, alive_TN, allowed_TNK, open_TNK)
    both = Activation.of([one, one], (1, 2))
    assert both.steps == 8
    np.testing.assert_allclose(both.frequency("steps"), [[0.5, 0.0]])
    np.testing.assert_allclose(both.frequency("chances"), [[2 / 3, np.nan]])


def test_by_sender_the_same_agent_speaks_as_far_to_its_right() -> None:
    x, y = matched(THREE, FIVE, "sender", "steps")
    np.testing.assert_allclose(x, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    np.testing.assert_allclose(y, x)


def test_by_pair_both_ends_are_the_same_and_missing_edges_are_zeros() -> None:
    x, y = matched(THREE, FIVE, "pair", "steps")
    # Pairs 01, 02, 10, 12, 20, 21. Among three agents the offset 2 leads from agent 1 to agent 0,
    # among five the offset 4 does, and nothing leads from agent 2 to agent 0.
    np.testing.assert_allclose(x, [0.1, 0.2, 0.4, 0.3, 0.5, 0.6])
    np.testing.assert_allclose(y, [0.1, 0.2, 0.9, 0.3, 0.0, 0.9])


def test_edges_that_could_never_be_used_are_left_out() -> None:
    never = Activation((1, 2), THREE.opened_NK, np.array([[0, 10]] * 3), 10)
    x, y = matched(never, FIVE, "sender", "chances")
    np.testing.assert_allclose(x, [0.2, 0.4, 0.6])
    np.testing.assert_allclose(y, [0.2, 0.4, 0.6])


def test_the_reading_that_stands_beside_the_paper_comes_first() -> None:
    assert READINGS[0] == ("sender", "steps")
    assert len(READINGS) == 4


def test_correlation_is_known_for_lines_and_unknown_for_constants() -> None:
    x = np.array([0.0, 1.0, 2.0])
    assert pearson(x, 3 * x + 1) == pytest.approx(1.0)
    assert pearson(x, -x) == pytest.approx(-1.0)
    assert np.isnan(pearson(x, np.ones(3)))


def test_overlap_is_of_the_most_frequent_edges() -> None:
    x = np.arange(20.0)
    y = x.copy()
    y[19], y[15] = 0.5, 30.0
    # Of the four most frequent 16 to 19, y has 16 to 18 and 15: three in both, five in either.
    assert jaccard(x, y, 0.2) == pytest.approx(3 / 5)
    assert jaccard(x, x, 0.05) == 1.0
    assert jaccard(x, -x, 0.1) == 0.0


def test_between_equal_frequencies_chance_decides_for_each_on_its_own() -> None:
    # Two drawn of 40 twice: an overlap of one edge, or two, is rare.
    assert jaccard(np.zeros(40), np.zeros(40), 0.05) < 0.3


def test_shuffled_edges_keep_their_numbers_and_lose_their_places() -> None:
    agents, offsets = 20, (1, 2, 4, 8, 16)
    counts_NK = np.arange(agents * len(offsets)).reshape(agents, -1)
    one = Activation(offsets, counts_NK, np.full_like(counts_NK, 200), 200)
    other = one.shuffled(np.random.default_rng(0))
    assert sorted(other.opened_NK.ravel()) == sorted(counts_NK.ravel())
    assert pearson(*matched(one, one, "sender", "steps")) == pytest.approx(1.0)
    assert abs(pearson(*matched(one, other, "sender", "steps"))) < 0.4
    # Where an edge is missing both have zeros, and these alone look alike.
    assert pearson(*matched(one, other, "pair", "steps")) > 0.4
