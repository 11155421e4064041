"""The one-peer graph of ExpoComm over time; `agents.comm.expocomm_one_peer` is one step.

    own parts (all steps) -> step by step: the slot's neighbour -> GRU over messages -> message

The neighbour is a rotation, by another number of agents in each episode whose window begins at
another step: a permutation of rows, and nothing of size N × N.

Dimension key: T = time, B = batch, N = agents, R = B × N rows, M = message.
"""

import torch
from torch import Tensor
from torch.nn import functional

from learner.kernels.straight_through import straight_through


def one_peer_sequence(
    own_part_TBNM: Tensor,
    peers_TBN: Tensor,
    start_BNM: Tensor,
    memory_BNM: Tensor,
    heard_MM: Tensor,
    memory: torch.nn.GRUCell,
    *,
    half: bool,
) -> tuple[Tensor, Tensor]:
    """[T, B, N, M] messages before rounding, and the last one as it crosses the wire.

    The last message before rounding is the state with which a next call goes on.

    Args:
        own_part_TBNM: what x owes to the receiver's own state, bias included.
        peers_TBN: int64: whose message of the step before is heard, the agent itself where nobody
            else is.
        start_BNM: own messages before the first step as they cross the wire.
        memory_BNM: the same before rounding, the state of the message GRU.
        heard_MM: from what is heard to x, [out, in].
        memory: the message GRU.
        half: messages cross the wire as float16; the gradient passes the rounding unchanged.
    """
    time, batch, agents, size = own_part_TBNM.shape
    first_B1 = torch.arange(batch, device=peers_TBN.device).unsqueeze(1) * agents
    rows_TR = (peers_TBN + first_B1).view(time, -1)
    own_TRM = own_part_TBNM.reshape(time, -1, size)
    sent_RM, state_RM = start_BNM.reshape(-1, size), memory_BNM.reshape(-1, size)
    messages: list[Tensor] = []
    for own_RM, rows_R in zip(own_TRM.unbind(0), rows_TR.unbind(0), strict=True):
        heard_RM = sent_RM.index_select(0, rows_R)
        state_RM = memory(functional.relu(torch.addmm(own_RM, heard_RM, heard_MM.t())), state_RM)
        messages.append(state_RM)
        sent_RM = state_RM
        if half:
            rounded = state_RM.detach().half().to(state_RM.dtype)
            sent_RM = straight_through(state_RM, rounded)
    return torch.stack(messages).view(own_part_TBNM.shape), sent_RM.view(start_BNM.shape)
