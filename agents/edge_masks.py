"""Bitmaps of copies and masks of edges, as arrays of flags.

    packet's bitmap [ceil(E / 8)] -> CopyBitmaps.read -> [E]
    masks [E, *W], bit k is edge k <-> EdgeMasks      <-> [E, K]

Dimension key: E = copies, K = edges of one direction, T = 1 + K tokens (own first), *W = extents of
one mask, none where it is one number (runtime/net/edge_bits.py).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.participation import MOST_REMEMBERED
from configs.arrays import BoolArray
from runtime.net.edge_bits import MaskArray, edge_bits


class CopyBitmaps:
    """Reads bitmaps of copies; with few copies, or all of them alive, they recur."""

    def __init__(self, copies: int) -> None:
        self._copies = copies
        self._known: dict[bytes, tuple[BoolArray, int]] = {}

    def read(self, bitmap: NDArray[np.uint8]) -> tuple[BoolArray, int] | None:
        """[E] the copies that a bitmap lists, and how many; None if it has another length."""
        key = bitmap.tobytes()
        known = self._known.get(key)
        if known is None:
            copies = self._copies
            if len(bitmap) != (copies + 7) // 8:
                return None
            listed_E = np.unpackbits(bitmap, count=copies, bitorder="little").view(np.bool_)
            known = (listed_E, int(np.count_nonzero(listed_E)))
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = known
        return known


class InEdges(NamedTuple):
    """In-edges that carry a message, by the world's in-masks."""

    open_EK: BoolArray
    present_ET: BoolArray | None
    """The same with the own token in front; None if all are present."""


class EdgeMasks:
    """Masks of K edges in E copies."""

    def __init__(self, edges: int) -> None:
        self.edges = edges
        """K"""
        self._bits = bits = edge_bits(edges)
        self.pack = bits.pack
        """[E, K] -> [E, *W]"""
        self.any_copy = bits.in_any
        """Bit k is set if edge k exists and is set in one of these masks."""
        self._in_edges: dict[bytes, InEdges] = {}
        self._unpacked: dict[bytes, BoolArray] = {}

    def none(self, copies: int) -> MaskArray:
        """[E, *W] masks without an edge."""
        return self._bits.zeros(copies)

    def shape(self, copies: int) -> tuple[int, ...]:
        """Of the masks of so many copies."""
        return (copies, *self._bits.shape)

    def unpack(self, masks: MaskArray) -> BoolArray:
        """[E, *W] -> [E, K]; masks recur, so what they stood for is remembered, and is not to be
        written to.
        """
        key = masks.tobytes()
        open_EK = self._unpacked.get(key)
        if open_EK is None:
            open_EK = self._bits.unpack(masks)
            open_EK.flags.writeable = False
            if len(self._unpacked) >= MOST_REMEMBERED:
                self._unpacked.clear()
            self._unpacked[key] = open_EK
        return open_EK

    def in_edges(self, masks: MaskArray) -> InEdges:
        """What in-masks stand for; masks recur, so what they stood for is remembered."""
        key = masks.tobytes()
        edges = self._in_edges.get(key)
        if edges is None:
            open_EK = self.unpack(masks)
            present_ET = with_own_token(open_EK)
            edges = InEdges(open_EK, None if present_ET.all() else present_ET)
            if len(self._in_edges) >= MOST_REMEMBERED:
                self._in_edges.clear()
            self._in_edges[key] = edges
        return edges


def with_own_token(arrived_EK: BoolArray) -> BoolArray:
    """[E, K] -> [E, T]"""
    own_E1 = np.ones((len(arrived_EK), 1), dtype=np.bool_)
    return np.concatenate((own_E1, arrived_EK), axis=1)
