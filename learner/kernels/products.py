"""Matrix products on a CPU, by the faster of the two libraries that torch brings along.

    linear            x W^T + b          [R, in], [out, in], [out] -> [R, out]
    linear_onto       x W^T + there      [R, in], [out, in], [R, out] -> [R, out]
    gradient_of_weight  d^T x            [R, out], [R, in] -> [out, in]

torch hands float32 products to MKL, which uses AVX-512 on Intel's processors only. oneDNN uses it
everywhere, and on an AMD processor that has it, it is more than twice as fast. So where a processor
has AVX-512 the larger products go to oneDNN. The choice depends on the machine and on the shape and
never on a measurement: a seeded run repeats itself to the last bit.

Nothing here has a gradient: these are for functions whose backward pass is written by hand, and for
what needs none.

Dimension key: R = rows.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST = 1_000_000
"""Multiplications from which oneDNN is the faster one, its dearer call included."""
_ROWS_AT_ONCE = 4096
"""Rows that are turned round for a product and still lie in the cache when it reads them."""


def _find_onednn() -> Any:
    """oneDNN's linear layer; None where MKL is as good."""
    if not torch.backends.mkldnn.is_available():
        return None
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # pyright: ignore  # untyped


_onednn = _find_onednn()


def _suits(x: Tensor, outputs: int) -> bool:
    return (
        _onednn is not None
        and x.numel() * outputs >= _SMALLEST
        and x.dtype == torch.float32
        and x.device.type == "cpu"
    )


def _dense(weight: Tensor) -> Tensor:
    """The same without gaps between its rows or columns: for others oneDNN has no fast code."""
    out, inputs = weight.shape
    return weight if weight.stride() in ((inputs, 1), (1, out)) else weight.contiguous()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """[…, out] x W^T + b, or its positive part."""
    if _suits(x, len(weight)):
        return _onednn.default(x, _dense(weight), bias, "relu" if relu else "none", [], "")
    result = functional.linear(x, weight, bias)
    return result.relu_() if relu else result


def linear_onto(there_RO: Tensor, x_RI: Tensor, weight: Tensor) -> Tensor:
    """[R, out] there + x W^T, a new tensor."""
    if _suits(x_RI, len(weight)):
        return _onednn.binary(x_RI, there_RO, _dense(weight), None, "add")
    return torch.addmm(there_RO, x_RI, weight.t())


def gradient_of_weight(d_RO: Tensor, x_RI: Tensor) -> Tensor:
    """[out, in] d^T x: how the loss changes with W of x W^T, d being how it changes with that."""
    rows, inputs = x_RI.shape
    outputs = d_RO.shape[1]
    if not _suits(x_RI, outputs):
        return d_RO.t() @ x_RI
    # oneDNN wants rows of one factor one after the other, so that one is turned round: the
    # narrower.
    narrow, wide = (d_RO, x_RI) if outputs <= inputs else (x_RI, d_RO)
    total: Tensor | None = None
    for begin in range(0, rows, _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        product = _onednn.default(narrow[part].t(), _dense(wide[part].t()), None, "none", [], "")
        total = product if total is None else total.add_(product)
    assert total is not None
    return total if narrow is d_RO else total.t()
