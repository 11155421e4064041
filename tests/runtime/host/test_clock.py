import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.host.clock import (
    DRIFT_PPM,
    FAST_PERIOD_NS,
    FAST_PROBES,
    MOST_OUTSTANDING,
    PERIOD_NS,
    SAME_HOST,
    TIMEOUT_NS,
    WINDOW,
    WINDOW_NS,
    ClockEstimate,
    ClockFilter,
    HostClock,
    ProbeSchedule,
)
from runtime.net import wire
from runtime.net.wire import ClockProbe, ClockReply

MS = 1_000_000
S = 1_000_000_000
START_NS = 50 * S
"""Our clock when a test begins."""


@dataclass
class Peer:
    """Another host: its clock, and the way there and back.

    Its clock shows `now - offset` at START_NS and then runs `drift_ppm` slower than ours.
    """

    offset_ns: int = 0
    drift_ppm: float = 0.0

    def offset_at(self, now_ns: int) -> float:
        return self.offset_ns + (now_ns - START_NS) * self.drift_ppm * 1e-6

    def reads(self, now_ns: int) -> int:
        return round(now_ns - self.offset_at(now_ns))

    def exchange(
        self, clock: ClockFilter, now_ns: int, there_ns: int, back_ns: int, hold_ns: int = 0
    ) -> int:
        """One probe that leaves now and is heard; our clock then."""
        arrives_ns = now_ns + there_ns
        leaves_ns = arrives_ns + hold_ns
        returned_ns = leaves_ns + back_ns
        assert clock.add(now_ns, self.reads(arrives_ns), self.reads(leaves_ns), returned_ns)
        return returned_ns


def known(clock: ClockFilter, now_ns: int) -> ClockEstimate:
    estimate = clock.estimate(now_ns)
    assert estimate is not None
    return estimate


def rounded(estimate: ClockEstimate) -> int:
    """Error plus what rounding readings to nanoseconds may add."""
    return estimate.error_ns + 2


delays = st.integers(0, 2 * S)
offsets = st.integers(-40 * S, 10**6 * S).map(lambda offset: -offset)


def test_nothing_is_known_before_the_first_sample() -> None:
    assert ClockFilter().estimate(START_NS) is None


def test_the_worked_example() -> None:
    # Their clock is 1000 ms ahead; 3 ms there, held for 2 ms, 5 ms back.
    clock = ClockFilter(drift_ppm=0.0)
    assert clock.add(10_000 * MS, 11_003 * MS, 11_005 * MS, 10_010 * MS)
    assert clock.estimate(10_010 * MS) == ClockEstimate(
        offset_ns=-999 * MS,  # -1000 ms is 1 ms away
        error_ns=4 * MS,
        round_trip_ns=8 * MS,
        round_trip_median_ns=8 * MS,
    )


@given(
    offset_ns=offsets,
    drift_ppm=st.floats(-DRIFT_PPM, DRIFT_PPM),
    exchanges=st.lists(
        st.tuples(delays, delays, st.integers(0, S), st.integers(0, 5 * S)), min_size=1, max_size=20
    ),
    later_ns=st.integers(0, 10 * S),
)
def test_the_true_offset_is_always_within_the_bound(
    offset_ns: int,
    drift_ppm: float,
    exchanges: list[tuple[int, int, int, int]],
    later_ns: int,
) -> None:
    peer, clock, now_ns = Peer(offset_ns, drift_ppm), ClockFilter(), START_NS
    for there_ns, back_ns, hold_ns, pause_ns in exchanges:
        now_ns = peer.exchange(clock, now_ns, there_ns, back_ns, hold_ns)
        estimate = known(clock, now_ns)
        assert abs(estimate.offset_ns - peer.offset_at(now_ns)) <= rounded(estimate)
        now_ns += pause_ns
    assert clock.restarts == 0
    estimate = known(clock, now_ns + later_ns)
    assert abs(estimate.offset_ns - peer.offset_at(now_ns + later_ns)) <= rounded(estimate)


@given(
    offset_ns=offsets,
    exchanges=st.lists(st.tuples(delays, delays), min_size=1, max_size=20),
)
def test_the_bound_is_never_wider_than_half_of_the_quickest_round_trip(
    offset_ns: int, exchanges: list[tuple[int, int]]
) -> None:
    peer, clock, now_ns = Peer(offset_ns), ClockFilter(drift_ppm=0.0), START_NS
    for there_ns, back_ns in exchanges:
        now_ns = peer.exchange(clock, now_ns, there_ns, back_ns)
    estimate = known(clock, now_ns)
    round_trips = [there_ns + back_ns for there_ns, back_ns in exchanges]
    assert estimate.round_trip_ns == min(round_trips)
    assert estimate.round_trip_median_ns == int(np.median(round_trips))
    assert estimate.error_ns <= math.ceil(min(round_trips) / 2)


def test_of_many_queued_probes_the_least_delayed_decides() -> None:
    peer, clock, now_ns = Peer(-7 * S), ClockFilter(drift_ppm=0.0), START_NS
    for queued_ns in (9 * MS, 4 * MS, 0, 6 * MS, 30 * MS):
        now_ns = peer.exchange(clock, now_ns, MS + queued_ns, MS)
    estimate = known(clock, now_ns)
    assert (estimate.offset_ns, estimate.error_ns) == (-7 * S, MS)
    assert estimate.round_trip_ns == 2 * MS
    assert estimate.round_trip_median_ns == 8 * MS


def test_each_direction_is_filtered_on_its_own() -> None:
    """Queues that are never short both ways at once: no round trip is quick, the bound is."""
    peer, clock, now_ns = Peer(-7 * S), ClockFilter(drift_ppm=0.0), START_NS
    now_ns = peer.exchange(clock, now_ns, MS, 40 * MS)
    assert known(clock, now_ns).error_ns == 20_500_000
    now_ns = peer.exchange(clock, now_ns, 50 * MS, 3 * MS)
    estimate = known(clock, now_ns)
    assert (estimate.offset_ns, estimate.error_ns) == (-7 * S + MS, 2 * MS)
    assert estimate.round_trip_ns == 41 * MS


def test_the_bound_grows_with_age_by_the_drift_that_clocks_may_have() -> None:
    clock = ClockFilter(drift_ppm=50.0)
    Peer().exchange(clock, START_NS, MS, MS)
    assert known(clock, START_NS + 2 * MS).error_ns == MS + 100
    assert known(clock, START_NS + 10 * S).error_ns == MS + 500_000


def test_an_old_lucky_sample_gives_way_to_a_new_ordinary_one() -> None:
    peer, clock = Peer(), ClockFilter()
    peer.exchange(clock, START_NS, 0, 0)
    now_ns = peer.exchange(clock, START_NS + 5 * S, MS, MS)
    assert MS / 2 <= known(clock, now_ns).error_ns < MS / 2 + 1000  # 5 s of drift, and no more
    now_ns = peer.exchange(clock, START_NS + 30 * S, MS, MS)
    assert MS <= known(clock, now_ns).error_ns < MS + 1000


def test_samples_leave_the_window_by_age_and_by_number() -> None:
    clock = ClockFilter(drift_ppm=0.0)
    Peer().exchange(clock, START_NS, 0, 0)
    Peer().exchange(clock, START_NS + S, MS, MS)
    assert known(clock, START_NS + WINDOW_NS).error_ns == 0
    assert known(clock, START_NS + WINDOW_NS + 1).error_ns == MS
    now_ns = Peer().exchange(clock, START_NS + 2 * WINDOW_NS, 0, 0)
    for _ in range(WINDOW - 1):
        now_ns = Peer().exchange(clock, now_ns, MS, MS)
    assert known(clock, now_ns).round_trip_ns == 0
    now_ns = Peer().exchange(clock, now_ns, MS, MS)
    assert known(clock, now_ns).round_trip_ns == 2 * MS


def test_of_a_host_that_has_gone_silent_the_newest_sample_is_kept_and_worth_less_and_less() -> None:
    clock = ClockFilter(drift_ppm=100.0)
    Peer(-7 * S).exchange(clock, START_NS, 5 * MS, MS)
    Peer(-7 * S).exchange(clock, START_NS + S, MS, MS)
    estimate = known(clock, START_NS + 1001 * S)
    assert (estimate.offset_ns, estimate.error_ns) == (-7 * S, MS + 100 * MS)


def test_a_clock_that_jumps_is_believed_at_once() -> None:
    clock = ClockFilter()
    now_ns = Peer(-7 * S).exchange(clock, START_NS, MS, MS)
    now_ns = Peer(-7 * S).exchange(clock, now_ns, MS, MS)
    now_ns = Peer(30 * S).exchange(clock, now_ns, 2 * MS, 2 * MS)
    estimate = known(clock, now_ns)
    assert abs(estimate.offset_ns - 30 * S) <= estimate.error_ns < 3 * MS
    assert estimate.round_trip_ns == 4 * MS
    assert clock.restarts == 1


@pytest.mark.parametrize(
    "stamps",
    [
        (10 * S, 9 * S, 9 * S, 10 * S - 1),  # back before it left
        (10 * S, 9 * S, 9 * S - 1, 11 * S),  # answered before it came
        (10 * S, 5 * S, 7 * S, 11 * S),  # held for 2 s, and we waited for 1 s
        (10 * S, 2**61 - 1, 2**61 + 1, 11 * S),
        (10 * S, 2**64 - 1, 2**64 - 1, 11 * S),
        (10 * S, -1, 5 * S, 11 * S),
        (-1, 5 * S, 5 * S, 11 * S),
    ],
)
def test_stamps_that_cannot_be_change_nothing(stamps: tuple[int, int, int, int]) -> None:
    clock = ClockFilter()
    now_ns = Peer(-7 * S).exchange(clock, START_NS, MS, MS)
    before = clock.estimate(now_ns)
    assert not clock.add(*stamps)
    assert clock.estimate(now_ns) == before
    assert clock.restarts == 0


def test_two_clocks_that_part_while_a_probe_is_held_are_no_nonsense() -> None:
    clock = ClockFilter(drift_ppm=100.0)
    # By their clock it was held for 10 µs longer than we waited: within 100 ppm of a second.
    assert clock.add(10 * S, 5 * S, 6 * S + 10_000, 11 * S)
    assert known(clock, 11 * S).round_trip_ns == 0


@given(
    stamps=st.lists(
        st.tuples(*(st.integers(0, 2**64 - 1) for _ in range(2)), st.integers(0, 10 * S)),
        max_size=30,
    )
)
def test_whatever_another_host_says_the_offset_fits_the_wire(
    stamps: list[tuple[int, int, int]],
) -> None:
    clock, now_ns = ClockFilter(), START_NS
    for received_ns, replied_ns, passed_ns in stamps:
        clock.add(now_ns, received_ns, replied_ns, now_ns + passed_ns)
        now_ns += passed_ns
        estimate = clock.estimate(now_ns)
        if estimate is not None:
            assert estimate.error_ns >= 0
            assert estimate.round_trip_ns >= 0
            wire.encode(wire.ClockOffsets(np.array([estimate.offset_ns], dtype="<i8")))


@pytest.mark.parametrize(
    ("error_ns", "latency_p50_ns", "verdict"),
    [
        (200_000, 1 * MS, "one_way"),
        (200_001, 1 * MS, "round_trip"),
        (1, 0, "round_trip"),  # nothing measured
        (20 * MS, 20 * MS, "round_trip"),  # the way is all there is: half its round trip
    ],
)
def test_one_way_is_reported_where_the_error_is_a_fifth_or_less(
    error_ns: int, latency_p50_ns: int, verdict: str
) -> None:
    assert ClockEstimate(0, error_ns, 1, 1).verdict(latency_p50_ns) == verdict


def test_on_one_host_one_way_is_always_known() -> None:
    assert SAME_HOST.offset_ns == SAME_HOST.error_ns == 0
    assert SAME_HOST.verdict(1.0) == "one_way"


# --- probes ---------------------------------------------------------------------------------------


def answer(probe: ClockProbe, received_ns: int, replied_ns: int | None = None) -> ClockReply:
    return ClockReply(probe.sequence, probe.sent_ns, received_ns, replied_ns or received_ns)


def test_probes_are_quick_while_the_first_are_answered_then_one_a_second() -> None:
    schedule, now_ns, sent = ProbeSchedule(), START_NS, list[int]()
    for _ in range(FAST_PROBES + 3):
        now_ns = max(schedule.due_ns, now_ns)
        sent.append(now_ns)
        assert schedule.take(schedule.send(now_ns), now_ns, now_ns + MS)
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert gaps == [FAST_PERIOD_NS] * (FAST_PROBES - 1) + [PERIOD_NS] * 3


def test_the_first_probe_is_due_at_once() -> None:
    assert ProbeSchedule().due_ns <= 0
    assert HostClock().due_ns <= 0


def test_a_silent_host_is_asked_once_a_second_and_quickly_when_it_answers() -> None:
    schedule, now_ns = ProbeSchedule(), START_NS
    for _ in range(20):
        schedule.send(now_ns)
        assert schedule.due_ns == now_ns + PERIOD_NS
        now_ns += PERIOD_NS
    newest = schedule.send(now_ns)
    sent_ns = now_ns
    now_ns += TIMEOUT_NS
    assert schedule.take(newest, sent_ns, now_ns)
    assert schedule.lost == 20
    assert schedule.due_ns <= now_ns


def test_a_probe_is_answered_once() -> None:
    clock = HostClock()
    probe = clock.probe(START_NS)
    reply = answer(probe, 3 * S)
    assert clock.hear(reply, START_NS + MS)
    before = clock.estimate(START_NS + 5 * MS)
    assert not clock.hear(reply, START_NS + 5 * MS)
    assert clock.unknown == 1
    assert clock.estimate(START_NS + 5 * MS) == before


def test_answers_to_no_probe_of_ours_are_ignored_and_counted() -> None:
    clock = HostClock()
    assert not clock.hear(ClockReply(0, START_NS, 3 * S, 3 * S), START_NS)
    probe = clock.probe(START_NS)
    other = ClockReply(probe.sequence + 1, START_NS, 3 * S, 3 * S)
    forged = ClockReply(probe.sequence, START_NS + MS, 3 * S, 3 * S)
    assert not clock.hear(other, START_NS + 2 * MS)
    assert not clock.hear(forged, START_NS + 2 * MS)
    assert clock.unknown == 3
    assert clock.estimate(START_NS + 2 * MS) is None
    assert clock.hear(answer(probe, 3 * S), START_NS + 2 * MS)


def test_an_answer_after_the_deadline_is_ignored() -> None:
    clock = HostClock()
    in_time, late = clock.probe(START_NS), clock.probe(START_NS)
    assert clock.hear(answer(in_time, 3 * S), START_NS + TIMEOUT_NS)
    assert not clock.hear(answer(late, 3 * S), START_NS + TIMEOUT_NS + 1)
    assert (clock.lost, clock.unknown) == (1, 1)


def test_what_is_remembered_is_bounded() -> None:
    clock = HostClock()
    probes = [clock.probe(START_NS) for _ in range(MOST_OUTSTANDING + 5)]
    assert clock.lost == 5
    heard = [clock.hear(answer(probe, 3 * S), START_NS + MS) for probe in probes]
    assert heard == [False] * 5 + [True] * MOST_OUTSTANDING


def test_nonsense_in_an_answer_is_counted_and_the_probe_is_spent() -> None:
    clock = HostClock()
    probe = clock.probe(START_NS)
    assert not clock.hear(answer(probe, 3 * S, 2 * S), START_NS + MS)
    assert (clock.nonsense, clock.unknown) == (1, 0)
    assert not clock.hear(answer(probe, 3 * S), START_NS + MS)
    assert (clock.nonsense, clock.unknown) == (1, 1)
    assert clock.estimate(START_NS + MS) is None


def test_two_hosts_that_probe_each_other_agree() -> None:
    ours, theirs = HostClock(), HostClock()
    peer = Peer(-7 * S)
    now_ns = START_NS
    for there_ns, back_ns in ((3 * MS, 9 * MS), (MS, MS), (5 * MS, 2 * MS)):
        probe = ours.probe(now_ns)
        arrives_ns = now_ns + there_ns
        probe_back = theirs.probe(peer.reads(arrives_ns))
        returned_ns = arrives_ns + back_ns
        assert ours.hear(answer(probe, peer.reads(arrives_ns)), returned_ns)
        assert theirs.hear(answer(probe_back, returned_ns), peer.reads(returned_ns + there_ns))
        now_ns = returned_ns + there_ns + S
    mine, other = ours.estimate(now_ns), theirs.estimate(peer.reads(now_ns))
    assert mine is not None
    assert other is not None
    assert abs(mine.offset_ns + other.offset_ns) <= mine.error_ns + other.error_ns
    assert abs(mine.offset_ns - peer.offset_ns) <= mine.error_ns < 2 * MS
    assert abs(other.offset_ns + peer.offset_ns) <= other.error_ns < 2 * MS
