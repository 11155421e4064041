"""When agents are told of other hosts' clocks; tests/process/test_figures.py has them speak."""

from runtime.host.clock import ClockFilter
from runtime.host.host_clocks import have_moved
from runtime.net.wire import UNKNOWN_OFFSET

S = 1_000_000_000
MS = 1_000_000


def test_a_clock_that_has_become_known_is_news() -> None:
    assert have_moved((0, 17), (0, UNKNOWN_OFFSET))
    assert have_moved((0, -(10**14)), (0, UNKNOWN_OFFSET))


def test_an_offset_is_news_again_when_it_has_moved_by_more_than_a_microsecond() -> None:
    assert not have_moved((0, 5_000, -7_000), (0, 6_000, -6_000))
    assert have_moved((0, 5_000, -7_000), (0, 6_001, -7_000))
    assert have_moved((0, 5_000, -7_001), (0, 5_000, -6_000))


def test_growing_old_is_no_news() -> None:
    clock = ClockFilter()
    first_ns, second_ns = 50 * S, 51 * S + 12_345
    # Quick there, then quick back: each limit is another sample's.
    assert clock.add(first_ns, first_ns + MS, first_ns + MS, first_ns + 41 * MS)
    assert clock.add(second_ns, second_ns + 50 * MS, second_ns + 50 * MS, second_ns + 53 * MS + 1)
    told = clock.estimate(52 * S)
    assert told is not None
    jumps = 0
    for now_ns in range(52 * S, 60 * S, 7_777_777):
        estimate = clock.estimate(now_ns)
        assert estimate is not None
        jumps += estimate.offset_ns != told.offset_ns
        assert not have_moved((0, estimate.offset_ns), (0, told.offset_ns))
    assert jumps > 0, "it does jump by a nanosecond"
