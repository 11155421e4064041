"""Matrix products on a CPU, by the faster of the two libraries that torch brings along.

    linear            x W^T + b          [R, in], [out, in], [out] -> [R, out]
    linear_onto       x W^T + there      [R, in], [out, in], [R, out] -> [R, out]
    gradient_of_weight  d^T x          [R, in], [R, out] -> [out, in]

torch hands float32 products to MKL, which uses AVX-512 on Intel's processors only. oneDNN uses it
everywhere, and on an AMD processor that has it, it is more than twice as fast. So where a processor
has AVX-512 the larger products go to oneDNN. The choice depends on the machine and on the shape and
never on a measurement: a seeded run repeats itself to the last bit.

Nothing here has a gradient: these are for functions whose backward pass is written by hand, and for
what needs none.

Dimension key: R = rows.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from learner.kernels.rounded import product, rounds

_SMALLEST = 1_000_000
"""Multiplications from which oneDNN is the faster one, its dearer call included."""
_ROWS_AT_ONCE = 4096
"""Rows that are turned round for a product and still lie in the cache when it reads them."""
_WIDE = 96
"""Columns of the wider factor from which a product is worth turning the other one round."""


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
        and not rounds(x)
    )


def _dense(weight: Tensor) -> Tensor:
    """The same without gaps between its rows or columns: for others oneDNN has no fast code."""
    out, inputs = weight.shape
    return weight if weight.stride() in ((inputs, 1), (1, out)) else weight.contiguous()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """[…, out] x W^T + b, or its positive part."""
    if _suits(x, len(weight)):
        return _onednn.default(x, _dense(weight), bias, "relu" if relu else "none", [], "")
    if rounds(x):
        result = product(x, weight.t())
        result = result if bias is None else result.add_(bias)
    else:
        result = functional.linear(x, weight, bias)
    return result.relu_() if relu else result


def linear_onto(there_RO: Tensor, x_RI: Tensor, weight: Tensor) -> Tensor:
    """[R, out] there + x W^T, a new tensor."""
    if _suits(x_RI, len(weight)):
        return _onednn.binary(x_RI, there_RO, _dense(weight), None, "add")
    if rounds(x_RI):
        return product(x_RI, weight.t()).add_(there_RO)
    return torch.addmm(there_RO, x_RI, weight.t())


def gradient_of_weight(x_RI: Tensor, *d_RO: Tensor) -> Tensor:
    """[out, in] d^T x: how the loss changes with W of x W^T, d being how it changes with that.

    Args:
        d_RO: d, whole or in columns that belong side by side.
    """
    total: Tensor | None = None
    for rows in at_once(x_RI):
        d = beside(rows, *d_RO)
        of_rows = _turned(d, x_RI[rows])
        total = of_rows if total is None else total.add_(of_rows)
    assert total is not None
    return total


def at_once(x_RI: Tensor) -> Iterator[slice]:
    """Rows that are worked off together: what is made of them is still in the cache when it is
    read again, and takes no memory that matters.
    """
    size = _ROWS_AT_ONCE if x_RI.device.type == "cpu" else max(len(x_RI), 1)
    return (slice(begin, begin + size) for begin in range(0, max(len(x_RI), 1), size))


def beside(rows: slice, *columns_RO: Tensor) -> Tensor:
    """[rows, sum of O] columns side by side, copied if they lie apart."""
    if len(columns_RO) == 1:
        return columns_RO[0][rows]
    return torch.cat([columns[rows] for columns in columns_RO], 1)


def _turned(d_RO: Tensor, x_RI: Tensor) -> Tensor:
    outputs, inputs = d_RO.shape[1], x_RI.shape[1]
    if rounds(x_RI):
        return product(d_RO.t(), x_RI)
    if max(outputs, inputs) < _WIDE or not _suits(x_RI, outputs):
        return d_RO.t() @ x_RI
    # oneDNN wants numbers that are added up side by side, so one factor is turned round: the
    # narrower. Of two narrow ones that would take as long as MKL's product.
    if outputs <= inputs:
        return _onednn.default(d_RO.t(), _dense(x_RI.t()), None, "none", [], "")
    return _onednn.default(x_RI.t(), _dense(d_RO.t()), None, "none", [], "").t()
