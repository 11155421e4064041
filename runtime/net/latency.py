"""One-way latency as a histogram that can be added up across processes.

Bins are spaced evenly in the logarithm, four to an octave, from 1 µs to about 17 s: a quantile is
known to within 9 %. On one host the monotonic clock is shared, so a stamp at the sender and a
reading at the receiver differ by the latency and nothing else.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PER_OCTAVE = 4
OCTAVES = 24
BINS = PER_OCTAVE * OCTAVES
_FIRST_NS = 1_000.0


def bin_of(latency_ns: int) -> int:
    """Bin that a latency falls into; the ends catch everything beyond."""
    if latency_ns <= _FIRST_NS:
        return 0
    return min(int(PER_OCTAVE * math.log2(latency_ns / _FIRST_NS)), BINS - 1)


def histogram(latencies_ns: Sequence[int]) -> NDArray[np.uint64]:
    """[BINS] how many of these fall into each bin."""
    octaves = np.log2(np.maximum(np.array(latencies_ns, dtype=np.float64) / _FIRST_NS, 1.0))
    bins = np.minimum((PER_OCTAVE * octaves).astype(np.int64), BINS - 1)
    return np.bincount(bins, minlength=BINS).astype(np.uint64)


def upper_bound_ns(index: int) -> float:
    """Upper edge of a bin, in nanoseconds."""
    return _FIRST_NS * 2.0 ** ((index + 1) / PER_OCTAVE)


def quantile_ns(histogram: NDArray[np.uint64], q: float) -> float:
    """Geometric middle of the bin that holds the q-quantile; 0.0 if nothing was counted."""
    total = int(histogram.sum())
    if total == 0:
        return 0.0
    index = int(np.searchsorted(np.cumsum(histogram), q * total, side="left"))
    return upper_bound_ns(index) * 2.0 ** (-0.5 / PER_OCTAVE)
