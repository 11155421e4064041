import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.comm.inbox import Inbox

PEERS, COPIES, VECTOR = 3, 4, 2
ALL = np.ones(COPIES, dtype=np.bool_)
SOME = np.array([True, False, True, False])


def inbox() -> Inbox:
    return Inbox(PEERS, COPIES, VECTOR)


def rows(value: float, count: int = COPIES) -> np.ndarray:
    return np.full((count, VECTOR), value, dtype=np.float32)


def test_an_empty_inbox_has_nothing_of_any_tick() -> None:
    for tick in (0, 1, 7):
        assert inbox().arrived(tick) == 0
        assert not inbox().present(tick).any()


def test_bit_k_says_that_the_packet_of_peer_k_is_here() -> None:
    ours = inbox()
    assert ours.put(2, 5, ALL, rows(1.0))
    assert ours.arrived(5) == 0b100
    assert ours.put(0, 5, ALL, rows(1.0))
    assert ours.arrived(5) == 0b101


def test_vectors_land_in_the_copies_they_belong_to() -> None:
    ours = inbox()
    sent = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    ours.put(1, 5, SOME, sent)
    assert_array_equal(ours.present(5)[1], SOME)
    assert_array_equal(ours.vectors(5)[1, SOME], sent)


def test_a_packet_without_rows_has_arrived_and_is_present_nowhere() -> None:
    ours = inbox()
    ours.put(1, 5, ~ALL, rows(0.0, 0))
    assert ours.arrived(5) == 0b010
    assert not ours.present(5).any()


def test_neighbouring_ticks_are_kept_apart() -> None:
    ours = inbox()
    ours.put(0, 5, ALL, rows(5.0))
    ours.put(0, 6, SOME, rows(6.0, 2))
    assert (ours.arrived(5), ours.arrived(6)) == (1, 1)
    assert_array_equal(ours.vectors(5)[0], rows(5.0))
    assert_array_equal(ours.vectors(6)[0, SOME], rows(6.0, 2))
    assert_array_equal(ours.present(6)[0], SOME)


def test_a_newer_tick_takes_the_slot_of_the_one_before_the_last() -> None:
    ours = inbox()
    ours.put(0, 5, ALL, rows(5.0))
    ours.put(0, 7, SOME, rows(7.0, 2))
    assert (ours.arrived(5), ours.arrived(7)) == (0, 1)
    assert not ours.present(5).any()
    assert_array_equal(ours.present(7)[0], SOME)


def test_an_old_packet_does_not_replace_a_newer_one() -> None:
    # Peers run at their own pace: an old message may overtake a newer one.
    ours = inbox()
    ours.put(0, 7, ALL, rows(7.0))
    assert not ours.put(0, 5, ALL, rows(5.0))
    assert_array_equal(ours.vectors(7)[0], rows(7.0))
    assert ours.arrived(7) == 1


def test_the_first_of_two_packets_of_one_tick_stays() -> None:
    ours = inbox()
    ours.put(0, 5, SOME, rows(1.0, 2))
    assert not ours.put(0, 5, ALL, rows(2.0))
    assert_array_equal(ours.present(5)[0], SOME)
    assert_array_equal(ours.vectors(5)[0, SOME], rows(1.0, 2))


@pytest.mark.parametrize("tick", [0, 1])
def test_the_first_ticks_of_all_are_kept(tick: int) -> None:
    ours = inbox()
    assert ours.put(0, tick, ALL, rows(1.0))
    assert ours.arrived(tick) == 1


def test_one_peer_does_not_touch_another() -> None:
    ours = inbox()
    ours.put(0, 5, ALL, rows(1.0))
    ours.put(1, 7, ALL, rows(2.0))
    assert (ours.arrived(5), ours.arrived(7)) == (0b01, 0b10)
    assert_array_equal(ours.vectors(5)[0], rows(1.0))
    assert_array_equal(ours.present(5), np.array([ALL, ~ALL, ~ALL]))
