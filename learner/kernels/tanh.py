"""tanh by way of the sigmoid.

    tanh x = 2 sigmoid(2 x) - 1

torch's tanh on a CPU costs more than a product with a 64 x 64 matrix; by way of its sigmoid it
takes less than half as long, and both are off by a unit or two of the last place of 1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_MINUS_ONE = {dtype: torch.tensor(-1.0, dtype=dtype) for dtype in (torch.float32, torch.float64)}
"""One of another type would be converted in each call."""


def tanh_(x: Tensor) -> Tensor:
    """`x`, overwritten with its tanh; without a gradient."""
    if x.device.type != "cpu":
        return x.tanh_()
    return _finished(x.mul_(2.0))


def tanh(x: Tensor) -> Tensor:
    """tanh of a tensor that stays as it is, with its gradient."""
    function: Any = _Tanh  # torch does not type apply()
    result: Tensor = function.apply(x)
    return result


def _finished(twice: Tensor) -> Tensor:
    """2 x, overwritten with tanh x."""
    twice.sigmoid_()
    return torch.add(_MINUS_ONE[twice.dtype], twice, alpha=2.0, out=twice)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        result = _finished(x * 2.0) if x.device.type == "cpu" else x.tanh()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_result: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        (result,) = ctx.saved_tensors
        backward: Any = torch.ops.aten.tanh_backward
        return backward(d_result, result)
