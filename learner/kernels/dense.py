"""Linear layers with a rectifier, forward and backward by learner/kernels/products.py.

    dense    x -> W x + b, or its positive part
    head     p, m -> W_o relu(p + W m) + b_o          p: what the hidden layer owes to other inputs

Dimension key: R = rows, I = inputs, H = hidden units, O = outputs, M = message.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.kernels.products import gradient_of_weight, linear, linear_onto


def dense(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool = False) -> Tensor:
    """[…, I] -> […, O]"""
    function: Any = _Dense  # torch does not type apply()
    result: Tensor = function.apply(x.reshape(-1, x.shape[-1]), weight, bias, relu)
    return result.view(*x.shape[:-1], -1)


def head(
    part_RH: Tensor, message_RM: Tensor, weight_HM: Tensor, out_OH: Tensor, bias_O: Tensor
) -> Tensor:
    """[R, O] of a hidden layer whose product with its other inputs is there already.

    Args:
        part_RH: that product, with the hidden layer's bias.
        message_RM: the input that is missing.
        weight_HM: its weights in the hidden layer.
        out_OH: weights of the output layer.
        bias_O: its bias.
    """
    function: Any = _Head  # torch does not type apply()
    result: Tensor = function.apply(part_RH, message_RM, weight_HM, out_OH, bias_O)
    return result


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, x_RI: Tensor, weight: Tensor, bias: Tensor, relu: bool
    ) -> Tensor:
        out_RO = linear(x_RI, weight, bias, relu=relu)
        ctx.relu = relu
        ctx.save_for_backward(x_RI, weight, *([out_RO] if relu else []))
        return out_RO

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, d_out_RO: Tensor
    ) -> tuple[Tensor | None, ...]:
        x_RI, weight, *positive = ctx.saved_tensors
        if ctx.relu:
            d_out_RO = torch.ops.aten.threshold_backward(d_out_RO, positive[0], 0)
        return (
            linear(d_out_RO, weight.t()) if ctx.needs_input_grad[0] else None,
            gradient_of_weight(x_RI, d_out_RO),
            d_out_RO.sum(0),
            None,
        )


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any,
        part_RH: Tensor,
        message_RM: Tensor,
        weight_HM: Tensor,
        out_OH: Tensor,
        bias_O: Tensor,
    ) -> Tensor:
        hidden_RH = linear_onto(part_RH, message_RM, weight_HM).relu_()
        ctx.save_for_backward(message_RM, weight_HM, hidden_RH, out_OH)
        return linear(hidden_RH, out_OH, bias_O)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, d_out_RO: Tensor
    ) -> tuple[Tensor | None, ...]:
        message_RM, weight_HM, hidden_RH, out_OH = ctx.saved_tensors
        d_relu: Any = torch.ops.aten.threshold_backward
        d_hidden_RH: Tensor = d_relu(linear(d_out_RO, out_OH.t()), hidden_RH, 0)
        return (
            d_hidden_RH,
            linear(d_hidden_RH, weight_HM.t()) if ctx.needs_input_grad[1] else None,
            gradient_of_weight(message_RM, d_hidden_RH),
            gradient_of_weight(hidden_RH, d_out_RO),
            d_out_RO.sum(0),
        )
