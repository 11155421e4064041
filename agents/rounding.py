"""What messages and beacons lose on the wire, and the arrays that cross it.

A message is float16 or float32; a beacon, whose entries lie in [-1, 1], is int8 in steps of 1/127,
float16 or float32. Sender, receiver and the learner's unroll all use the rounded values, so that
what is trained is what runs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import FloatArray
from configs.schema import BeaconDtype, MessageDtype

BEACON_STEPS = np.float32(127.0)
LARGEST_OBSERVATION = 65504.0
"""Observations are float16 in training."""
LARGEST_BEACON = 1.0
"""Beacons are tangents."""


def is_plausible(rows: NDArray[Any], largest: float) -> bool:
    """Whether no number is larger than such a vector can have, without sign.

    Finite is not enough: one float32 of 1e38 makes a hidden state that is not a number for good.
    What float16 and int8 hold does no harm, and is not looked at.
    """
    return rows.dtype != np.float32 or not rows.size or bool(np.abs(rows).max() <= largest)


def message_to_wire(message: FloatArray, dtype: MessageDtype) -> NDArray[Any]:
    return message.astype(dtype)


def message_from_wire(rows: NDArray[Any]) -> FloatArray:
    return rows.astype(np.float32)


def beacon_to_wire(beacon: FloatArray, dtype: BeaconDtype) -> NDArray[Any]:
    if dtype == "int8":
        return np.rint(beacon * BEACON_STEPS).astype(np.int8)
    return beacon.astype(dtype, copy=False)


def beacon_from_wire(rows: NDArray[Any]) -> FloatArray:
    if rows.dtype == np.int8:
        return rows.astype(np.float32) / BEACON_STEPS
    return rows.astype(np.float32)
