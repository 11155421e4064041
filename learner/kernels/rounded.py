"""Matrix products whose factors are rounded to bfloat16 and whose sums are float32.

    x, w -> 7 bits of fraction each -> x w in float32

On a GPU these are what tensor cores do fastest, and a rounded factor is half as much to read. On a
CPU the factors are rounded and multiplied in float32: the same numbers but for the order of sums,
to hold a GPU's against, and no faster. Nothing else is rounded: parameters, what layers hand on,
recurrences through messages, targets, losses and Adam's moments stay float32.

The setting is the process's, as torch's own for TF32 is: autograd's threads multiply as well.
"""

import torch
from torch import Tensor

_factors: torch.dtype = torch.float32


def round_factors_to(dtype: torch.dtype) -> None:
    """From now on; float32 rounds nothing."""
    global _factors
    _factors = dtype


def rounds(x: Tensor) -> bool:
    """Whether products of this tensor go by `product`."""
    return _factors is not torch.float32 and x.dtype == torch.float32


def product(x_RI: Tensor, w_IO: Tensor) -> Tensor:
    """[…, O] float32, from […, I] and [I, O]."""
    x, w = x_RI.to(_factors), w_IO.to(_factors)
    if x.is_cuda:
        rows = x.reshape(-1, x.shape[-1])
        made: Tensor = torch.mm(rows, w, out_dtype=torch.float32)  # pyright: ignore
        return made.view(*x.shape[:-1], -1)
    return x.float() @ w.float()
