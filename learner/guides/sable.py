"""Sable (Mahjoub et al., 2025): a guide with memory, of retention over agents and steps.

    observations of all agents and steps -> encoder -> embeddings, values
    embeddings, actions of the agents before -> decoder -> logits of the next agent
    state of the episode so far -> both -> state

Retention is attention without a softmax, so that all that came before is a matrix per head: each
step multiplies it by kappa and adds k^T v of its agents. A whole rollout at once (`encode`,
`decode`) and one agent after the other (`decode_next`) say the same. In the encoder the
agents of a step all hear each other, in the decoder only those before them.

As in the released code the gate reads the key, a group norm works within each head, one norm stands
before every block of the encoder, and positions of the steps are added to key, query and value.

Dimension key: B = batch, T = time, N = agents, D = observation features, A = actions, E =
embedding, H = heads, d = E / H, L = blocks, R = rows: (step, agent) of a chunk of the steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.guides.layers import (
    EPS,
    OUTPUT_GAIN,
    Gelu,
    SwiGlu,
    head,
    linear,
    rms_norm,
    shifted,
)

CHUNK_ROWS = 64
"""Steps times agents of a chunk: about where both halves of its work are the same."""


@dataclass(frozen=True, slots=True, eq=False)
class SableState:
    """What is known of the episode so far, as it was after the last step."""

    encoder: Tensor
    """[B, H, L, d, d]"""
    decoder_own: Tensor
    decoder_cross: Tensor

    @classmethod
    def empty(cls, batch: int, heads: int, blocks: int, size: int, like: Tensor) -> "SableState":
        """Of episodes that are about to begin."""
        zeros = like.new_zeros(batch, heads, blocks, size // heads, size // heads)
        return cls(zeros, zeros, zeros)


class Decays:
    """How much of a row is left in another: kappa for each step between, nothing across the
    beginning of an episode, and everything within a step.

    Args:
        begins_BT: bool: the step is the first of an episode.
        kappas_H: of the heads.
        agents: of each step.
        causal: agents of a step hear only themselves and those before them.
    """

    def __init__(
        self, begins_BT: Tensor, kappas_H: Tensor, agents: int, *, causal: bool = False
    ) -> None:
        time = begins_BT.shape[1]
        self.rows = time * agents
        steps = torch.arange(time, device=begins_BT.device)
        number_BT = begins_BT.long().cumsum(1)
        apart_TT = steps.unsqueeze(1) - steps
        earlier_BTT = (number_BT.unsqueeze(2) == number_BT.unsqueeze(1)) & (apart_TT > 0)
        earlier_BHTT = earlier_BTT.unsqueeze(1) * _powers(kappas_H, apart_TT.clamp(min=0))
        within_NN = kappas_H.new_ones(agents, agents)
        now_TT = torch.eye(time, device=kappas_H.device, dtype=kappas_H.dtype)
        self.between_BHRR = earlier_BHTT.repeat_interleave(agents, 2).repeat_interleave(
            agents, 3
        ) + torch.kron(now_TT, within_NN.tril() if causal else within_NN)
        """Of row s in row r."""
        in_last_BHT = earlier_BHTT[:, :, -1] + now_TT[-1]
        self.in_state_BHR1 = in_last_BHT.repeat_interleave(agents, 2).unsqueeze(-1)
        """Of row s after the last step."""
        of_state_BHT = (number_BT == 0).unsqueeze(1) * _powers(kappas_H, steps + 1)
        self.of_state_BHR1 = of_state_BHT.repeat_interleave(agents, 2).unsqueeze(-1)
        """Of what was before the first step, in row r."""

    @classmethod
    def by_chunk(
        cls, begins_BT: Tensor, kappas_H: Tensor, agents: int, *, causal: bool
    ) -> "list[Decays]":
        """Of a few steps each: work grows with the square of a chunk, and not of the whole."""
        time, steps = begins_BT.shape[1], max(1, CHUNK_ROWS // agents)
        return [
            cls(begins_BT[:, first : first + steps], kappas_H, agents, causal=causal)
            for first in range(0, time, steps)
        ]


def _powers(kappas_H: Tensor, exponents: Tensor) -> Tensor:
    """[H, …]"""
    return kappas_H.view(-1, *[1] * exponents.ndim) ** exponents


class Retention(nn.Module):
    """Multi-scale retention."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query, self.key, self.value, self.gate, self.out = (
            nn.Linear(size, size, bias=False) for _ in range(5)
        )
        for layer in (self.query, self.key, self.value, self.gate, self.out):
            nn.init.normal_(layer.weight, std=1.0 / size)
        self.norm = nn.GroupNorm(heads, size // heads, eps=EPS)

    def forward(
        self,
        query_BTNE: Tensor,
        key_BTNE: Tensor,
        value_BTNE: Tensor,
        state_BHdd: Tensor,
        decays: Sequence[Decays] | None,
    ) -> tuple[Tensor, Tensor]:
        """[B, T, N, E] what was retained for each agent; and the state after the last step.

        Args:
            decays: of chunks of the steps; None: a single step goes on with its next agent, whose
                predecessors are in the state already.
        """
        q, k, v = (
            layer(x).flatten(1, 2).unflatten(-1, (self._heads, -1)).transpose(1, 2)  # [B, H, R, d]
            for layer, x in (
                (self.query, query_BTNE), (self.key, key_BTNE), (self.value, value_BTNE)
            )
        )  # fmt: skip
        if decays is None:
            state_BHdd = state_BHdd + k.transpose(-1, -2) @ v
            found_BHRd = q @ state_BHdd
        else:
            found, rows = list[Tensor](), [chunk.rows for chunk in decays]
            chunks = zip(decays, *(x.split(rows, dim=2) for x in (q, k, v)), strict=True)
            for decay, q_c, k_c, v_c in chunks:
                near_BHRR = (q_c @ k_c.transpose(-1, -2)) * decay.between_BHRR
                found.append(near_BHRR @ v_c + decay.of_state_BHR1 * (q_c @ state_BHdd))
                added_BHdd = (k_c * decay.in_state_BHR1).transpose(-1, -2) @ v_c
                state_BHdd = decay.of_state_BHR1[:, :, -1:] * state_BHdd + added_BHdd
            found_BHRd = torch.cat(found, dim=2)
        each_BRHd = found_BHRd.transpose(1, 2)
        normed = self.norm(each_BRHd.flatten(0, 2)).view(query_BTNE.shape)
        return self.out(functional.silu(self.gate(key_BTNE)) * normed), state_BHdd


class _EncoderBlock(nn.Module):
    def __init__(self, size: int, heads: int, *, dead: bool) -> None:
        super().__init__()
        self.retention = Retention(size, heads)
        self.norm1, self.norm2 = rms_norm(size), rms_norm(size)
        self.feed = SwiGlu(size, dead=dead)

    def forward(
        self, x: Tensor, positions: Tensor, state: Tensor, decays: Sequence[Decays]
    ) -> tuple[Tensor, Tensor]:
        placed = x + positions
        kept, state = self.retention(placed, placed, placed, state, decays)
        x = self.norm1(x + kept)
        return self.norm2(x + self.feed(x)), state


class _DecoderBlock(nn.Module):
    def __init__(self, size: int, heads: int, *, dead: bool) -> None:
        super().__init__()
        self.own = Retention(size, heads)
        self.cross = Retention(size, heads)
        self.norm1, self.norm2, self.norm3 = rms_norm(size), rms_norm(size), rms_norm(size)
        self.feed = SwiGlu(size, dead=dead)

    def forward(
        self,
        x: Tensor,
        seen: Tensor,
        positions: Tensor,
        states: tuple[Tensor, Tensor],
        decays: Sequence[Decays] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        placed = x + positions
        kept, own = self.own(placed, placed, placed, states[0], decays)
        x = self.norm1(x + kept)
        placed = x + positions
        kept, cross = self.cross(seen + positions, placed, placed, states[1], decays)
        x = self.norm2(seen + kept)
        return self.norm3(x + self.feed(x)), (own, cross)


class Sable(nn.Module):
    """Encoder and decoder.

    Args:
        decay: factor of all kappas; 1 as in the paper, tuned for each task in the reference.
        dead: feed-forward blocks that never learn, as released (learner/guides/layers.py).
        norm_input: observations are normed first, as released.
    """

    kappas_H: Tensor

    def __init__(
        self,
        features: int,
        actions: int,
        *,
        size: int = 64,
        heads: int = 1,
        blocks: int = 1,
        decay: float = 1.0,
        dead: bool = False,
        norm_input: bool = True,
    ) -> None:
        super().__init__()
        self._actions, self._size = actions, size
        self._heads, self._blocks = heads, blocks
        kappas_H = decay * (1.0 - torch.linspace(math.log(1 / 32), math.log(1 / 512), heads).exp())
        self.register_buffer("kappas_H", kappas_H, persistent=False)
        self.see = nn.Sequential(
            rms_norm(features) if norm_input else nn.Identity(),
            linear(features, size, bias=False),
            Gelu(),
        )
        self.norm_seen = rms_norm(size)
        self.encoder = nn.ModuleList(_EncoderBlock(size, heads, dead=dead) for _ in range(blocks))
        self.value_head = head(size, 1, rms_norm, OUTPUT_GAIN)
        self.tell = nn.Sequential(linear(actions + 1, size, bias=False), Gelu())
        self.norm_told = rms_norm(size)
        self.decoder = nn.ModuleList(_DecoderBlock(size, heads, dead=dead) for _ in range(blocks))
        self.action_head = head(size, actions, rms_norm, OUTPUT_GAIN)

    def begin(self, batch: int) -> SableState:
        """Nothing is known yet."""
        return SableState.empty(batch, self._heads, self._blocks, self._size, self.kappas_H)

    def encode(
        self, observations_BTND: Tensor, begins_BT: Tensor, steps_BT: Tensor, state: SableState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, N, E] embeddings, [B, T, N] values, and the encoder's state afterwards.

        Args:
            begins_BT: bool: the step is the first of an episode.
            steps_BT: number of the step within its episode.
        """
        agents = observations_BTND.shape[2]
        decays = Decays.by_chunk(begins_BT, self.kappas_H, agents, causal=False)
        positions = self._positions(steps_BT)
        x, states = self.see(observations_BTND), list[Tensor]()
        for block, before in zip(self.encoder, state.encoder.unbind(2), strict=True):
            x, after = block(self.norm_seen(x), positions, before, decays)
            states.append(after)
        return x, self.value_head(x).squeeze(-1), torch.stack(states, dim=2)

    def decode(
        self,
        seen_BTNE: Tensor,
        actions_BTN: Tensor,
        begins_BT: Tensor,
        steps_BT: Tensor,
        state: SableState,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, N, A] logits of each agent by the actions of those before it, and the decoder's
        two states afterwards.
        """
        told = shifted(actions_BTN, self._actions, seen_BTNE.dtype)
        decays = Decays.by_chunk(begins_BT, self.kappas_H, seen_BTNE.shape[2], causal=True)
        return self._decode(told, seen_BTNE, self._positions(steps_BT), state, decays)

    def decode_next(
        self,
        seen_BE: Tensor,
        told_BA: Tensor,
        steps_B: Tensor,
        state: SableState,
        begins_B: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, A] logits of the next agent of a step, and the decoder's states afterwards.

        Args:
            told_BA: [B, A + 1] its predecessor's row of `shifted`.
            begins_B: bool, for the step's first agent: whether an episode begins; None: a later
                agent.
        """
        decays = None if begins_B is None else [Decays(begins_B.unsqueeze(1), self.kappas_H, 1)]
        told, seen = told_BA[:, None, None], seen_BE[:, None, None]
        positions = self._positions(steps_B.unsqueeze(1))
        logits, own, cross = self._decode(told, seen, positions, state, decays)
        return logits[:, 0, 0], own, cross

    def _decode(
        self,
        told: Tensor,
        seen: Tensor,
        positions: Tensor,
        state: SableState,
        decays: Sequence[Decays] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, states = self.norm_told(self.tell(told)), list[tuple[Tensor, Tensor]]()
        before = zip(state.decoder_own.unbind(2), state.decoder_cross.unbind(2), strict=True)
        for block, pair in zip(self.decoder, before, strict=True):
            x, after = block(x, seen, positions, pair, decays)
            states.append(after)
        own, cross = (torch.stack(parts, dim=2) for parts in zip(*states, strict=True))
        return self.action_head(x), own, cross

    def _positions(self, steps_BT: Tensor) -> Tensor:
        """[B, T, 1, E] sines and cosines in turn (Vaswani et al., 2017)."""
        dtype = self.kappas_H.dtype
        evens = torch.arange(0, self._size, 2, device=steps_BT.device, dtype=dtype)
        rates = torch.exp(evens * (-math.log(10_000.0) / self._size))
        angles = steps_BT.to(dtype).unsqueeze(-1) * rates
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).unsqueeze(2)
