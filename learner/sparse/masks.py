"""Masks: which weights of a layer exist.

    number of links, pattern -> places in groups -> as many chosen of each group -> mask

A place holds one weight, or a block of neighbours; a group is what keeps its number of links when
the topology moves. Three patterns are three ways to cut a matrix [O, I] into [G, U, W]:

    unstructured   one group, every weight a place            [1, O I, 1]
    block          one group, `group` inputs of a unit a place [1, O I / group, group]
    n:m            `group` inputs of a unit a group, of n      [O I / group, group, 1]

MAST is unstructured and asks for structure as future work (appendix A.6).

Dimension key: O = outputs, I = inputs, G = groups, U = places of a group, W = weights of a place.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from learner.sparse.allocation import Shape

Pattern = Literal["unstructured", "block", "n:m"]


def cut(shape: Shape, pattern: Pattern, group: int) -> tuple[int, int, int]:
    """[G, U, W] of a matrix.

    Args:
        shape: outputs and inputs.
        group: inputs that are neighbours; where they do not divide a layer's, the next smaller
            number that does.
    """
    outputs, inputs = shape
    width = next(w for w in range(min(group, inputs), 0, -1) if inputs % w == 0)
    match pattern:
        case "unstructured":
            return 1, outputs * inputs, 1
        case "block":
            return 1, outputs * inputs // width, width
        case "n:m":
            return outputs * inputs // width, width, 1


def draw(
    shape: Shape,
    links: int,
    pattern: Pattern,
    group: int,
    rng: np.random.Generator,
    magnitude_OI: NDArray[np.floating] | None = None,
) -> BoolArray:
    """[O, I] a mask with so many links, at random or, given magnitudes, where they are largest.

    Blocks, and n of n:m, are the nearest whole number, at least one.
    """
    groups, places, width = cut(shape, pattern, group)
    number = min(max(round(links / (groups * width)), 1), places)
    scores_GU = np.zeros((groups, places))
    if magnitude_OI is not None:
        scores_GU = magnitude_OI.reshape(groups, places, width).sum(-1)
    chosen_GU = largest(scores_GU, np.full(groups, number), rng)
    return np.repeat(chosen_GU[..., None], width, axis=-1).reshape(shape)


def largest(
    scores_GU: NDArray[np.floating], numbers_G: NDArray[np.integer], rng: np.random.Generator
) -> BoolArray:
    """[G, U] for each group its so many largest scores; chance decides between equal ones.

    Many are equal: gradients behind a unit that never fires are all 0, and the lowest indices would
    get all links.
    """
    groups, places = scores_GU.shape
    # For each group an order of its own, or all would decide alike.
    shuffled_GU = np.stack([rng.permutation(places) for _ in range(groups)])
    order_GU = np.argsort(-np.take_along_axis(scores_GU, shuffled_GU, 1), axis=1, kind="stable")
    # A permutation's argsort is its inverse: from the order to the ranks.
    ranks_GU = np.argsort(order_GU, axis=1)
    chosen_GU = np.empty(scores_GU.shape, dtype=np.bool_)
    np.put_along_axis(chosen_GU, shuffled_GU, ranks_GU < numbers_G[:, None], 1)
    return chosen_GU
