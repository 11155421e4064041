import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from agents.rounding import beacon_from_wire, beacon_to_wire, message_from_wire, message_to_wire
from configs.arrays import FloatArray

vectors = st.lists(st.floats(-1.0, 1.0, width=32), min_size=1, max_size=8).map(
    lambda numbers: np.array([numbers], dtype=np.float32)
)
without_deadline = settings(deadline=None, max_examples=50)


def message_there_and_back(message: FloatArray) -> FloatArray:
    return message_from_wire(message_to_wire(message, "float16"))


def beacon_there_and_back(beacon: FloatArray) -> FloatArray:
    return beacon_from_wire(beacon_to_wire(beacon, "int8"))


@given(vectors)
@without_deadline
def test_float32_loses_nothing(vector: FloatArray) -> None:
    assert_array_equal(message_from_wire(message_to_wire(vector, "float32")), vector)
    assert_array_equal(beacon_from_wire(beacon_to_wire(vector, "float32")), vector)


@given(vectors)
@without_deadline
def test_a_message_is_rounded_to_half_precision(vector: FloatArray) -> None:
    # Half of the last of eleven bits, or of the smallest subnormal.
    assert_allclose(message_there_and_back(vector), vector, rtol=2**-11, atol=2**-25)


@given(vectors)
@without_deadline
def test_a_beacon_is_rounded_to_the_nearest_of_its_steps(vector: FloatArray) -> None:
    # Half a step, and what the division adds.
    assert_allclose(beacon_there_and_back(vector), vector, rtol=0, atol=0.5 / 127 + 1e-7)


@given(vectors)
@without_deadline
def test_what_has_been_rounded_once_is_not_rounded_again(vector: FloatArray) -> None:
    message = message_there_and_back(vector)
    assert_array_equal(message_there_and_back(message), message)
    beacon = beacon_there_and_back(vector)
    assert_array_equal(beacon_there_and_back(beacon), beacon)


def test_a_beacon_keeps_its_ends_and_its_zero() -> None:
    ends = np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)
    assert_array_equal(beacon_to_wire(ends, "int8"), np.array([[-127, 0, 127]]))
    assert_array_equal(beacon_there_and_back(ends), ends)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_computed_with_is_float32(dtype: str) -> None:
    assert dtype in ("float16", "float32")
    rows = message_to_wire(np.zeros((2, 3), dtype=np.float32), dtype)
    assert rows.dtype == dtype
    assert message_from_wire(rows).dtype == np.float32


@given(vectors)
@without_deadline
def test_a_beacon_of_half_precision_keeps_eleven_bits(vector: FloatArray) -> None:
    rows = beacon_to_wire(vector, "float16")
    assert rows.dtype == np.float16
    assert_allclose(beacon_from_wire(rows), vector, rtol=2**-11, atol=2**-25)


def test_beacons_cross_as_bytes() -> None:
    rows = beacon_to_wire(np.zeros((2, 3), dtype=np.float32), "int8")
    assert rows.dtype == np.int8
    assert beacon_from_wire(rows).dtype == np.float32
