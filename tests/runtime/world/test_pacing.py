"""How long the world sleeps while agents answer: runtime/world/pacing.py."""

import pytest

from runtime.world.pacing import Nap

N = 100


def settled(took_s: float) -> Nap:
    """After ticks that took as long each."""
    nap = Nap(N)
    for _ in range(20):
        nap.all_answered(took_s)
    return nap


def test_it_sleeps_for_half_of_what_those_who_are_missing_will_take() -> None:
    nap = settled(0.1)
    assert nap.length_s(N) == pytest.approx(0.05)
    assert nap.length_s(N // 2) == pytest.approx(0.025)


@pytest.mark.parametrize(("took_s", "missing"), [(0.1, 3), (0.1, 0), (0.003, N)])
def test_it_does_not_sleep_for_what_is_nearly_over(took_s: float, missing: int) -> None:
    assert settled(took_s).length_s(missing) == 0.0


def test_it_does_not_sleep_before_it_knows_how_long_a_tick_takes() -> None:
    assert Nap(N).length_s(N) == 0.0


def test_one_tick_that_took_long_does_not_make_a_long_nap() -> None:
    nap = settled(0.1)
    nap.all_answered(60.0)
    assert nap.length_s(N) < 0.11
    nap.all_answered(0.1)
    assert nap.length_s(N) == pytest.approx(0.05)


def test_agents_that_have_become_faster_are_slept_through_once() -> None:
    nap = settled(0.1)
    nap.all_answered(0.05)  # as long as the nap, for it was over by then
    assert nap.length_s(N) == pytest.approx(0.025)
