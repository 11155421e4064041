"""One evolution of a layer's topology: drop the weakest links, grow as many (MAST, algorithm 1).

    mask, |weights|, |dense gradient| or chance  ->  next mask with as many links

    k    = int(share of links)
    drop   the k links with the smallest |weight|
    grow   the k places with the largest |gradient| (RigL, Evci et al., 2020), or k at random (SET,
           Mocanu et al., 2018), among all that were not kept

A link that was dropped may be grown at once; then it has never been away and keeps its weight, as
in RLx2's code (notes/algorithms.md, 1.10).

Dimension key: G = groups, U = places of a group (learner/sparse/masks.py).
"""

import math

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from learner.sparse.masks import largest


def cosine_share(first: float, done: float) -> float:
    """Share of the links that an evolution replaces: zeta0 / 2 (1 + cos(pi t / T_end)).

    Args:
        first: zeta0.
        done: t / T_end; from 1 on nothing moves any more.
    """
    return first / 2.0 * (1.0 + math.cos(math.pi * done)) if done < 1.0 else 0.0


def evolve(
    links_GU: BoolArray,
    magnitude_GU: NDArray[np.floating],
    attraction_GU: NDArray[np.floating],
    share: float,
    rng: np.random.Generator,
) -> BoolArray:
    """[G, U] the next links; every group has as many as before.

    Args:
        links_GU: places that have a link now.
        magnitude_GU: |weight|, by which links are kept.
        attraction_GU: |gradient|, or anything else that is largest where links are to grow.
        share: of the links, to be dropped; what is left behind the point stays.
        rng: decides between equal numbers.
    """
    number = int(share * links_GU.sum())
    strength = np.where(links_GU, -magnitude_GU, -np.inf).reshape(1, -1)
    dropped_GU = largest(strength, np.array([number]), rng).reshape(links_GU.shape)
    kept_GU = links_GU & ~dropped_GU
    asking_GU = np.where(kept_GU, -np.inf, attraction_GU)
    return kept_GU | largest(asking_GU, dropped_GU.sum(axis=1), rng)
