import pytest

from runtime.terminal.time_left import Pace, TimeLeft


def test_a_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(200):
        pace.update(float(second), 100.0 * min(second, 100))
    assert 0.0 < pace.per_s < 100.0 * 0.05
    for second in range(200, 400):
        pace.update(float(second), 10_000.0 + 7.0 * second)
    assert pace.per_s == pytest.approx(7.0, rel=0.05)


def test_a_pace_is_right_from_its_second_reading_on() -> None:
    pace = Pace()
    assert pace.per_s == 0.0
    pace.update(5.0, 1000.0)
    assert pace.per_s == 0.0
    pace.update(7.0, 1020.0)
    assert pace.per_s == pytest.approx(10.0)


def test_a_counter_that_begins_anew_is_no_negative_pace() -> None:
    pace = Pace()
    for second, done in enumerate((100.0, 200.0, 0.0, 100.0)):
        pace.update(float(second), done)
    assert pace.per_s == pytest.approx(100.0, rel=0.05)


def test_nobody_can_tell_while_nothing_moves() -> None:
    left = TimeLeft(1000)
    for second in range(3):
        left.update(float(second), 100, 0, 0)
    assert left.estimate().total_s is None


def test_a_learner_that_owes_and_does_nothing_has_no_end() -> None:
    left = TimeLeft(1000)
    for second in range(10):
        left.update(float(second), 100 + second, 0, 5)
    estimate = left.estimate()
    assert estimate.steps_s == pytest.approx(891.0)
    assert (estimate.updates, estimate.updates_s, estimate.total_s) == (5, None, None)


def test_a_run_without_a_learner_takes_as_long_as_its_steps() -> None:
    left = TimeLeft(1000)
    for second in range(10):
        left.update(float(second), 10 * second, 0, 0)
    assert left.estimate().total_s == pytest.approx(91.0)
