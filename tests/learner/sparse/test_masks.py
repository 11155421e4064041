"""Masks that are drawn: counts, patterns, streams."""

import numpy as np
import pytest

from learner.sparse.masks import cut, draw, largest


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_random_mask_has_exactly_its_links() -> None:
    for links in (1, 7, 100, 299, 300):
        assert draw((20, 15), links, "unstructured", 4, rng()).sum() == links


def test_every_place_is_as_likely_as_any_other() -> None:
    drawn = sum(draw((4, 6), 6, "unstructured", 4, rng(n)).astype(int) for n in range(2000))
    # 500 of 2000 each, standard deviation 19.
    assert np.abs(drawn - 500).max() < 90


def test_the_seed_decides_which_links_there_are() -> None:
    one, same, other = (draw((9, 9), 20, "unstructured", 4, rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("inputs", [64, 98, 5])
def test_blocks_are_whole_and_lie_within_one_unit(inputs: int) -> None:
    width = {64: 4, 98: 2, 5: 1}[inputs]  # the largest number up to 4 that divides the inputs
    mask = draw((10, inputs), 10 * width, "block", 4, rng())
    blocks = mask.reshape(10, inputs // width, width)
    assert (blocks.all(-1) | ~blocks.any(-1)).all()
    assert blocks.any(-1).sum() == 10
    assert cut((10, inputs), "block", 4) == (1, 10 * inputs // width, width)


def test_n_of_m_has_n_links_in_every_group_of_m_inputs() -> None:
    mask = draw((10, 64), 160, "n:m", 4, rng())
    groups = mask.reshape(-1, 4)
    assert (groups.sum(-1) == 1).all()
    assert len({tuple(group) for group in groups}) == 4, "groups choose by themselves"
    assert (draw((10, 64), 320, "n:m", 4, rng()).reshape(-1, 4).sum(-1) == 2).all()


def test_a_trained_layer_keeps_its_largest_weights() -> None:
    magnitude = np.array([[5.0, 1.0, 3.0], [2.0, 4.0, 6.0]])
    kept = draw((2, 3), 3, "unstructured", 4, rng(), magnitude)
    assert kept.tolist() == [[True, False, False], [False, True, True]]


def test_the_largest_of_each_group_are_chosen() -> None:
    scores = np.array([[1.0, 4.0, 2.0, 3.0], [9.0, -np.inf, 8.0, 7.0]])
    chosen = largest(scores, np.array([2, 3]), rng())
    assert chosen.tolist() == [[False, True, False, True], [True, False, True, True]]


def test_groups_do_not_decide_alike_between_equal_scores() -> None:
    chosen = largest(np.zeros((64, 8)), np.ones(64, int), rng())
    assert (chosen.sum(axis=1) == 1).all()
    assert chosen.any(axis=0).all()


def test_chance_decides_between_equal_scores() -> None:
    scores = np.array([[1.0] + [0.0] * 9])
    chosen = [largest(scores, np.array([3]), rng(seed)) for seed in range(40)]
    assert all(one[0, 0] and one.sum() == 3 for one in chosen)
    assert np.any(chosen, axis=0).all()
