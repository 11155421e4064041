"""Attention over the own last message and those of the in-neighbours whose edge is open.

    query, key, messages, gates -> softmax over own + open -> mixture of messages   (equation 5)

On the exponential graph hearing from i - 2^k is a rotation by 2^k, so K slices of `cat([x, x])`
stand in for a gather and nothing of size N × N is built. The gradient is written by hand: autograd
would fill a [B, 2N, M] tensor of zeros for each slice of each step, which cost more than all the
rest.

    w_0 = exp(l_0 - mx) / D                     D = exp(l_0 - mx) + sum over k of C_k exp(l_k - mx)
    w_k = C_k exp(l_k - mx) / D

with mx the maximum over the own and the open tokens. One of these has exp(0), so D is at least 1
and survives no open edge and logits of any size. For C in {0, 1} this is the masked softmax, and
dw/dC is what the straight-through gate is trained by. A closed token may have a larger logit than
all open ones; its exp is cut at exp(0), so that it pulls no harder than the loudest open one.

Dimension key: B = batch, N = agents, K = offsets, Q = query and key size, M = message.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _heard(doubled_B2NX: Tensor, offset: int, agents: int) -> Tensor:
    """[B, N, X] view: entry i is that of agent i - offset."""
    return doubled_B2NX[:, agents - offset : 2 * agents - offset]


def _give_back(total_BNX: Tensor, heard_BNX: Tensor, offset: int) -> None:
    """Add what receiver i says about its sender to agent i - offset."""
    agents = total_BNX.shape[1]
    total_BNX[:, : agents - offset] += heard_BNX[:, offset:]
    total_BNX[:, agents - offset :] += heard_BNX[:, :offset]


class _CirculantAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, query_BNQ: Tensor, key_BNQ: Tensor, message_BNM: Tensor, gates_BNK: Tensor
    ) -> Tensor:
        agents, offsets = gates_BNK.shape[1:]
        keys = torch.cat((key_BNQ, key_BNQ), dim=1)
        messages = torch.cat((message_BNM, message_BNM), dim=1)
        own_BN = (query_BNQ * key_BNQ).sum(-1)
        heard = [(query_BNQ * _heard(keys, 1 << k, agents)).sum(-1) for k in range(offsets)]
        logits_BNK = torch.stack(heard, dim=-1)
        open_only = logits_BNK.masked_fill(gates_BNK == 0, float("-inf"))
        peak_BN = torch.cat((own_BN.unsqueeze(-1), open_only), dim=-1).amax(-1)
        exp_own_BN = (own_BN - peak_BN).exp()
        exp_BNK = (logits_BNK - peak_BN.unsqueeze(-1)).clamp(max=0.0).exp()
        total_BN = exp_own_BN + (gates_BNK * exp_BNK).sum(-1)
        share_own_BN = exp_own_BN / total_BN
        share_BNK = exp_BNK / total_BN.unsqueeze(-1)
        result = share_own_BN.unsqueeze(-1) * message_BNM
        weights_BNK = gates_BNK * share_BNK
        for k in range(offsets):
            result.addcmul_(weights_BNK[..., k, None], _heard(messages, 1 << k, agents))
        ctx.save_for_backward(query_BNQ, keys, messages, share_own_BN, share_BNK, gates_BNK)
        return result

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, gradient_BNM: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query_BNQ, keys, messages, share_own_BN, share_BNK, gates_BNK = ctx.saved_tensors
        agents, offsets = gates_BNK.shape[1:]
        key_BNQ, message_BNM = keys[:, :agents], messages[:, :agents]
        weights_BNK = gates_BNK * share_BNK

        # Of the result, along each token: g · m_k; then what softmax makes of it.
        along_own_BN = (gradient_BNM * message_BNM).sum(-1)
        along = [(gradient_BNM * _heard(messages, 1 << k, agents)).sum(-1) for k in range(offsets)]
        along_BNK = torch.stack(along, dim=-1)
        mean_BN = share_own_BN * along_own_BN + (weights_BNK * along_BNK).sum(-1)
        d_own_BN1 = (share_own_BN * (along_own_BN - mean_BN)).unsqueeze(-1)
        d_gates_BNK = share_BNK * (along_BNK - mean_BN.unsqueeze(-1))
        d_logits_BNK = gates_BNK * d_gates_BNK

        d_query = d_own_BN1 * key_BNQ
        d_key = d_own_BN1 * query_BNQ
        d_message = share_own_BN.unsqueeze(-1) * gradient_BNM
        for k in range(offsets):
            d_logit_BN1 = d_logits_BNK[..., k, None]
            d_query.addcmul_(d_logit_BN1, _heard(keys, 1 << k, agents))
            _give_back(d_key, d_logit_BN1 * query_BNQ, 1 << k)
            _give_back(d_message, weights_BNK[..., k, None] * gradient_BNM, 1 << k)
        return d_query, d_key, d_message, d_gates_BNK


def attend(query_BNQ: Tensor, key_BNQ: Tensor, message_BNM: Tensor, gates_BNK: Tensor) -> Tensor:
    """[B, N, M] for each receiver the attended mixture of messages.

    Args:
        query_BNQ: of the receivers, already scaled.
        key_BNQ: of each agent's own last message.
        message_BNM: each agent's own last message as it crosses the wire.
        gates_BNK: in-edges of each receiver, entry k from agent i - 2^k: 1 where a message is
        heard.
    """
    function: Any = _CirculantAttention  # torch does not type apply()
    result: Tensor = function.apply(query_BNQ, key_BNQ, message_BNM, gates_BNK)
    return result
