"""The failure of a k-out-of-n system, against the sum over all states of its components."""

from itertools import product

import numpy as np
import pytest

from envs.imp.deterioration import RealArray
from envs.imp.k_out_of_n import failure_probability, usual_k


def by_enumeration(failures_N: RealArray, k: int) -> float:
    """Sum of the probabilities of all states in which fewer than k components work."""
    states = product((0, 1), repeat=len(failures_N))
    return sum(
        float(
            np.prod([p if failed else 1.0 - p for p, failed in zip(failures_N, state, strict=True)])
        )
        for state in states
        if len(state) - sum(state) < k
    )


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 1), (2, 2), (3, 2), (5, 1), (5, 4), (7, 3), (8, 8), (11, 7)]
)
def test_it_is_the_sum_over_all_states(n: int, k: int) -> None:
    failures_XN = np.random.default_rng(n).random((3, n))
    expected = [by_enumeration(failures_N, k) for failures_N in failures_XN]
    np.testing.assert_allclose(failure_probability(failures_XN, k), expected, atol=1e-12)


def test_certain_components_decide_alone() -> None:
    failed = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(failure_probability(failed, 3), [1.0, 0.0], atol=1e-15)


def test_equal_components_are_binomial() -> None:
    p = 0.063
    working = sum(
        float(np.prod(np.arange(50, 50 - j, -1)) / np.prod(np.arange(1, j + 1)))
        * p**j
        * (1 - p) ** (50 - j)
        for j in range(3)
    )
    assert failure_probability(np.full((1, 50), p), 48)[0] == pytest.approx(1.0 - working, rel=1e-9)


def test_the_usual_systems_are_the_papers() -> None:
    assert [usual_k(n) for n in (5, 10, 50, 100)] == [4, 9, 48, 95]
