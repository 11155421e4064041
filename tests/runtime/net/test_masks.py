import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from configs.arrays import BoolArray
from runtime.net.masks import BITMAP, GAPS, Octets, pack_mask, unpack_mask


def mask_at(size: int, *exist: int) -> BoolArray:
    mask_P = np.zeros(size, dtype=np.bool_)
    mask_P[list(exist)] = True
    return mask_P


def random_mask(size: int, density: float) -> BoolArray:
    return np.random.default_rng(0).random(size) < density


@settings(deadline=None)
@given(mask_P=hnp.arrays(np.bool_, st.integers(0, 300)))
def test_every_mask_survives_the_round_trip(mask_P: BoolArray) -> None:
    assert_array_equal(unpack_mask(pack_mask(mask_P), mask_P.size), mask_P, strict=True)


@pytest.mark.parametrize("gap", [0, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21])
def test_gaps_of_every_width_survive_the_round_trip(gap: int) -> None:
    mask_P = mask_at(2**21 + 9, 3, 4 + gap)
    packed = pack_mask(mask_P)
    assert packed[0] == GAPS
    assert_array_equal(unpack_mask(packed, mask_P.size), mask_P, strict=True)


@pytest.mark.parametrize(
    ("mask_P", "octets"),
    [
        (mask_at(8, 0, 1, 3, 5, 7), "00 ab"),
        (mask_at(9, 0, 8), "00 01 01"),  # gaps would be no smaller
        (mask_at(40, 2, 3, 39), "01 02 00 23"),
        (mask_at(400, 300), "01 ac 02"),
        (mask_at(40), "01"),
        (mask_at(0), "00"),
    ],
)
def test_octets_on_the_wire_stay_what_they_are(mask_P: BoolArray, octets: str) -> None:
    assert pack_mask(mask_P).tobytes() == bytes.fromhex(octets)


@pytest.mark.parametrize(("density", "form"), [(0.5, BITMAP), (0.2, BITMAP), (0.1, GAPS)])
def test_the_smaller_form_is_chosen(density: float, form: int) -> None:
    mask_P = random_mask(10_000, density)
    packed = pack_mask(mask_P)
    assert packed[0] == form
    assert packed.size <= 1 + 10_000 // 8
    assert packed.size <= 1 + 1.1 * np.count_nonzero(mask_P) or form == BITMAP


SIZE = 20
"""Three octets as a bitmap, four bits of the last one empty."""


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "02 00 00 00",  # no such form
        "00 ff ff",
        "00 ff ff 0f 00",
        "00 ff ff 1f",  # an entry beyond the end
        "01 14",
        "01 13 00",
        "01 80",  # a gap that does not end
        "01 00 80 80",
        "01 00 00 00 00",  # shorter as a bitmap
    ],
)
def test_octets_that_are_no_mask_are_refused(octets: str) -> None:
    assert unpack_mask(np.frombuffer(bytes.fromhex(octets), dtype=np.uint8), SIZE) is None


def test_a_gap_of_five_octets_is_refused() -> None:
    packed: Octets = np.array([GAPS, 0x80, 0x80, 0x80, 0x80, 0x00], dtype=np.uint8)
    assert unpack_mask(packed, 100) is None
    assert_array_equal(unpack_mask(packed[[0, 1, 2, 3, 5]], 100), mask_at(100, 0))
