"""Means and how sure they are."""

import numpy as np
import pytest
from scipy import stats

from learner.studies.intervals import Interval, over_scenarios, over_seeds, student


def test_the_quantile_is_students() -> None:
    for freedom in (1, 2, 3, 9, 10, 11, 30, 200):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-5)


def test_three_seeds_have_the_interval_that_scipy_computes() -> None:
    values = [0.5, 0.7, 0.9]
    found = over_seeds(values)
    assert found is not None
    scale: float = stats.sem(values)  # type: ignore[reportUnknownMemberType]  # scipy has no types
    limits = stats.t.interval(0.95, 2, loc=0.7, scale=scale)
    np.testing.assert_allclose([found.low, found.high], limits, atol=1e-5)
    assert (found.mean, found.number) == (pytest.approx(0.7), 3)
    assert found.half == pytest.approx(4.302653 * 0.2 / 3**0.5)


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


def test_seeds_are_drawn_within_their_scenario() -> None:
    # One scenario is far better than the other, and neither varies: an ordinary bootstrap over the
    # six numbers would.
    scores = {"a": np.array([[0.0, 10.0]] * 3)}
    found = over_scenarios(scores)["a"]
    assert (found.low, found.high) == (found.mean, found.mean)
