"""Scores for performance profiles."""

import numpy as np
from numpy.testing import assert_allclose

from learner.studies.diagnostics.profiles import normalised_scores

SCORES = {
    "a": {"x": {0: 10.0, 1: 30.0}, "y": {0: 1.0, 1: 2.0}},
    "b": {"x": {0: 20.0, 1: 50.0}, "y": {0: 0.0, 1: 4.0}},
}


def test_a_task_is_normalised_by_the_lowest_and_highest_of_its_runs() -> None:
    found = normalised_scores(SCORES, {})
    assert_allclose(found["a"], [[0.0, 0.25], [0.5, 0.5]])
    assert_allclose(found["b"], [[0.25, 0.0], [1.0, 1.0]])


def test_bounds_that_are_given_count() -> None:
    found = normalised_scores(SCORES, {"y": (0.0, 8.0)})
    assert_allclose(found["b"], [[0.25, 0.0], [1.0, 0.5]])


def test_an_arm_that_lacks_a_task_and_a_seed_that_lacks_one_are_left_out() -> None:
    scores = {**SCORES, "c": {"x": {0: 1.0}}, "d": {"x": {0: 1.0, 1: 2.0}, "y": {1: 3.0}}}
    found = normalised_scores(scores, {})
    assert set(found) == {"a", "b", "d"}
    assert found["d"].shape == (1, 2)


def test_runs_that_all_reach_the_same_reach_all_of_it() -> None:
    found = normalised_scores({"a": {"x": {0: 3.0, 1: 3.0}}}, {})
    assert (found["a"] == np.ones((2, 1))).all()
