"""Which entries of a vector exist: a mask on the wire, coded in the smaller of two forms.

    bool [P] -> pack_mask -> [form, bitmap | gaps] -> unpack_mask(P) -> the same bool [P]

BITMAP takes P/8 bytes whatever the mask, GAPS a byte for each entry that exists and a second one
where 128 or more before it do not: below one entry in eight gaps are smaller. Counts and columns
row by row, as compressed sparse rows have them, cost a byte for each entry and for each row and
were never the smallest (docs/results/sparse.md), so they are not here.

Dimension key: P = entries of the vector, C = octets, W = entries that exist, G = octets of a gap.
"""

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray

Octets = NDArray[np.uint8]

BITMAP, GAPS = 0, 1

_WIDEST = 4
"""Octets of the longest gap; seven bits each reach beyond the longest vector on the wire."""
_MORE = 0x80
"""Set in an octet that is not its gap's last (LEB128, least significant seven bits first)."""


def pack_mask(mask_P: BoolArray) -> Octets:
    """Code a mask of fewer than 2^28 entries."""
    exist_W = np.flatnonzero(mask_P)
    gaps_W = np.diff(exist_W, prepend=-1) - 1
    place_G = np.arange(_WIDEST)
    width_W = 1 + (gaps_W[:, None] >> 7 * place_G[1:] > 0).sum(axis=1)
    gaps_size = int(width_W.sum())
    if gaps_size >= _bitmap_size(mask_P.size):
        return _in_form(BITMAP, np.packbits(mask_P, bitorder="little"))
    septets_WG = gaps_W[:, None] >> 7 * place_G & (_MORE - 1)
    septets_WG |= np.where(place_G < width_W[:, None] - 1, _MORE, 0)
    return _in_form(GAPS, septets_WG[place_G < width_W[:, None]].astype(np.uint8))


def unpack_mask(packed: Octets, size: int) -> BoolArray | None:
    """[size] the mask, or None if these octets are none of that size.

    Whatever is longer than a bitmap is refused before anything is made from it.
    """
    if packed.size == 0 or packed.size > 1 + _bitmap_size(size):
        return None
    form, content_C = packed[0], packed[1:]
    if form == BITMAP and content_C.size == _bitmap_size(size):
        bits = np.unpackbits(content_C, bitorder="little")
        return None if bits[size:].any() else bits[:size].view(np.bool_)
    return _from_gaps(content_C, size) if form == GAPS else None


def _from_gaps(gaps_C: Octets, size: int) -> BoolArray | None:
    mask_P = np.zeros(size, dtype=np.bool_)
    if gaps_C.size == 0:
        return mask_P
    is_last_C = gaps_C < _MORE
    if not is_last_C[-1]:
        return None
    start_W = np.flatnonzero(np.concatenate([[True], is_last_C[:-1]]))
    width_W = np.diff(start_W, append=gaps_C.size)
    if width_W.max() > _WIDEST:
        return None
    place_C = np.arange(gaps_C.size) - np.repeat(start_W, width_W)
    gaps_W = np.add.reduceat((gaps_C.astype(np.int64) & (_MORE - 1)) << 7 * place_C, start_W)
    exist_W = np.cumsum(gaps_W + 1) - 1
    if exist_W[-1] >= size:
        return None
    mask_P[exist_W] = True
    return mask_P


def _in_form(form: int, content_C: Octets) -> Octets:
    return np.concatenate([np.array([form], dtype=np.uint8), content_C])


def _bitmap_size(size: int) -> int:
    return (size + 7) // 8
