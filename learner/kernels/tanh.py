"""tanh of a whole buffer, in place.

    tanh x = 2 sigmoid(2 x) - 1

torch's tanh on a CPU costs more than a product with a 64 x 64 matrix; by way of its sigmoid it
takes half as long, and both are off by a unit or two of the last place of 1.
"""

import torch
from torch import Tensor

_MINUS_ONE = {dtype: torch.tensor(-1.0, dtype=dtype) for dtype in (torch.float32, torch.float64)}
"""One of another type would be converted in each call."""


def tanh_(x: Tensor) -> Tensor:
    """`x`, overwritten with its tanh."""
    if x.device.type != "cpu":
        return x.tanh_()
    x.mul_(2.0).sigmoid_()
    return torch.add(_MINUS_ONE[x.dtype], x, alpha=2.0, out=x)
