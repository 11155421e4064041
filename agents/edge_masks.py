"""Bitmaps of copies and masks of edges, as arrays of flags.

    packet's bitmap [ceil(E / 8)] -> CopyBitmaps.read -> [E]
    masks [E], bit k is edge k    <-> EdgeMasks       <-> [E, K]

Dimension key: E = copies, K = edges of one direction, T = 1 + K tokens (own first).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.participation import MOST_REMEMBERED
from configs.arrays import BoolArray
from runtime.net.topology import mask_dtype

MaskArray = NDArray[np.unsignedinteger[Any]]


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
        self._bits_K = np.array([1 << k for k in range(edges)], dtype=mask_dtype(edges))
        self._every_edge = (1 << edges) - 1
        self._in_edges: dict[bytes, InEdges] = {}
        self._unpacked: dict[bytes, BoolArray] = {}

    def none(self, copies: int) -> MaskArray:
        """[E] masks without an edge."""
        return np.zeros(copies, dtype=self._bits_K.dtype)

    def unpack(self, masks: MaskArray) -> BoolArray:
        """[E] -> [E, K]; masks recur, so what they stood for is remembered, and is not to be
        written to.
        """
        key = masks.tobytes()
        open_EK = self._unpacked.get(key)
        if open_EK is None:
            open_EK = (masks[:, None] & self._bits_K) != 0
            open_EK.flags.writeable = False
            if len(self._unpacked) >= MOST_REMEMBERED:
                self._unpacked.clear()
            self._unpacked[key] = open_EK
        return open_EK

    def pack(self, open_EK: BoolArray) -> MaskArray:
        """[E, K] -> [E]"""
        return open_EK.dot(self._bits_K)

    def any_copy(self, masks: MaskArray) -> int:
        """Bit k is set if edge k exists and is set in one of these masks."""
        if len(masks) == 1:
            return masks.item() & self._every_edge
        return int(np.bitwise_or.reduce(masks)) & self._every_edge

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
