"""Area under a learning curve."""

import pytest

from learner.studies.auc import area_under_curve


def test_a_constant_curve_has_its_own_height() -> None:
    assert area_under_curve([0, 10, 500], [0.4, 0.4, 0.4]) == pytest.approx(0.4)


def test_steps_count_by_their_distance() -> None:
    # 10 steps at a mean of 0.5, 20 steps at 1.
    assert area_under_curve([0, 10, 30], [0.0, 1.0, 1.0]) == pytest.approx(25 / 30)
    assert area_under_curve([100, 110, 130], [0.0, 1.0, 1.0]) == pytest.approx(25 / 30)


def test_who_learns_earlier_has_more_of_it() -> None:
    early = area_under_curve([0, 1, 2, 3], [0.0, 1.0, 1.0, 1.0])
    late = area_under_curve([0, 1, 2, 3], [0.0, 0.0, 0.0, 1.0])
    assert early == pytest.approx(2.5 / 3)
    assert late == pytest.approx(0.5 / 3)


def test_one_point_has_no_area() -> None:
    assert area_under_curve([], []) is None
    assert area_under_curve([5], [1.0]) is None
    assert area_under_curve([5, 5], [1.0, 2.0]) is None


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="2 steps for 1 figures"):
        area_under_curve([0, 1], [1.0])
    with pytest.raises(ValueError, match="ascending"):
        area_under_curve([0, 2, 1], [1.0, 1.0, 1.0])
