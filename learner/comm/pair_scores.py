"""Scores of all edges of all steps, without a tensor for each offset.

    f(z_i, z_j, e_k) = w · relu(W_i z_i + W_j z_j + W_e e_k)        (equation 2, first layer split)

Receiver i + 2^k of sender i is a rotation by -2^k, so the sum for offset k is a slice of the peers'
parts, laid end to end twice. Left to autograd it would keep K tensors of [T, B, N, S], by far the
most that an update has to keep. Here a few steps at a time are worked off, small enough to stay in
the cache from their sum to their score, and backward makes them again.

Dimension key: T = time, B = batch, N = agents, K = offsets, S = the scorer's hidden units.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_NUMBERS_AT_ONCE = {"cpu": 130_000, "cuda": 50_000_000}
"""Of the scorer's hidden layer: a core's cache holds three times that, in float32."""


def pair_scores(own_TBNS: Tensor, peer_TBNS: Tensor, edge_KS: Tensor, out_S: Tensor) -> Tensor:
    """[T, B, N, K] out · relu(own of agent i + peer of agent i + 2^k + edge k)."""
    function: Any = _PairScores  # torch does not type apply()
    result: Tensor = function.apply(own_TBNS, peer_TBNS, edge_KS, out_S)
    return result


def _chunks(own_TBNS: Tensor) -> Iterator[slice]:
    """Steps that are worked off together."""
    time, step = len(own_TBNS), own_TBNS[0].numel()
    size = max(1, _NUMBERS_AT_ONCE[own_TBNS.device.type] // step)
    return (slice(t, t + size) for t in range(0, time, size))


def _hidden(own: Tensor, doubled: Tensor, edge_S: Tensor, shift: int) -> Tensor:
    agents = own.shape[2]
    return torch.add(own, doubled[:, :, shift : shift + agents]).add_(edge_S).relu_()


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, own_TBNS: Tensor, peer_TBNS: Tensor, edge_KS: Tensor, out_S: Tensor
    ) -> Tensor:
        ctx.save_for_backward(own_TBNS, peer_TBNS, edge_KS, out_S)
        scores_TBNK = own_TBNS.new_empty(*own_TBNS.shape[:3], len(edge_KS))
        for steps in _chunks(own_TBNS):
            own, peer = own_TBNS[steps], peer_TBNS[steps]
            doubled = torch.cat((peer, peer), dim=2)
            for k, edge_S in enumerate(edge_KS.unbind(0)):
                hidden = _hidden(own, doubled, edge_S, 1 << k)
                scores_TBNK[steps, ..., k] = (hidden.view(-1, len(out_S)) @ out_S).view(
                    own.shape[:3]
                )
        return scores_TBNK

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, gradient_TBNK: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own_TBNS, peer_TBNS, edge_KS, out_S = ctx.saved_tensors
        agents, size = own_TBNS.shape[2:]
        d_relu: Any = torch.ops.aten.threshold_backward.grad_input
        d_own_TBNS, d_peer_TBNS = torch.zeros_like(own_TBNS), torch.empty_like(peer_TBNS)
        d_edge_KS, d_out_S = torch.zeros_like(edge_KS), torch.zeros_like(out_S)
        for steps in _chunks(own_TBNS):
            own, peer, d_own = own_TBNS[steps], peer_TBNS[steps], d_own_TBNS[steps]
            doubled = torch.cat((peer, peer), dim=2)
            d_doubled = torch.zeros_like(doubled)
            for k, edge_S in enumerate(edge_KS.unbind(0)):
                shift = 1 << k
                hidden = _hidden(own, doubled, edge_S, shift)
                gradient = gradient_TBNK[steps, ..., k, None].contiguous()
                d_out_S.addmv_(hidden.view(-1, size).t(), gradient.view(-1))
                d_hidden = gradient * out_S
                d_relu(d_hidden, hidden, 0, grad_input=d_hidden)
                d_own += d_hidden
                d_doubled[:, :, shift : shift + agents] += d_hidden
                d_edge_KS[k] += d_hidden.view(-1, size).sum(0)
            # The two halves of the doubled agents are the same ones.
            torch.add(d_doubled[:, :, :agents], d_doubled[:, :, agents:], out=d_peer_TBNS[steps])
        return d_own_TBNS, d_peer_TBNS, d_edge_KS, d_out_S
