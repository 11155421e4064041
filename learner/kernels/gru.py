"""A GRU over a whole sequence on a CPU, forward and backward written by hand.

    x -> W_i x of all steps (one product) -> step by step: gates, candidate, state

    r, z = sigmoid(W_i x + W_h h + b)         n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    h'   = n + z (h - n)

torch's own GRU makes a dozen tensors per step and walks a graph of as many nodes back. Here every
step works in place on rows of buffers that hold all steps, which stay in the cache between its
operations; and the gradients of weights are three products over all steps, after the last one.

Dimension key: T = time, R = sequences (rows), X = input features, H = hidden,
G = 2 H, both gates.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        states, _ = _run(inputs_TRX, start_RH, weight_ih, weight_hh, bias_ih, bias_hh, keep=False)
        return states[1:]
    function: Any = _Gru  # torch does not type apply()
    result: Tensor = function.apply(*arguments)
    return result


@dataclass(slots=True, eq=False)
class _Steps:
    """What backward needs of all steps besides the states."""

    r_z_TRG: Tensor
    """[T, R, 2 H] both gates, side by side because one product makes them."""
    n_TRH: Tensor
    """Candidates."""
    recurrent_TRH: Tensor
    """W_hn h + b_hn, which r scales."""


def _run(
    inputs_TRX: Tensor,
    start_RH: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    *,
    keep: bool,
) -> tuple[Tensor, _Steps]:
    """[T + 1, R, H] states with the start in front, and the steps; only the last one's `recurrent`
    unless they are to be kept.
    """
    time, rows, features = inputs_TRX.shape
    hidden = start_RH.shape[1]
    two = 2 * hidden
    # What does not depend on the state, all steps at once; the steps add to it in place.
    flat = inputs_TRX.reshape(-1, features)
    r_z = torch.addmm(bias_ih[:two] + bias_hh[:two], flat, weight_ih[:two].t())
    n = torch.addmm(bias_ih[two:], flat, weight_ih[two:].t())
    steps = _Steps(
        r_z.view(time, rows, two),
        n.view(time, rows, hidden),
        start_RH.new_empty(time if keep else 1, rows, hidden),
    )
    states = start_RH.new_empty(time + 1, rows, hidden)
    states[0] = start_RH
    weight_r_z, weight_n = weight_hh[:two].t(), weight_hh[two:].t()
    bias_n = bias_hh[two:]
    all_recurrent = steps.recurrent_TRH.expand(time, -1, -1).unbind(0)
    before, *later = states.unbind(0)
    for r_z, n, recurrent, after in zip(
        steps.r_z_TRG.unbind(0), steps.n_TRH.unbind(0), all_recurrent, later, strict=True
    ):
        r_z.addmm_(before, weight_r_z).sigmoid_()
        torch.addmm(bias_n, before, weight_n, out=recurrent)
        r, z = r_z[:, :hidden], r_z[:, hidden:]
        tanh_(n.addcmul_(r, recurrent))
        torch.lerp(n, before, z, out=after)
        before = after
    return states, steps


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
        states, ctx.steps = _run(
            inputs_TRX, start_RH, weight_ih, weight_hh, bias_ih, bias_hh, keep=True
        )
        result = states[1:]
        ctx.save_for_backward(inputs_TRX, start_RH, weight_ih, weight_hh, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, gradient_TRH: Tensor
    ) -> tuple[Tensor | None, ...]:
        inputs_TRX, start_RH, weight_ih, weight_hh, states = ctx.saved_tensors
        # Gradients take the place of the numbers that they are made of: there is no second time.
        steps: _Steps = ctx.steps
        ctx.steps = None
        time, rows, hidden = states.shape
        two = 2 * hidden
        weight_r_z, weight_n = weight_hh[:two], weight_hh[two:]
        d_sigmoid: Any = torch.ops.aten.sigmoid_backward.grad_input
        d_tanh: Any = torch.ops.aten.tanh_backward.grad_input
        d_state = torch.zeros_like(start_RH)
        through_z, work = torch.empty_like(start_RH), torch.empty_like(start_RH)
        befores = (start_RH, *states[:-1].unbind(0))
        backwards = zip(
            befores,
            gradient_TRH.unbind(0),
            steps.r_z_TRG.unbind(0),
            steps.n_TRH.unbind(0),
            steps.recurrent_TRH.unbind(0),
            strict=True,
        )
        for before, gradient, r_z, n, recurrent in reversed(list(backwards)):
            r, z = r_z[:, :hidden], r_z[:, hidden:]
            d_state.add_(gradient)
            torch.mul(d_state, z, out=through_z)
            torch.sub(before, n, out=work).mul_(d_state)
            d_sigmoid(work, z, grad_input=z)
            d_tanh(torch.sub(d_state, through_z, out=work), n, grad_input=n)
            torch.mul(n, recurrent, out=work)
            torch.mul(n, r, out=recurrent)
            d_sigmoid(work, r, grad_input=r)
            torch.addmm(through_z, r_z, weight_r_z, out=d_state)
            d_state.addmm_(recurrent, weight_n)

        d_r_z = steps.r_z_TRG.view(time * rows, two)
        d_n = steps.n_TRH.view(time * rows, hidden)
        d_recurrent = steps.recurrent_TRH.view(time * rows, hidden)
        inputs = inputs_TRX.reshape(time * rows, -1)
        d_inputs = None
        if ctx.needs_input_grad[0]:
            d_inputs = (d_r_z @ weight_ih[:two]).addmm_(d_n, weight_ih[two:])
            d_inputs = d_inputs.view(inputs_TRX.shape)

        def from_states(d_steps: Tensor) -> Tensor:
            """Summed over time, along the state before each step."""
            first = d_steps[:rows].t() @ start_RH
            return first.addmm_(d_steps[rows:].t(), states[:-1].reshape(-1, hidden))

        d_bias_r_z = d_r_z.sum(0)
        return (
            d_inputs,
            d_state,
            torch.cat((d_r_z.t() @ inputs, d_n.t() @ inputs)),
            torch.cat((from_states(d_r_z), from_states(d_recurrent))),
            torch.cat((d_bias_r_z, d_n.sum(0))),
            torch.cat((d_bias_r_z, d_recurrent.sum(0))),
        )
