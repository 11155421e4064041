"""Erdős–Rényi and uniform shares, against the formula and by hand."""

import numpy as np
import pytest

from learner.sparse.allocation import Allocation, densities, numbers_of_links

# Encoder, two GRU matrices, output of a network of PyMARL's size; hypernetworks of QMIX.
SHAPES = [(64, 98), (192, 64), (192, 64), (21, 64), (640, 64), (32, 49), (1, 32)]


def places(shapes: list[tuple[int, int]]) -> list[int]:
    return [outputs * inputs for outputs, inputs in shapes]


@pytest.mark.parametrize("rule", ["erdos-renyi", "uniform"])
@pytest.mark.parametrize("density", [0.01, 0.05, 0.1, 0.3, 0.7, 1.0])
def test_the_total_is_exact(rule: Allocation, density: float) -> None:
    numbers = numbers_of_links(SHAPES, density, rule)
    assert sum(numbers) == round(density * sum(places(SHAPES)))
    assert all(1 <= n <= size for n, size in zip(numbers, places(SHAPES), strict=True))


def test_erdos_renyi_is_one_eps_times_inputs_plus_outputs_over_their_product() -> None:
    found = densities(SHAPES, 0.1, "erdos-renyi")
    eps = [share * o * i / (o + i) for share, (o, i) in zip(found, SHAPES, strict=True)]
    # The last layer would need more than its 32 places.
    assert found[-1] == 1.0
    assert eps[-1] < eps[0]
    np.testing.assert_allclose(eps[:-1], eps[0])
    by_hand = (0.1 * sum(places(SHAPES)) - 32) / sum(o + i for o, i in SHAPES[:-1])
    assert eps[0] == pytest.approx(by_hand)


def test_a_layer_that_overflows_is_dense_and_the_others_get_what_it_leaves() -> None:
    # eps = 16.5 / 19: 0.87 * 3 = 2.6 links on 2 places. Then (16.5 - 2) / 16 each.
    assert densities([(8, 8), (1, 2)], 0.25, "erdos-renyi") == pytest.approx([14.5 / 64, 1.0])


def test_layers_that_overflow_only_because_others_did_are_found_too() -> None:
    # 1016.6 links: eps 8.76 overflows (1, 5) and (10, 10), and not (20, 20) with 351 of 400. The
    # 911.6 links that these leave over make it 10.13, and 405 of 400.
    shapes = [(1, 5), (10, 10), (20, 20), (20, 30)]
    found = densities(shapes, 0.92, "erdos-renyi")
    assert found == pytest.approx([1.0, 1.0, 1.0, 511.6 / 600])


def test_uniform_gives_every_layer_the_same_share() -> None:
    assert densities(SHAPES, 0.1, "uniform") == [0.1] * len(SHAPES)
    numbers = numbers_of_links(SHAPES, 0.1, "uniform")
    exact = [0.1 * size for size in places(SHAPES)]
    assert max(abs(n - x) for n, x in zip(numbers, exact, strict=True)) < 1.0


def test_links_left_over_go_to_the_largest_remainders() -> None:
    # 3.3, 3.6 and 3.3: ten in all, and the second is nearest to one more.
    assert numbers_of_links([(11, 1), (12, 1), (11, 1)], 0.3, "uniform") == [3, 4, 3]


def test_no_layer_is_left_without_a_link() -> None:
    # 0.05 of 12 places is less than one link; the others give it up.
    numbers = numbers_of_links([(1, 12), (20, 20)], 0.05, "uniform")
    assert numbers == [1, 20]
    assert sum(numbers) == round(0.05 * 412)
