"""Sable (Mahjoub et al., 2025): a guide with memory, of retention over agents and steps.

    observations of all agents and steps -> encoder -> embeddings, values
    embeddings, actions of the agents before -> decoder -> logits of the next agent
    state of the episode so far -> both -> state

Retention is attention without a softmax, so that all that came before is a matrix per head: each
step multiplies it by kappa and adds k^T v of its agents. A whole rollout at once (`encode`,
`decode`) and one agent after the other (`decode_next`) are the same arithmetic. In the encoder the
agents of a step all hear each other, in the decoder only those before them.

As in the released code the gate reads the key, a group norm works within each head, one norm stands
before every block of the encoder, and positions of the steps are added to key, query and value.

Dimension key: B = batch, T = time, N = agents, D = observation features, A = actions, E =
embedding, H = heads, d = E / H, L = blocks.
"""

import math
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
    """How much of a step is left in another: kappa for each step between, nothing across the
    beginning of an episode.

    Args:
        begins_BT: bool: the step is the first of an episode.
        kappas_H: of the heads.
    """

    def __init__(self, begins_BT: Tensor, kappas_H: Tensor) -> None:
        time = begins_BT.shape[1]
        steps = torch.arange(time, device=begins_BT.device)
        number_BT = begins_BT.long().cumsum(1)
        apart_TT = steps.unsqueeze(1) - steps
        earlier_BTT = (number_BT.unsqueeze(2) == number_BT.unsqueeze(1)) & (apart_TT > 0)
        self.between_BHTT = earlier_BTT.unsqueeze(1) * _powers(kappas_H, apart_TT.clamp(min=0))
        """Of step s in step t > s."""
        self.of_state_BHT = (number_BT == 0).unsqueeze(1) * _powers(kappas_H, steps + 1)
        """Of what was before the first step."""


def _powers(kappas_H: Tensor, exponents: Tensor) -> Tensor:
    """[H, …]"""
    return kappas_H.view(-1, *[1] * exponents.ndim) ** exponents


class Retention(nn.Module):
    """Multi-scale retention.

    Args:
        causal: agents of a step hear only themselves and those before them.
    """

    def __init__(self, size: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self._heads, self._causal = heads, causal
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
        decays: Decays | None,
    ) -> tuple[Tensor, Tensor]:
        """[B, T, N, E] what was retained for each agent; and the state after the last step.

        Args:
            decays: None: a single step goes on, whose earlier agents are in the state already.
        """
        q, k, v = (
            layer(x).unflatten(-1, (self._heads, -1)).transpose(2, 3)  # [B, T, H, N, d]
            for layer, x in (
                (self.query, query_BTNE), (self.key, key_BTNE), (self.value, value_BTNE)
            )
        )  # fmt: skip
        added_BTHdd = k.transpose(-1, -2) @ v
        if decays is None:
            before_BTHdd = state_BHdd.unsqueeze(1)
        else:
            before_BTHdd = torch.einsum("bhts,bshde->bthde", decays.between_BHTT, added_BTHdd)
            old = decays.of_state_BHT.transpose(1, 2)[..., None, None] * state_BHdd.unsqueeze(1)
            before_BTHdd = before_BTHdd + old
        after_BTHdd = before_BTHdd + added_BTHdd
        if self._causal:
            found = q @ before_BTHdd + (q @ k.transpose(-1, -2)).tril() @ v
        else:
            found = q @ after_BTHdd
        rows = found.transpose(2, 3)
        normed = self.norm(rows.reshape(-1, rows.shape[-1])).view(rows.shape).flatten(-2)
        kept = self.out(functional.silu(self.gate(key_BTNE)) * normed)
        return kept, after_BTHdd[:, -1]


class _EncoderBlock(nn.Module):
    def __init__(self, size: int, heads: int, *, dead: bool) -> None:
        super().__init__()
        self.retention = Retention(size, heads, causal=False)
        self.norm1, self.norm2 = rms_norm(size), rms_norm(size)
        self.feed = SwiGlu(size, dead=dead)

    def forward(
        self, x: Tensor, positions: Tensor, state: Tensor, decays: Decays
    ) -> tuple[Tensor, Tensor]:
        placed = x + positions
        kept, state = self.retention(placed, placed, placed, state, decays)
        x = self.norm1(x + kept)
        return self.norm2(x + self.feed(x)), state


class _DecoderBlock(nn.Module):
    def __init__(self, size: int, heads: int, *, dead: bool) -> None:
        super().__init__()
        self.own = Retention(size, heads, causal=True)
        self.cross = Retention(size, heads, causal=True)
        self.norm1, self.norm2, self.norm3 = rms_norm(size), rms_norm(size), rms_norm(size)
        self.feed = SwiGlu(size, dead=dead)

    def forward(
        self,
        x: Tensor,
        seen: Tensor,
        positions: Tensor,
        states: tuple[Tensor, Tensor],
        decays: Decays | None,
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
        decays, positions = Decays(begins_BT, self.kappas_H), self._positions(steps_BT)
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
        decays = Decays(begins_BT, self.kappas_H)
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
        decays = None if begins_B is None else Decays(begins_B.unsqueeze(1), self.kappas_H)
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
        decays: Decays | None,
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
