"""Masks of edges: flags become numbers and numbers the same flags, however many edges there are."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.arrays import BoolArray
from configs.schema.limits import MOST_EDGES
from runtime.net import wire
from runtime.net.edge_bits import EdgeBits, edge_bits
from runtime.net.errors import WireFormatError
from runtime.net.packet import MOST_COPIES

SIZES = (1, 7, 16, 17, 63, 64, 65, 114, 128, 129, MOST_EDGES)


def some_flags(num_edges: int) -> BoolArray:
    flags: BoolArray = np.random.default_rng(num_edges).random((3, 5, num_edges)) < 0.5
    flags[0, 0] = True
    flags[0, 1] = False
    return flags


@pytest.mark.parametrize("num_edges", SIZES)
def test_masks_say_what_flags_say(num_edges: int) -> None:
    bits, flags = EdgeBits(num_edges), some_flags(num_edges)
    masks = bits.pack(flags)
    assert bits.fit(masks, 3, 5)
    assert_array_equal(bits.unpack(masks), flags)
    assert_array_equal(masks[0, 0], bits.every)
    assert_array_equal(masks[0, 1], bits.zeros())


@pytest.mark.parametrize("num_edges", SIZES)
def test_bit_k_is_edge_k(num_edges: int) -> None:
    bits = EdgeBits(num_edges)
    for k in range(num_edges):
        alone = bits.of_each[k][None]
        assert bits.in_any(alone) == 1 << k
        assert bits.exist(alone)
    two = np.stack([bits.of_each[0], bits.of_each[-1]])
    assert bits.in_any(two) == 1 | 1 << num_edges - 1


@pytest.mark.parametrize("num_edges", [k for k in SIZES if k not in (16, 64, 128, MOST_EDGES)])
def test_bits_of_no_edge_are_told_and_left_out(num_edges: int) -> None:
    bits = EdgeBits(num_edges)
    masks = ~bits.zeros(2)
    assert not bits.exist(masks)
    assert bits.in_any(masks) == bits.in_any(masks[:1]) == (1 << num_edges) - 1


@pytest.mark.parametrize("num_edges", [7, 64, 114, MOST_EDGES])
def test_masks_of_all_copies_go_over_the_wire(num_edges: int) -> None:
    bits = edge_bits(num_edges)
    flags: BoolArray = np.random.default_rng(0).random((MOST_COPIES, num_edges)) < 0.5
    sent = wire.InMask(3, bits.pack(flags))
    got = wire.decode(wire.encode(sent))
    assert isinstance(got, wire.InMask)
    assert_array_equal(bits.unpack(got.in_masks), flags)


def test_masks_of_three_dimensions_are_refused() -> None:
    with pytest.raises(WireFormatError, match="expected 1 dimensions"):
        wire.decode(wire.encode(wire.InMask(3, np.zeros((2, 2, 2), dtype=np.uint64))))
