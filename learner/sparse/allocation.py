"""How many links each layer gets.

    shapes, density -> densities of the layers -> numbers of links that add up exactly

Erdős–Rényi (SET, Mocanu et al., 2018; RigL, section 3): a layer of I inputs and O outputs has the
density eps (I + O) / (I O), so its links grow with its units and not with their product. One eps
serves all layers and is chosen such that they have the wanted number of links together. A small
layer may ask for more links than it has places; it stays dense, and eps grows for the others.

MAST names no rule. RLx2, on which it builds, allocates in this way (notes/algorithms.md, 1.10).
A GRU's matrices count as they are stored, its three gates together: O = 3 H.
"""

import math
from collections.abc import Sequence
from typing import Literal

Allocation = Literal["erdos-renyi", "uniform"]
Shape = tuple[int, int]
"""Outputs O and inputs I of a layer's matrix."""


def densities(shapes: Sequence[Shape], density: float, rule: Allocation) -> list[float]:
    """Share of each layer's weights that are links, such that all together have `density`.

    With shapes (8, 8) and (1, 2) at 0.25, 16.5 links of 66, the second asks for more than its 2
    places, so the first gets the other 14.5.
    """
    if rule == "uniform":
        return [density] * len(shapes)
    places = [outputs * inputs for outputs, inputs in shapes]
    full: set[int] = set()
    while True:
        others = [layer for layer in range(len(shapes)) if layer not in full]
        left = density * sum(places) - sum(places[layer] for layer in full)
        scale = left / max(sum(sum(shapes[layer]) for layer in others), 1)
        asked = {layer: scale * sum(shapes[layer]) for layer in others}
        over = {layer for layer in others if asked[layer] > places[layer]}
        if not over:
            return [asked[n] / places[n] if n in asked else 1.0 for n in range(len(shapes))]
        # What overflows once overflows for good: scale only grows.
        full |= over


def numbers_of_links(shapes: Sequence[Shape], density: float, rule: Allocation) -> list[int]:
    """Whole numbers with the rounded total; each layer keeps one link at least.

    What a layer's share leaves behind the point decides who gets the links that rounding down has
    left over.
    """
    places = [outputs * inputs for outputs, inputs in shapes]
    exact = [
        share * size for share, size in zip(densities(shapes, density, rule), places, strict=True)
    ]
    # A hair more, so that 3.0 which was computed as 2.9999999 counts as three.
    counts = [min(max(math.floor(x + 1e-6), 1), n) for x, n in zip(exact, places, strict=True)]
    total = max(round(density * sum(places)), len(shapes))
    by_remainder = sorted(range(len(shapes)), key=lambda n: counts[n] - exact[n])
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        order = by_remainder if step > 0 else by_remainder[::-1]
        able = [n for n in order if 1 <= counts[n] + step <= places[n]]
        for layer in able[: abs(missing)]:
            counts[layer] += step
    return counts
