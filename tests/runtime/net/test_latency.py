import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.net import latency

# Shared machines are slow now and then; what is wrong here is never a matter of time.
unhurried = settings(deadline=None)

LAST_NS = latency.upper_bound_ns(latency.BINS - 1)


def histogram_of(*latencies_ns: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    bins = [latency.bin_of(ns) for ns in latencies_ns]
    return np.bincount(bins, minlength=latency.BINS).astype(np.uint64)


@unhurried
@given(st.integers(1_000, int(LAST_NS) - 1))
def test_latency_lies_within_its_bin(ns: int) -> None:
    index = latency.bin_of(ns)
    rounding = 1.0 + 1e-9
    assert ns <= latency.upper_bound_ns(index) * rounding
    assert index == 0 or ns * rounding >= latency.upper_bound_ns(index - 1)


@unhurried
@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_longer_latency_never_falls_into_a_lower_bin(one_ns: int, other_ns: int) -> None:
    short, long = sorted((one_ns, other_ns))
    assert latency.bin_of(short) <= latency.bin_of(long)


@pytest.mark.parametrize(("ns", "index"), [(-5, 0), (0, 0), (1_000, 0), (10**15, latency.BINS - 1)])
def test_ends_catch_everything_beyond(ns: int, index: int) -> None:
    assert latency.bin_of(ns) == index


def test_bins_reach_from_a_microsecond_to_seventeen_seconds() -> None:
    assert latency.upper_bound_ns(latency.PER_OCTAVE - 1) == 2_000.0
    assert pytest.approx(16.8e9, rel=0.01) == LAST_NS


@unhurried
@given(st.lists(st.integers(1_000, 10**10), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_quantile_is_known_to_within_nine_per_cent(latencies: list[int], q: float) -> None:
    rank = int(np.ceil(q * len(latencies))) - 1
    exact_ns = sorted(latencies)[rank]
    found_ns = latency.quantile_ns(histogram_of(*latencies), q)
    assert found_ns == pytest.approx(exact_ns, rel=0.0906)


def test_median_of_two_is_the_lower_one() -> None:
    median_ns = latency.quantile_ns(histogram_of(5_000, 80_000), 0.5)
    assert median_ns == pytest.approx(5_000, rel=0.09)


def test_quantile_of_nothing_is_zero() -> None:
    assert latency.quantile_ns(histogram_of(), 0.5) == 0.0


def test_histograms_add_up_across_processes() -> None:
    both = histogram_of(5_000, 5_000) + histogram_of(80_000)
    assert latency.quantile_ns(both, 0.5) == pytest.approx(5_000, rel=0.09)
    assert latency.quantile_ns(both, 0.9) == pytest.approx(80_000, rel=0.09)
