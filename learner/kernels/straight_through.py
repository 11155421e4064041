"""Straight-through estimators: a hard value forward, the gradient of its smooth surrogate backward.

    gate     C = 1[score + noise > 0]         surrogate y = sigmoid((score + noise) / temperature)
    beacon   steps of 1/127 (int8) and back   surrogate: the beacon itself

SOPS, equations 3 and 4. The forward value is exactly the hard one: `hard + y - stopgrad(y)` in
floating point is not always, and an agent's softmax would then differ from the learner's.

The gradient of a message passes its rounding to float16 (in learner/comm/messages.py as well, which
has a backward pass of its own).
"""

from typing import Any

import torch
from torch import Tensor

from configs.schema import BeaconDtype, MessageDtype

BEACON_STEPS = 127.0


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, hard: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        return hard.view_as(hard)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        return gradient, None


def straight_through(surrogate: Tensor, hard: Tensor) -> Tensor:
    """`hard` with the gradient of `surrogate`, both of one shape."""
    function: Any = _StraightThrough  # torch does not type apply()
    result: Tensor = function.apply(surrogate, hard)
    return result


def round_beacon(beacon: Tensor, dtype: BeaconDtype) -> Tensor:
    """What a receiver reads of a beacon, whose entries lie in [-1, 1]: int8 by default."""
    if dtype == "float32":
        return beacon
    if dtype == "float16":
        return straight_through(beacon, beacon.detach().half().to(beacon.dtype))
    return straight_through(beacon, torch.round(beacon.detach() * BEACON_STEPS) / BEACON_STEPS)


def round_message(message: Tensor, dtype: MessageDtype) -> Tensor:
    """What a receiver reads of a message: float16 by default."""
    if dtype == "float32":
        return message
    return straight_through(message, message.detach().half().to(message.dtype))
