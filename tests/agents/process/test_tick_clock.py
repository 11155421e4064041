import pytest

from agents.process.tick_clock import TickClock
from runtime.net.ticks import MODULUS

START = 1_700_000_000.0


def numbers(clock: TickClock, *readings_s: float) -> list[tuple[int, int] | None]:
    """Number (since the start) and ticks missed, by reading."""
    ticks = [clock.take(START + reading_s) for reading_s in readings_s]
    return [tick and ((tick.number - int(START * 10)) % MODULUS, tick.missed) for tick in ticks]


def test_ticks_come_at_multiples_of_the_period_and_once() -> None:
    clock = TickClock(10.0, START + 0.02)
    readings = (0.05, 0.1, 0.15, 0.21, 0.3)
    assert numbers(clock, *readings) == [None, (1, 0), None, (2, 0), (3, 0)]


def test_ticks_that_went_by_are_counted_and_not_made_up_for() -> None:
    clock = TickClock(10.0, START)
    assert numbers(clock, 0.1, 0.75, 0.8) == [(1, 0), (7, 5), (8, 0)]


def test_the_number_of_a_moment_is_the_same_for_all_who_count() -> None:
    early, late = TickClock(10.0, START), TickClock(10.0, START + 0.55)
    assert numbers(early, 0.61) == [(6, 5)]
    assert numbers(late, 0.64) == [(6, 0)]


@pytest.mark.parametrize(("reading_s", "left_s"), [(0.02, 0.08), (0.1, 0.0), (0.35, 0.0)])
def test_it_says_how_long_to_wait(reading_s: float, left_s: float) -> None:
    clock = TickClock(10.0, START)
    assert clock.seconds_left(START + reading_s) == pytest.approx(left_s, abs=1e-6)


def test_a_clock_that_is_slewed_back_ticks_on_when_it_has_caught_up() -> None:
    clock = TickClock(10.0, START)
    assert numbers(clock, 0.5, 0.2, 0.4, 0.6) == [(5, 4), None, None, (6, 0)]


def test_a_clock_that_is_put_back_counts_anew() -> None:
    clock = TickClock(10.0, START)
    clock.take(START + 5000.0)
    tick = clock.take(START + 10.0)
    assert tick is not None
    assert (tick.was_put_back, tick.missed) == (True, 0)
    assert numbers(clock, 10.1) == [(101, 0)]


def test_numbers_wrap_as_on_the_wire() -> None:
    tick = TickClock(1000.0, START).take(START + 0.001)
    assert tick is not None
    assert tick.number == (1_700_000_000_001) % MODULUS
