"""What a step may use if nobody waits: by peer and copy the newest packet that is young enough."""

import numpy as np
import pytest

from agents.comm.freshest import Freshest
from runtime.net.ticks import MODULUS

PEERS, COPIES, VECTOR = 3, 2, 2
ALL = np.ones(COPIES, dtype=np.bool_)
NONE = np.zeros(COPIES, dtype=np.bool_)
FIRST_COPY = np.array([True, False])


def freshest(max_age: int) -> Freshest:
    return Freshest(PEERS, COPIES, VECTOR, max_age)


def rows(value: float, count: int = COPIES) -> np.ndarray:
    return np.full((count, VECTOR), value, dtype=np.float32)


def heard(inbox: Freshest, tick: int, peer: int = 0) -> list[float | None]:
    """By copy, the numbers of the peer that a step after `tick` uses."""
    present_E = inbox.present(tick)[peer]
    vectors_EV = inbox.vectors(tick)[peer]
    return [float(vectors_EV[e, 0]) if present_E[e] else None for e in range(COPIES)]


def test_nothing_is_there_at_first() -> None:
    for tick in (0, 7, MODULUS - 1):
        assert not freshest(3).present(tick).any()
        assert freshest(3).arrived(tick) == 0


def test_the_newest_packet_is_used_whatever_the_order_of_arrival() -> None:
    ours = freshest(3)
    assert ours.put(0, 5, ALL, rows(5.0))
    assert ours.put(0, 4, ALL, rows(4.0))
    assert heard(ours, 5) == [5.0, 5.0]
    assert heard(ours, 4) == [4.0, 4.0]


def test_a_packet_is_used_until_it_is_too_old() -> None:
    ours = freshest(3)
    ours.put(0, 5, ALL, rows(5.0))
    assert [heard(ours, tick)[0] for tick in (4, 5, 6, 7, 8)] == [None, 5.0, 5.0, 5.0, None]


def test_with_an_age_of_one_only_the_step_before_counts() -> None:
    ours = freshest(1)
    ours.put(0, 5, ALL, rows(5.0))
    assert [heard(ours, tick)[0] for tick in (4, 5, 6)] == [None, 5.0, None]


@pytest.mark.parametrize("max_age", [1, 2, 3, 6])
def test_a_peer_that_is_a_tick_ahead_does_not_displace_what_a_step_needs(max_age: int) -> None:
    ours = freshest(max_age)
    oldest = 20 - max_age + 1
    for tick in range(1, 22):  # 20 is the step's own age, 21 comes from a peer that is ahead
        ours.put(0, tick, ALL, rows(tick))
    assert heard(ours, 20) == [20.0, 20.0]
    assert heard(ours, oldest) == [oldest, oldest]


def test_every_copy_has_the_newest_packet_that_speaks_of_it() -> None:
    ours = freshest(2)
    ours.put(0, 4, ALL, rows(4.0))
    ours.put(0, 5, FIRST_COPY, rows(5.0, 1))
    assert heard(ours, 5) == [5.0, 4.0]


def test_peers_do_not_mix() -> None:
    ours = freshest(2)
    ours.put(0, 4, ALL, rows(4.0))
    ours.put(2, 5, ALL, rows(5.0))
    assert (heard(ours, 5, 0), heard(ours, 5, 1), heard(ours, 5, 2)) == (
        [4.0, 4.0],
        [None, None],
        [5.0, 5.0],
    )
    assert ours.arrived(5) == 0b100


def test_an_episode_hears_nothing_of_the_one_before() -> None:
    ours = freshest(3)
    ours.put(0, 5, ALL, rows(5.0))
    ours.advance(6, FIRST_COPY)
    assert heard(ours, 5) == [None, 5.0]
    ours.put(1, 5, ALL, rows(5.0))  # it comes late, and is no more welcome for that
    assert heard(ours, 5, 1) == [None, 5.0]
    ours.put(0, 6, ALL, rows(6.0))
    ours.advance(7, NONE)
    assert heard(ours, 6) == [6.0, 6.0]


def test_an_episode_that_outlasts_half_the_numbers_goes_on_hearing() -> None:
    ours = freshest(1)
    ours.advance(10, ALL)
    for tick in (11, 12, 13, 10 + MODULUS // 2 + 100):
        ours.advance(tick, NONE)
    ours.put(0, tick, ALL, rows(1.0))
    assert heard(ours, tick) == [1.0, 1.0]


def test_equal_or_older_packets_in_the_same_place_are_stale() -> None:
    ours = freshest(1)
    assert ours.put(0, 5, ALL, rows(1.0))
    assert not ours.put(0, 5, ALL, rows(2.0))
    assert not ours.put(0, 1, ALL, rows(3.0))
    assert heard(ours, 5) == [1.0, 1.0]


def test_numbers_may_wrap() -> None:
    ours = freshest(3)
    ours.advance(MODULUS - 1, NONE)
    assert ours.put(0, MODULUS - 1, ALL, rows(1.0))
    ours.advance(0, NONE)
    assert heard(ours, 0) == [1.0, 1.0]
    assert ours.put(0, 0, ALL, rows(2.0))
    assert heard(ours, 0) == [2.0, 2.0]
    assert [heard(ours, tick)[0] for tick in (1, 2, 3)] == [2.0, 2.0, None]


def test_a_peer_that_once_sent_from_the_future_is_heard_again() -> None:
    ours = freshest(1)
    ours.put(0, 4000, ALL, rows(9.0))  # before we know what time it is
    for tick in range(5, 12):
        ours.advance(tick, NONE)
        assert ours.put(0, tick, ALL, rows(tick)), "every place of the ring must be free for it"
        assert heard(ours, tick) == [tick, tick]


def test_after_a_renumbering_nothing_is_left() -> None:
    ours = freshest(2)
    ours.advance(5, ALL)
    ours.put(0, 5, ALL, rows(5.0))
    ours.renumber()
    assert not ours.present(5).any()
    assert ours.put(0, 1, ALL, rows(1.0))
    assert heard(ours, 1) == [1.0, 1.0]
