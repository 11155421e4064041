"""One evolution of a layer, against enumeration."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.arrays import BoolArray
from learner.sparse.evolution import cosine_share, evolve

FloatArray = NDArray[np.floating]


def layer(seed: int, places: int = 9, links: int = 5) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Links, |weights| and |gradients| of one group, no two alike."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros((1, places), dtype=np.bool_)
    chosen[0, rng.permutation(places)[:links]] = True
    return chosen, rng.random((1, places)) * chosen, rng.random((1, places))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_what_is_kept_and_grown_is_the_best_of_all_choices(seed: int, share: float) -> None:
    links, magnitude, gradient = layer(seed)
    number = int(share * 5)
    active = [int(place) for place in np.flatnonzero(links)]
    kept = max(combinations(active, 5 - number), key=lambda s: magnitude[0, list(s)].sum())
    free = [place for place in range(9) if place not in kept]
    grown = max(combinations(free, number), key=lambda s: gradient[0, list(s)].sum())
    found = evolve(links, magnitude, gradient, share, np.random.default_rng(0))
    assert set(np.flatnonzero(found)) == {*kept, *grown}


def test_a_dropped_link_with_the_largest_gradient_comes_straight_back() -> None:
    links = np.array([[True, True, False, False]])
    magnitude = np.array([[1.0, 2.0, 0.0, 0.0]])
    gradient = np.array([[9.0, 8.0, 1.0, 2.0]])
    # The second is kept, so its gradient does not count; of the others the first has the largest.
    found = evolve(links, magnitude, gradient, 0.5, np.random.default_rng(0))
    assert found.tolist() == links.tolist()
    gradient[0, 0] = 0.0
    found = evolve(links, magnitude, gradient, 0.5, np.random.default_rng(0))
    assert found.tolist() == [[False, True, False, True]]


def test_groups_keep_their_numbers_while_the_weakest_of_the_layer_go() -> None:
    links = np.array([[True, True, False, False], [True, True, False, False]])
    magnitude = np.array([[0.1, 0.2, 0.0, 0.0], [0.8, 0.9, 0.0, 0.0]])
    gradient = np.array([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 9.0, 9.0]])
    found = evolve(links, magnitude, gradient, 0.5, np.random.default_rng(0))
    assert found.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_a_full_layer_stays_full() -> None:
    _, magnitude, gradient = layer(0, links=9)
    full = np.ones((1, 9), dtype=np.bool_)
    assert evolve(full, magnitude, gradient, 0.5, np.random.default_rng(0)).all()


def test_the_share_falls_as_a_half_cosine_to_nothing() -> None:
    assert cosine_share(0.5, 0.0) == 0.5
    assert cosine_share(0.5, 1 / 3) == pytest.approx(0.375)
    assert cosine_share(0.5, 0.5) == pytest.approx(0.25)
    assert cosine_share(0.5, 2 / 3) == pytest.approx(0.125)
    assert cosine_share(0.5, 1.0) == cosine_share(0.5, 1.7) == 0.0
