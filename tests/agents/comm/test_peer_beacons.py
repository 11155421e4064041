import numpy as np
from numpy.testing import assert_array_equal

from agents.comm.peer_beacons import PeerBeacons
from runtime.net.ticks import MODULUS

PEERS, COPIES, BEACON = 3, 2, 2
ALL = np.ones(COPIES, dtype=np.bool_)
NONE = ~ALL
FIRST_COPY = np.array([True, False])


def begun(tick: int = 1, *, says_who: bool = False) -> PeerBeacons:
    ours = PeerBeacons(PEERS, COPIES, BEACON, says_who=says_who)
    ours.advance(tick, ALL)
    return ours


def rows(steps: int, count: int = COPIES) -> np.ndarray:
    return np.full((count, BEACON), steps, dtype=np.int8)


def known(ours: PeerBeacons, peer: int = 0) -> list[int]:
    """By copy, what is known of a peer, in steps of 1/127."""
    return np.rint(ours.values[:, peer, 0] * 127.0).astype(int).tolist()


def test_nothing_is_known_before_the_first_episode_and_zeros_at_its_beginning() -> None:
    ours = PeerBeacons(PEERS, COPIES, BEACON)
    assert not ours.known.any()
    ours.advance(5, FIRST_COPY)
    assert_array_equal(ours.known, [[True] * PEERS, [False] * PEERS])
    assert not ours.all_known


def test_a_packet_counts_from_the_step_that_may_use_it() -> None:
    ours = begun()
    assert ours.put(0, 1, ALL, rows(10))
    assert ours.put(0, 2, ALL, rows(20))
    assert (ours.arrived(1), ours.arrived(2)) == (0b001, 0b001)
    assert known(ours) == [0, 0]
    ours.settle(1)
    assert known(ours) == [10, 10]
    ours.settle(2)
    assert known(ours) == [20, 20]


def test_copies_without_news_stay_as_they_were() -> None:
    ours = begun()
    ours.put(0, 1, ALL, rows(10))
    ours.put(0, 2, FIRST_COPY, rows(20, 1))
    ours.settle(2)
    assert known(ours) == [20, 10]
    assert known(ours, peer=1) == [0, 0]


def test_a_packet_that_was_overtaken_does_not_undo_the_newer_one() -> None:
    ours = begun()
    assert ours.put(0, 2, FIRST_COPY, rows(20, 1))
    assert ours.put(0, 1, ALL, rows(10))
    ours.settle(2)
    assert known(ours) == [20, 10]
    assert not ours.put(0, 1, ALL, rows(30))
    assert not ours.put(0, 2, ALL, rows(30))


def test_the_first_of_two_packets_of_one_tick_stays() -> None:
    ours = begun()
    assert ours.put(0, 1, ALL, rows(10))
    assert not ours.put(0, 1, ALL, rows(20))


def test_a_packet_of_the_episode_before_changes_nothing() -> None:
    ours = begun()
    ours.put(0, 6, ALL, rows(10))
    ours.advance(7, FIRST_COPY)
    ours.settle(6)
    assert known(ours) == [0, 10]


def test_what_is_lost_leaves_what_was_known_and_is_counted() -> None:
    ours, lost_EK = begun(), np.zeros((COPIES, PEERS), dtype=np.bool_)
    ours.put(0, 1, ALL, rows(10))
    assert ours.settle(1, lost_EK) == 0
    lost_EK[0, 0] = True
    ours.put(0, 2, ALL, rows(20))
    assert ours.settle(2, lost_EK) == 1
    assert known(ours) == [10, 20]
    assert_array_equal(ours.heard_since(2)[:, 0], [False, True])


def test_freshness_is_told_where_numbers_wrap() -> None:
    ours = begun(MODULUS - 2)
    ours.put(0, MODULUS - 1, ALL, rows(10))
    ours.settle(MODULUS - 1)
    assert ours.heard_since(MODULUS - 1)[0].tolist() == [True, False, False]
    assert not ours.heard_since(0).any()
    assert ours.put(0, 0, ALL, rows(20))
    ours.settle(0)
    assert ours.heard_since(0)[0, 0]


def test_who_is_not_listed_has_gone_where_a_packet_speaks_for_all_copies() -> None:
    for says_who in (True, False):
        ours = begun(says_who=says_who)
        ours.put(0, 1, ALL, rows(10))
        ours.put(0, 2, FIRST_COPY, rows(10, 1))
        ours.settle(2)
        assert ours.heard_since(1)[:, 0].tolist() == [True, not says_who]
        ours.put(0, 3, NONE, rows(0, 0))
        ours.settle(3)
        assert ours.heard_since(1)[:, 0].tolist() == [not says_who] * 2


def test_a_peer_whose_clock_was_ahead_is_believed_again() -> None:
    ours = begun(100)
    assert ours.put(0, 1_000, ALL, rows(10))
    assert ours.put(0, 100, ALL, rows(20))
    ours.settle(100)
    assert known(ours) == [20, 20]


def test_numbers_that_begin_anew_leave_nothing_behind() -> None:
    ours = begun(100)
    ours.put(0, 100, ALL, rows(10))
    ours.settle(100)
    ours.renumber()
    assert not ours.known.any()
    assert not ours.heard_since(100).any()
    assert ours.put(0, 3, ALL, rows(20))


def test_a_neighbour_cannot_fill_our_memory() -> None:
    ours = begun()
    accepted = [ours.put(0, tick, ALL, rows(1)) for tick in range(1, 5_000)]
    assert 0 < sum(accepted) < 2_000
