"""Policy versions of which most weights are zero: a masked vector -> packet -> the same vector.

    Masked                -> whole   -> SparseParameters -> from_whole -> Masked
    Masked, the one before -> advance -> SparseDelta      -> from_delta -> Masked

A mask (MAST, section 3.1: M in θ ⊙ M) says where a weight exists. It moves much more rarely than
the weights, so it crosses with a whole version and when it has moved. Weights move with nearly
every step, but not far: the bits of a new value, xor those of the old, begin with zeros, and of
their octets, all first ones first, Deflate leaves little more than half. Exactly the same bits come
out at the other end.

Dimension key: P = parameters, W = weights that exist, C = octets.
"""

import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.policy import checksum
from configs.arrays import BoolArray, FloatArray
from runtime.net import wire
from runtime.net.masks import Octets, pack_mask, unpack_mask

_BITS: dict[int, type[np.unsignedinteger[Any]]] = {2: np.uint16, 4: np.uint32}
"""Integers as wide as the floats, by octets."""
_UNCHANGED = np.empty(0, dtype=np.uint8)


class Masked(NamedTuple):
    """A parameter vector and where it may differ from zero."""

    flat: FloatArray
    """[P] positive zero wherever the mask is False."""
    mask: BoolArray
    """[P] True where a weight exists; it may be zero all the same, as a new one is."""

    @classmethod
    def of(cls, flat: FloatArray, mask: BoolArray | None) -> "Masked":
        """Apply a mask; without one, what is zero does not exist.

        A negative weight times a mask's zero is negative zero: chosen and not multiplied, so that
        both ends have the same bits.
        """
        exists_P: BoolArray = flat != 0.0 if mask is None else mask.copy()
        return cls(np.where(exists_P, flat, np.float32(0.0)), exists_P)


def narrowest(values: FloatArray) -> NDArray[Any]:
    """The same values as float16 if each is one, bit for bit; else as they are."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    same = (halves.astype(np.float32).view(np.uint32) == values.view(np.uint32)).all()
    return halves if same else values


def whole(version: int, masked: Masked) -> wire.SparseParameters:
    """A full version, for a receiver that has none."""
    return wire.SparseParameters(
        version=version,
        crc32=checksum(masked.flat),
        size=masked.flat.size,
        mask=pack_mask(masked.mask),
        values=narrowest(masked.flat[masked.mask]),
    )


def from_whole(packet: wire.SparseParameters, size: int) -> Masked | None:
    """None if the packet is no vector of `size` parameters."""
    if packet.size != size:
        return None
    mask = unpack_mask(packet.mask, size)
    if mask is None or np.count_nonzero(mask) != packet.values.size:
        return None
    return _expand(mask, packet.values)


def advance(version: int, before: Masked, after: Masked) -> wire.SparseDelta:
    """What changes, for a receiver that has the version before."""
    same_mask = np.array_equal(before.mask, after.mask)
    old, new = before.flat[after.mask], after.flat[after.mask]
    both = narrowest(np.stack([old, new]))
    bits = both.view(_BITS[both.itemsize])
    difference = (bits[0] ^ bits[1]).astype(bits.dtype.newbyteorder("<"))
    octets = difference.view(np.uint8).reshape(-1, both.itemsize)
    return wire.SparseDelta(
        version=version,
        base_version=version - 1,
        crc32=checksum(after.flat),
        mask=_UNCHANGED if same_mask else pack_mask(after.mask),
        width=both.itemsize,
        difference=np.frombuffer(_deflate(octets.T.tobytes()), dtype=np.uint8),
    )


def from_delta(packet: wire.SparseDelta, before: Masked) -> Masked | None:
    """None if the packet is no way on from `before`."""
    mask = before.mask if packet.mask.size == 0 else unpack_mask(packet.mask, before.mask.size)
    if mask is None or packet.width not in _BITS:
        return None
    weights = int(np.count_nonzero(mask))
    octets_C = _inflate(packet.difference, weights * packet.width)
    if octets_C is None:
        return None
    bits = _BITS[packet.width]
    planes = octets_C.reshape(packet.width, weights)
    difference_W = np.ascontiguousarray(planes.T).view(np.dtype(bits).newbyteorder("<"))[:, 0]
    with np.errstate(over="ignore"):  # an old value that is no float16: the checksum will tell
        old_W = before.flat[mask].astype(np.float16 if packet.width == 2 else np.float32)
    values_W = (old_W.view(bits) ^ difference_W).astype(bits).view(old_W.dtype)
    return _expand(mask, values_W) if np.isfinite(values_W).all() else None


def _expand(mask: BoolArray, values_W: NDArray[Any]) -> Masked:
    flat = np.zeros(mask.size, dtype=np.float32)
    flat[mask] = values_W
    return Masked(flat, mask)


def _deflate(octets: bytes) -> bytes:
    # Without zlib's own header and checksum.
    return zlib.compress(octets, wbits=-zlib.MAX_WBITS)


def _inflate(deflated: Octets, size: int) -> Octets | None:
    """Exactly `size` octets, or None; a few octets can promise gigabytes, so never more."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        octets = stream.decompress(deflated.tobytes(), size + 1)
    except zlib.error:
        return None
    return np.frombuffer(octets, dtype=np.uint8) if len(octets) == size and stream.eof else None
