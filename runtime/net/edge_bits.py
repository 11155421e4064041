"""How masks of edges are written: bit k stands for edge k.

    flags [..., K] -> EdgeBits.pack -> masks [..., *W] -> EdgeBits.unpack -> the same flags

Most graphs give an agent few edges, and a mask is one number of 16 bits or of 64. Where there are
more edges it is a row of numbers of 64 bits each, and edge 64 is the lowest bit of the second.

Dimension key: K = edges of one direction, *W = extents of one mask: none where it is one number.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray

MaskArray = NDArray[np.unsignedinteger[Any]]

_NARROW, _WIDE = 16, 64
"""Bits of a number."""


class EdgeBits:
    """Of K edges."""

    def __init__(self, num_edges: int) -> None:
        self.num_edges = num_edges
        """K"""
        self.are_few = num_edges <= _NARROW
        """So few that it is faster to go through them one by one."""
        self.dtype: type[np.unsignedinteger[Any]] = np.uint16 if self.are_few else np.uint64
        self._numbers = -(-num_edges // _WIDE)
        """Of 64 bits, in a mask."""
        self.shape: tuple[int, ...] = () if num_edges <= _WIDE else (self._numbers,)
        """*W"""
        bits: MaskArray = np.zeros((num_edges, *self.shape), dtype=self.dtype)
        for k in range(num_edges):
            at = (k, k // _WIDE) if self.shape else k
            bits[at] = 1 << k % _WIDE
        bits.flags.writeable = False
        self.of_each = bits
        """[K, *W]"""
        self.every: MaskArray = np.bitwise_or.reduce(bits, axis=0)
        """[*W] the mask of all edges."""
        self._every = (1 << num_edges) - 1

    def zeros(self, *extents: int) -> MaskArray:
        """[..., *W] masks without an edge."""
        return np.zeros((*extents, *self.shape), dtype=self.dtype)

    def pack(self, flags: BoolArray) -> MaskArray:
        """[..., K] -> [..., *W]"""
        if self.are_few:
            return flags.dot(self.of_each)
        octets = np.zeros((*flags.shape[:-1], 8 * self._numbers), dtype=np.uint8)
        packed = np.packbits(flags, axis=-1, bitorder="little")
        octets[..., : packed.shape[-1]] = packed
        masks = octets.view("<u8").astype(self.dtype, copy=False)
        return masks if self.shape else masks[..., 0]

    def unpack(self, masks: MaskArray) -> BoolArray:
        """[..., *W] -> [..., K]"""
        if self.are_few:
            return (masks[..., None] & self.of_each) != 0
        if not self.shape:
            masks = masks[..., None]
        octets = np.ascontiguousarray(masks, dtype="<u8").view(np.uint8)
        flags = np.unpackbits(octets, axis=-1, count=self.num_edges, bitorder="little")
        return flags.view(np.bool_)

    def fit(self, masks: MaskArray, *extents: int) -> bool:
        """Whether these are masks [..., *W] of the right width."""
        return masks.shape == (*extents, *self.shape) and masks.dtype == self.dtype

    def exist(self, masks: MaskArray) -> bool:
        """Whether masks [E, *W] name none but these edges."""
        return not _number(np.bitwise_or.reduce(masks)) >> self.num_edges

    def in_any(self, masks: MaskArray) -> int:
        """Of masks [E, *W], bit k is set if edge k exists and is set in one of them."""
        if masks.size == 1:
            return masks.item() & self._every
        return _number(np.bitwise_or.reduce(masks)) & self._every


def _number(mask: Any) -> int:
    """A mask [*W] as one number of as many bits as it takes."""
    if mask.ndim == 0:
        return int(mask)
    return sum(number << _WIDE * place for place, number in enumerate(mask.tolist()))


@functools.cache
def edge_bits(num_edges: int) -> EdgeBits:
    """The same object for every graph with so many edges."""
    return EdgeBits(num_edges)
