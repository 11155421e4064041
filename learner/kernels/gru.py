"""A GRU over a whole sequence on a CPU, forward and backward written by hand.

    x -> W_i x of all steps (one product) -> step by step: gates, candidate, state

    r, z = sigmoid(W_i x + W_h h + b)         n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    h'   = n + z (h - n)

torch's own GRU makes a dozen tensors per step and walks a graph of as many nodes back. Here every
step works in place on rows of buffers that hold all steps, which stay in the cache between its
operations; and the gradients of weights are three products over all steps, after the last one.

Dimension key: T = time, R = sequences (rows), X = input features, H = hidden,
G = 3 H: r, z and n side by side.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from learner.kernels.products import gradient_of_weight, linear, linear_onto
from learner.kernels.tanh import tanh_


def run_gru(module: nn.GRU, inputs_TRX: Tensor, start_RH: Tensor) -> Tensor:
    """[T, R, H] states of a GRU of one layer, by what is fastest where its inputs are."""
    if inputs_TRX.is_cuda:  # cuDNN's is one kernel for all steps
        states, _ = module(inputs_TRX, start_RH.unsqueeze(0).contiguous())
        return states
    parameters = dict(module.named_parameters())
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return gru(inputs_TRX, start_RH, *(parameters[name] for name in names))


def gru(
    inputs_TRX: Tensor,
    start_RH: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> Tensor:
    """[T, R, H] states of the GRU whose parameters are laid out like those of nn.GRU."""
    arguments = (inputs_TRX, start_RH, weight_ih, weight_hh, bias_ih, bias_hh)
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in arguments)):
        return _run(*arguments, keep=False).states_TRH[1:]
    function: Any = _Gru  # torch does not type apply()
    result: Tensor = function.apply(*arguments)
    return result


@dataclass(slots=True, eq=False)
class _Steps:
    """All steps, and what backward needs of them besides inputs and weights."""

    states_TRH: Tensor
    """[T + 1, R, H] with the start in front."""
    gates_TRG: Tensor
    """r, z and the candidates n, side by side because one product makes them."""
    recurrent_TRH: Tensor
    """W_hn h + b_hn, which r scales; of the last step only unless they are kept."""


def _run(
    inputs_TRX: Tensor,
    start_RH: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    *,
    keep: bool,
) -> _Steps:
    time, rows, features = inputs_TRX.shape
    hidden = start_RH.shape[1]
    two = 2 * hidden
    # What does not depend on the state, all steps at once; the steps add to it in place.
    gates = linear(inputs_TRX.reshape(-1, features), weight_ih, bias_ih)
    steps = _Steps(
        start_RH.new_empty(time + 1, rows, hidden),
        gates.view(time, rows, 3 * hidden),
        start_RH.new_empty(time if keep else 1, rows, hidden),
    )
    steps.states_TRH[0] = start_RH
    all_recurrent = steps.recurrent_TRH.expand(time, -1, -1).unbind(0)
    r_z_TRG, n_TRH = steps.gates_TRG[..., :two], steps.gates_TRG[..., two:]
    before, *later = steps.states_TRH.unbind(0)
    for r_z, r, z, n, recurrent, after in zip(
        r_z_TRG.unbind(0),
        r_z_TRG[..., :hidden].unbind(0),
        r_z_TRG[..., hidden:].unbind(0),
        n_TRH.unbind(0),
        all_recurrent,
        later,
        strict=True,
    ):
        of_state = linear(before, weight_hh, bias_hh)
        r_z.add_(of_state[:, :two]).sigmoid_()
        recurrent.copy_(of_state[:, two:])
        tanh_(n.addcmul_(r, recurrent))
        torch.lerp(n, before, z, out=after)
        before = after
    return steps


class _Gru(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any,
        inputs_TRX: Tensor,
        start_RH: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        steps = _run(inputs_TRX, start_RH, weight_ih, weight_hh, bias_ih, bias_hh, keep=True)
        ctx.steps = steps
        ctx.save_for_backward(inputs_TRX, weight_ih, weight_hh)
        return steps.states_TRH[1:]

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, gradient_TRH: Tensor
    ) -> tuple[Tensor | None, ...]:
        inputs_TRX, weight_ih, weight_hh = ctx.saved_tensors
        # Gradients take the place of the numbers that they are made of: there is no second time.
        steps: _Steps = ctx.steps
        ctx.steps = None
        time, rows, hidden = steps.recurrent_TRH.shape
        two = 2 * hidden
        d_sigmoid: Any = torch.ops.aten.sigmoid_backward.grad_input
        d_tanh: Any = torch.ops.aten.tanh_backward.grad_input
        d_state = torch.zeros_like(steps.states_TRH[0])
        through_z, work = torch.empty_like(d_state), torch.empty_like(d_state)
        d_gates = d_state.new_empty(rows, 3 * hidden)  # of a step, on the state's side
        d_r_z, d_n = d_gates[:, :two], d_gates[:, two:]
        back_to_state = weight_hh.t()
        r_z_TRG, n_TRH = steps.gates_TRG[..., :two], steps.gates_TRG[..., two:]
        backwards = zip(
            steps.states_TRH[:-1].unbind(0),
            gradient_TRH.unbind(0),
            r_z_TRG.unbind(0),
            r_z_TRG[..., :hidden].unbind(0),
            r_z_TRG[..., hidden:].unbind(0),
            n_TRH.unbind(0),
            steps.recurrent_TRH.unbind(0),
            strict=True,
        )
        for before, gradient, r_z, r, z, n, recurrent in reversed(list(backwards)):
            d_state.add_(gradient)
            torch.mul(d_state, z, out=through_z)
            torch.sub(before, n, out=work).mul_(d_state)
            d_sigmoid(work, z, grad_input=z)
            d_tanh(torch.sub(d_state, through_z, out=work), n, grad_input=n)
            torch.mul(n, recurrent, out=work)
            d_n.copy_(torch.mul(n, r, out=recurrent))
            d_sigmoid(work, r, grad_input=r)
            d_r_z.copy_(r_z)
            d_state = linear_onto(through_z, d_gates, back_to_state)

        d_all = steps.gates_TRG.view(time * rows, 3 * hidden)
        d_recurrent = steps.recurrent_TRH.view(time * rows, hidden)
        before_all = steps.states_TRH[:-1].view(time * rows, hidden)
        inputs = inputs_TRX.reshape(time * rows, -1)
        d_inputs = None
        if ctx.needs_input_grad[0]:
            d_inputs = linear(d_all, weight_ih.t()).view(inputs_TRX.shape)
        d_bias = d_all.sum(0)
        return (
            d_inputs,
            d_state,
            gradient_of_weight(inputs, d_all),
            gradient_of_weight(before_all, d_all[:, :two], d_recurrent),
            d_bias,
            torch.cat((d_bias[:two], d_recurrent.sum(0))),
        )
