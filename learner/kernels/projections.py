"""Several linear layers of one input.

    x -> W_1 x + b_1, W_2 x + b_2, …        and back: dx = dy_1 W_1 + dy_2 W_2 + …

Autograd would make one gradient of the input per layer and then add them up, which costs as much
memory traffic as the products themselves. Here the layers' gradients stand side by side and one
product adds up what they owe to the input, a few rows at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.kernels.products import at_once, beside, gradient_of_weight, linear

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
        d_layers: list[Tensor | None] = [None] * (2 * len(weights))
        wanted = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if not wanted:
            return None, *d_layers
        d_out = [d.reshape(-1, d.shape[-1]) for d in gradients if d is not None]
        sizes = [d.shape[1] for d in d_out]
        d_rows = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        if d_rows is not None:
            # One product with all layers side by side: it adds up what each of them owes to x.
            back = torch.cat([weights[i] for i in wanted]).t()
            for part in at_once(rows):
                d_rows[part] = linear(beside(part, *d_out), back)
        d_weights = torch.split_with_sizes(gradient_of_weight(rows, *d_out), sizes)
        for i, d, d_weight in zip(wanted, d_out, d_weights, strict=True):
            d_layers[2 * i] = d_weight
            d_layers[2 * i + 1] = d.sum(0) if ctx.has_bias[i] else None
        return None if d_rows is None else d_rows.view(x.shape), *d_layers
