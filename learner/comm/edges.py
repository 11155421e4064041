"""Edges of a circulant graph in tensors: the same edge, seen from either end.

Dimension key: T = time, B = batch, N = agents, K = edges of one direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from configs.schema import GateTiming
from envs.base import Snapshot
from learner.comm.base import SchemeTwin
from learner.comm.carry import Carry, UnrollInput


def at_receivers(x_TBN: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """[…, N] -> […, N, K] entry (i, k) is that of agent i + offset k."""
    return torch.stack([x_TBN.roll(-offset, dims=-1) for offset in offsets], dim=-1)


def at_senders(x_TBNK: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """[…, N, K] of out-edges -> the same edges seen by who hears: (j, k) is that of agent j -
    offset k.
    """
    edges = [x.roll(offset, dims=-1) for offset, x in zip(offsets, x_TBNK.unbind(-1), strict=True)]
    return torch.stack(edges, dim=-1)


def neighbours_seen(
    scheme: SchemeTwin, snapshots: Sequence[Snapshot], device: torch.device
) -> Tensor | None:
    """[1, B, N, K] bool: out-edges whose two ends are neighbours, as each of B environments sees it
    now; None: the scheme's graph does not move.
    """
    if not scheme.moves:
        return None
    pairs_BNN = np.array([snapshot.neighbours_NN for snapshot in snapshots], dtype=np.bool_)
    return torch.tensor(scheme.graph.edges_of(pairs_BNN), device=device).unsqueeze(0)


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """The step before each step."""

    alive_TBN: Tensor
    first_TB11: Tensor
    """bool: there was none."""

    @classmethod
    def of(cls, window: UnrollInput, carry: Carry) -> "Before":
        first_TB = torch.zeros_like(window.alive_TBN[..., 0])
        first_TB[0] = carry.first_B
        alive_TBN = torch.cat((carry.alive_BN.unsqueeze(0), window.alive_TBN[:-1]))
        return cls(alive_TBN, first_TB[..., None, None])


def allowed_edges(
    window: UnrollInput, carry: Carry, offsets: tuple[int, ...], timing: GateTiming = "causal"
) -> Tensor:
    """[T, B, N, K] bool: out-edges that can carry a message, by who is alive and, where the graph
    moves, by who is near.
    """
    alive_TBN, before = window.alive_TBN, Before.of(window, carry)
    if timing == "causal":
        # The sender needs to have heard the receiver's beacon; at the first step nobody was heard,
        # and every peer counts as there.
        heard_TBNK = at_receivers(before.alive_TBN, offsets) | before.first_TB11
        allowed_TBNK = alive_TBN.unsqueeze(-1) & heard_TBNK
        near_TBNK = window.neighbours_TBNK
        return allowed_TBNK if near_TBNK is None else allowed_TBNK & near_TBNK
    # What is sent is the message of the step before, so there has to be one.
    has_message_TBN1 = (alive_TBN & before.alive_TBN).unsqueeze(-1) & ~before.first_TB11
    return has_message_TBN1 & at_receivers(alive_TBN, offsets)


def heard_edges(
    gates_TBNK: Tensor, carry: Carry, offsets: tuple[int, ...], timing: GateTiming = "causal"
) -> Tensor:
    """[T, B, N, K] in-edges whose message of the step before is heard at step t."""
    if timing == "causal":
        gates_TBNK = torch.cat((carry.edges_BNK.unsqueeze(0), gates_TBNK[:-1]))
    return at_senders(gates_TBNK, offsets)


def heard_matrix(heard_TBNK: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """[…, N, K] of in-edges -> […, N, N] entry (i, j): what the edge from agent j to agent i says;
    0 where there is none.

    On a dense graph one product of matrices takes the place of K shifts.
    """
    agents = heard_TBNK.shape[-2]
    receivers_N1 = torch.arange(agents, device=heard_TBNK.device).unsqueeze(1)
    senders_NK = (receivers_N1 - offsets_on(offsets, heard_TBNK.device)) % agents
    matrix_TBNN = heard_TBNK.new_zeros(*heard_TBNK.shape[:-1], agents)
    return matrix_TBNN.scatter(-1, senders_NK.expand(heard_TBNK.shape), heard_TBNK)


@lru_cache(maxsize=16)
def offsets_on(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    """[K] offsets where they are needed: to move them there in each update would wait for it."""
    return torch.tensor(offsets, device=device)
