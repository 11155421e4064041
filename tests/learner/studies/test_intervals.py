"""Means and how sure they are."""

import numpy as np
import pytest

from learner.studies.intervals import Interval, over_scenarios, over_seeds, profiles, student


def test_the_quantile_is_students() -> None:
    # From a printed table of the distribution.
    for freedom, quantile in ((1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (10, 2.228)):
        assert student(freedom) == pytest.approx(quantile, abs=5e-4)
    assert student(30) == pytest.approx(2.042, abs=5e-4)
    assert student(10**6) == pytest.approx(1.95996, abs=1e-4), "the normal one"


def test_three_seeds_have_an_interval_of_two_degrees_of_freedom() -> None:
    found = over_seeds([0.5, 0.7, 0.9])
    assert found is not None
    half = 4.302653 * 0.2 / 3**0.5
    assert found.half == pytest.approx(half)
    assert (found.mean, found.low, found.number) == (
        *(pytest.approx(0.7), pytest.approx(0.7 - half), 3),
    )


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert over_seeds([0.3]) == Interval(0.3, None, None, 1)
    assert Interval(0.3).half is None
    assert over_seeds([]) is None


def test_an_interquartile_mean_leaves_out_the_extremes_of_all_scenarios() -> None:
    scores = {"a": np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 100.0]]), "b": np.full((3, 2), 0.5)}
    found = over_scenarios(scores)
    assert found["a"].mean == pytest.approx(1.0), "neither 0 nor 100 counts"
    assert found["b"] == Interval(0.5, 0.5, 0.5, 3), "seeds that agree leave no doubt"
    assert found["a"].low is not None
    assert found["a"].high is not None
    assert found["a"].low <= 1.0 < found["a"].high


def test_the_bootstrap_is_seeded_and_leaves_the_global_stream_alone() -> None:
    scores = {"a": np.array([[0.1, 0.7], [0.5, 0.2], [0.9, 0.4]])}
    state = np.random.get_state()  # noqa: NPY002
    assert over_scenarios(scores, seed=3) == over_scenarios(scores, seed=3)
    after = np.random.get_state()  # noqa: NPY002
    assert str(after) == str(state)


def test_seeds_are_drawn_within_their_scenario() -> None:
    # One scenario is far better than the other, and neither varies: an ordinary bootstrap over the
    # six numbers would.
    scores = {"a": np.array([[0.0, 10.0]] * 3)}
    found = over_scenarios(scores)["a"]
    assert (found.low, found.high) == (found.mean, found.mean)


def test_a_profile_is_the_share_of_runs_above_each_height() -> None:
    scores = {"a": np.array([[0.2, 0.6], [0.4, 0.8]]), "b": np.full((2, 2), 0.5)}
    found = profiles(scores, np.array([0.0, 0.3, 0.5, 0.7, 0.9]))
    share, low, high = found["a"]
    assert share.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert (low <= share).all()
    assert (share <= high).all()
    assert found["b"][0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
