"""Several linear layers of one input.

    x -> W_1 x + b_1, W_2 x + b_2, …        and back: dx = dy_1 W_1 + dy_2 W_2 + …

Autograd would make one gradient of the input per layer and then add them up, which costs as much
memory traffic as the products themselves; here each product adds to what is there.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.kernels.products import gradient_of_weight, linear, linear_onto

Layer = tuple[Tensor, Tensor | None]
"""Weight [out, in] and bias [out], or no bias."""


def projections(x: Tensor, *layers: Layer) -> tuple[Tensor, ...]:
    """[…, out] for each layer, from […, in]."""
    function: Any = _Projections  # torch does not type apply()
    flat: tuple[Tensor, ...] = function.apply(x, *(part for layer in layers for part in layer))
    return flat


class _Projections(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, x: Tensor, *layers: Tensor | None
    ) -> tuple[Tensor, ...]:
        weights, biases = layers[::2], layers[1::2]
        ctx.has_bias = [bias is not None for bias in biases]
        ctx.save_for_backward(x, *weights)
        ctx.set_materialize_grads(False)
        return tuple(linear(x, w, b) for w, b in zip(weights, biases, strict=True) if w is not None)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        rows = x.reshape(-1, x.shape[-1])
        d_rows: Tensor | None = None
        d_layers: list[Tensor | None] = []
        for gradient, weight, has_bias in zip(gradients, weights, ctx.has_bias, strict=True):
            if gradient is None:
                d_layers += (None, None)
                continue
            d_out = gradient.reshape(-1, gradient.shape[-1])
            d_layers += (gradient_of_weight(d_out, rows), d_out.sum(0) if has_bias else None)
            if ctx.needs_input_grad[0]:
                back = weight.t()
                d_rows = linear(d_out, back) if d_rows is None else linear_onto(d_rows, d_out, back)
        return None if d_rows is None else d_rows.view(x.shape), *d_layers
