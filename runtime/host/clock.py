"""What another host's clock says, to be able to measure one way between hosts.

    ours:    sent ──────╲                        ╱─▶ returned
                         ╲ there           back ╱
    theirs:               ╲─▶ received ─ replied

Hosts do not share a monotonic clock. Four stamps (RFC 5905, section 8), two of each clock, enclose
the difference: nothing arrives before it was sent, so what must be added to their clock to read it
as ours is at least `sent - received` and at most `returned - replied`. The middle is the estimate,
half the width its error: a bound for every asymmetry of the way, not a guess.

The filter keeps the latest samples and intersects what they say, that is, it takes the least
delayed packet of each direction on its own; for a single sample it is the textbook's offset ± half
the delay. A sample grows wider as it ages, by the drift that two clocks may have, so an old lucky
one gives way. When samples exclude each other a clock has jumped (the host was suspended, or is
another one by now): the newest is believed and the others forgotten.

The bound covers networks, queues and drift, not lies: a host that states false stamps is read with
the offset that it asks for, and spoils latencies between itself and us, nobody else's.
"""

import math
import statistics
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal, NamedTuple

from runtime.net.wire import ClockProbe, ClockReply

Verdict = Literal["one_way", "round_trip"]

DRIFT_PPM = 100.0
"""How fast two hosts' clocks may part: crystals are within 50 ppm of the truth, each to its own
side. Clocks under NTP or PTP part by far less, except while a daemon slews away a large error."""

LARGEST_ERROR_SHARE = 0.2
"""Of a latency: beyond it a one-way figure would say more about the clocks than about the way."""

WINDOW = 64
WINDOW_NS = 64_000_000_000
"""A sample that is older says nothing that 64 s of drift (6.4 ms) leave of any use."""

FAST_PROBES = 8
FAST_PERIOD_NS = 50_000_000
PERIOD_NS = 1_000_000_000
TIMEOUT_NS = 5_000_000_000
MOST_OUTSTANDING = 16

_SEQUENCES = 2**32
_LATEST_NS = 2**61
"""73 years: no clock says more, and no sum or difference of two leaves 64 bits."""


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """How to read another host's monotonic clock, at one moment."""

    offset_ns: int
    """What to add to the other's clock to read it as ours."""
    error_ns: int
    """The true offset is at most this far away."""
    round_trip_ns: int
    """Of the quickest probe in the window, without the time it spent at the other host."""
    round_trip_median_ns: int

    def verdict(self, latency_p50_ns: float) -> Verdict:
        """Which latency to report where the median of the one-way latencies is this."""
        known = self.error_ns <= LARGEST_ERROR_SHARE * latency_p50_ns
        return "one_way" if known else "round_trip"


SAME_HOST = ClockEstimate(0, 0, 0, 0)
"""Processes of one host share the clock."""


class _Sample(NamedTuple):
    sent_ns: int
    """When the exchange began, by our clock: from here on its limits widen."""
    lower_ns: int
    upper_ns: int
    round_trip_ns: int


class ClockFilter:
    """Samples of one other host's clock, and what they say together."""

    def __init__(
        self, *, drift_ppm: float = DRIFT_PPM, window: int = WINDOW, window_ns: int = WINDOW_NS
    ) -> None:
        self._drift = drift_ppm * 1e-6
        self._window_ns = window_ns
        self._samples: deque[_Sample] = deque(maxlen=window)
        self.restarts = 0
        """How often a sample excluded the others and replaced them."""

    def add(self, sent_ns: int, received_ns: int, replied_ns: int, returned_ns: int) -> bool:
        """Take one exchange; the first and the last stamp are ours.

        Returns:
            False for stamps that no two clocks could have shown: an answer before its question on
            either side, longer at the other host than we waited, or beyond 73 years.
        """
        if not (0 <= received_ns <= replied_ns <= _LATEST_NS and 0 <= sent_ns <= returned_ns):
            return False
        sample = _Sample(
            sent_ns,
            sent_ns - received_ns,
            returned_ns - replied_ns,
            max((returned_ns - sent_ns) - (replied_ns - received_ns), 0),
        )
        lower_ns, upper_ns = self._limits(sample, returned_ns)
        if lower_ns > upper_ns:
            return False
        self._samples.append(sample)
        if self._intersection(returned_ns) is None:
            self._samples.clear()
            self._samples.append(sample)
            self.restarts += 1
        return True

    def estimate(self, now_ns: int) -> ClockEstimate | None:
        """What is known now, by our clock; None before the first sample.

        The newest sample stays however old it is: its bound says what it is still worth.
        """
        while len(self._samples) > 1 and now_ns - self._samples[0].sent_ns > self._window_ns:
            self._samples.popleft()
        limits = self._intersection(now_ns)
        if limits is None:
            return None
        lower_ns, upper_ns = limits
        round_trips = [sample.round_trip_ns for sample in self._samples]
        return ClockEstimate(
            (lower_ns + upper_ns) // 2,
            (upper_ns - lower_ns + 1) // 2,
            min(round_trips),
            int(statistics.median(round_trips)),
        )

    def _limits(self, sample: _Sample, now_ns: int) -> tuple[int, int]:
        """The offset lies between these now."""
        allowance_ns = math.ceil(self._drift * (now_ns - sample.sent_ns))
        return sample.lower_ns - allowance_ns, sample.upper_ns + allowance_ns

    def _intersection(self, now_ns: int) -> tuple[int, int] | None:
        """The offset lies between these by all samples; None: there are none, or they disagree."""
        if not self._samples:
            return None
        limits = [self._limits(sample, now_ns) for sample in self._samples]
        lower_ns = max(lower for lower, _ in limits)
        upper_ns = min(upper for _, upper in limits)
        return None if lower_ns > upper_ns else (lower_ns, upper_ns)


class ProbeSchedule:
    """When to ask, and which answers are answers: each probe is answered once, or never."""

    def __init__(self) -> None:
        self._next = 0
        self._outstanding: OrderedDict[int, int] = OrderedDict()
        self._last_sent_ns: int | None = None
        self._answered = 0
        self.lost = 0
        """Probes without an answer in time."""
        self.unknown = 0
        """Answers to no probe of ours that is still open: late, repeated or invented."""

    @property
    def due_ns(self) -> int:
        """When to send the next probe; 0: at once.

        The first answers are wanted quickly, hence quick probes for as long as they are answered;
        a host that is silent is asked once a second.
        """
        if self._last_sent_ns is None:
            return 0
        is_fast = self._answered < FAST_PROBES and not self._outstanding
        return self._last_sent_ns + (FAST_PERIOD_NS if is_fast else PERIOD_NS)

    def send(self, now_ns: int) -> int:
        """The sequence number of a probe that leaves now."""
        self._forget(now_ns)
        if len(self._outstanding) == MOST_OUTSTANDING:
            self._outstanding.popitem(last=False)
            self.lost += 1
        sequence = self._next
        self._next = (self._next + 1) % _SEQUENCES
        self._outstanding[sequence] = self._last_sent_ns = now_ns
        return sequence

    def take(self, sequence: int, sent_ns: int, now_ns: int) -> bool:
        """Whether an answer is one, to a probe that is open and left when the answer says."""
        self._forget(now_ns)
        if self._outstanding.get(sequence) != sent_ns:
            self.unknown += 1
            return False
        del self._outstanding[sequence]
        self._answered += 1
        return True

    def _forget(self, now_ns: int) -> None:
        while self._outstanding:
            sequence, sent_ns = next(iter(self._outstanding.items()))
            if now_ns - sent_ns <= TIMEOUT_NS:
                return
            del self._outstanding[sequence]
            self.lost += 1


class HostClock:
    """Another host's clock: ask when it is due, hear the answers, read the estimate.

    All times are readings of our own monotonic clock, handed in.
    """

    def __init__(self, *, drift_ppm: float = DRIFT_PPM) -> None:
        self._filter = ClockFilter(drift_ppm=drift_ppm)
        self._schedule = ProbeSchedule()
        self.nonsense = 0
        """Answers to probes of ours with stamps that cannot be."""

    @property
    def due_ns(self) -> int:
        """When to send the next probe; 0: at once."""
        return self._schedule.due_ns

    @property
    def lost(self) -> int:
        """Probes without an answer in time."""
        return self._schedule.lost

    @property
    def unknown(self) -> int:
        """Answers to no open probe: late, repeated or invented."""
        return self._schedule.unknown

    @property
    def restarts(self) -> int:
        """How often the other clock has jumped."""
        return self._filter.restarts

    def probe(self, now_ns: int) -> ClockProbe:
        """A probe to send at once."""
        return ClockProbe(self._schedule.send(now_ns), now_ns)

    def hear(self, reply: ClockReply, now_ns: int) -> bool:
        """Take an answer that has just arrived; False: it was ignored, and counted."""
        if not self._schedule.take(reply.sequence, reply.sent_ns, now_ns):
            return False
        if not self._filter.add(reply.sent_ns, reply.received_ns, reply.replied_ns, now_ns):
            self.nonsense += 1
            return False
        return True

    def estimate(self, now_ns: int) -> ClockEstimate | None:
        """None before the first sample."""
        return self._filter.estimate(now_ns)
