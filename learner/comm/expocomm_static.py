"""The static exponential graph of ExpoComm over time; `agents.comm.expocomm_static` is one step.

    queries (all steps) -> step by step: attention over own and heard messages -> message

With own state the recurrence is that of SOPS (`learner.comm.messages`). As released a message is
linear in messages, and this one is left to autograd: it is a baseline that transmits nothing.

Dimension key: T = time, B = batch, N = agents, K = offsets, J = 1 + K tokens, M = message.
"""

import torch
from torch import Tensor

from agents.comm.expocomm_static import LARGEST
from learner.kernels.straight_through import straight_through


def released_sequence(
    queries_TBNM: Tensor,
    heard_TBNK: Tensor,
    start_BNM: Tensor,
    value_MM: Tensor,
    bias_M: Tensor,
    *,
    half: bool,
) -> tuple[Tensor, Tensor]:
    """[T, B, N, M] messages before rounding, and the last one as it crosses the wire.

    Args:
        queries_TBNM: of the receivers, scaled and through the transposed key matrix.
        heard_TBNK: in-edges of each receiver, entry k from agent i - 2^k: 1 where a message of the
            step before is heard.
        start_BNM: own messages before the first step as they cross the wire.
        value_MM: the value projection, [out, in].
        bias_M: its bias.
        half: messages cross the wire as float16; the gradient passes the rounding unchanged.
    """
    messages: list[Tensor] = []
    sent_BNM = start_BNM
    for query_BNM, heard_BNK in zip(queries_TBNM, heard_TBNK, strict=True):
        tokens = [sent_BNM, *(sent_BNM.roll(1 << k, dims=1) for k in range(heard_BNK.shape[-1]))]
        logits_BNJ = torch.stack([(query_BNM * token).sum(-1) for token in tokens], dim=-1)
        openness_BNK = torch.zeros_like(heard_BNK).masked_fill(heard_BNK == 0, float("-inf"))
        logits_BNJ = logits_BNJ + torch.nn.functional.pad(openness_BNK, (1, 0))
        weights = torch.softmax(logits_BNJ, dim=-1).unsqueeze(-1).unbind(-2)
        mixture_BNM = sum(
            (weight * token for weight, token in zip(weights, tokens, strict=True)),
            start=torch.zeros_like(sent_BNM),
        )
        message_BNM = torch.nn.functional.linear(mixture_BNM, value_MM, bias_M)
        message_BNM = message_BNM.clamp(-LARGEST, LARGEST)
        messages.append(message_BNM)
        sent_BNM = message_BNM
        if half:
            rounded = message_BNM.detach().half().to(message_BNM.dtype)
            sent_BNM = straight_through(message_BNM, rounded)
    return torch.stack(messages), sent_BNM
