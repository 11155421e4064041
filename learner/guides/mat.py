"""The multi-agent transformer (Wen et al., 2022): agents are a sentence, one action a word.

    observations of all agents -> encoder (everybody sees everybody) -> embeddings, values
    embeddings, actions of the agents before -> decoder (causal) -> logits of the next agent

One step at a time: it has no memory. Blocks are post-norm.

Dimension key: B = batch, N = agents, D = observation features, A = actions, E = embedding, H =
heads.
"""

import math

import torch
from torch import Tensor, nn

from learner.guides.layers import (
    OUTPUT_GAIN,
    Gelu,
    Norm,
    SwiGlu,
    head,
    layer_norm,
    linear,
    perceptron,
    rms_norm,
    shifted,
)


class Attention(nn.Module):
    """Multi-head attention between agents (Vaswani et al., 2017)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.key, self.query = linear(size, size), linear(size, size)
        self.value, self.proj = linear(size, size), linear(size, size)

    def forward(self, query_BNE: Tensor, key_BNE: Tensor, *, begin: int | None = None) -> Tensor:
        """[B, N, E] what each query finds.

        Args:
            begin: queries are those of agents `begin` and later, who see nobody behind them; None:
                all see all.
        """
        q = self._split(self.query(query_BNE))
        k, v = self._split(self.key(key_BNE)), self._split(self.value(key_BNE))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if begin is not None:
            ones = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
            scores = scores.masked_fill(~ones.tril(begin), float("-inf"))
        found = torch.softmax(scores, dim=-1) @ v
        return self.proj(found.transpose(-2, -3).flatten(-2))

    def _split(self, x_BNE: Tensor) -> Tensor:
        """[B, H, N, E / H]"""
        return x_BNE.view(*x_BNE.shape[:-1], self._heads, -1).transpose(-2, -3)


class _EncoderBlock(nn.Module):
    def __init__(self, size: int, heads: int, norm: Norm, *, swiglu: bool) -> None:
        super().__init__()
        self.attention = Attention(size, heads)
        self.norm1, self.norm2 = norm(size), norm(size)
        self.feed = SwiGlu(size) if swiglu else perceptron(size)

    def forward(self, x_BNE: Tensor) -> Tensor:
        x_BNE = self.norm1(x_BNE + self.attention(x_BNE, x_BNE))
        return self.norm2(x_BNE + self.feed(x_BNE))


class _DecoderBlock(nn.Module):
    def __init__(self, size: int, heads: int, norm: Norm, *, swiglu: bool) -> None:
        super().__init__()
        self.own, self.cross = Attention(size, heads), Attention(size, heads)
        self.norm1, self.norm2, self.norm3 = norm(size), norm(size), norm(size)
        self.feed = SwiGlu(size) if swiglu else perceptron(size)

    def forward(self, x_BNE: Tensor, seen_BNE: Tensor) -> Tensor:
        x_BNE = self.norm1(x_BNE + self.own(x_BNE, x_BNE, begin=0))
        x_BNE = self.norm2(seen_BNE + self.cross(seen_BNE, x_BNE, begin=0))
        return self.norm3(x_BNE + self.feed(x_BNE))


class Mat(nn.Module):
    """Encoder and decoder.

    Args:
        rms: RMS norms in place of layer norms.
        swiglu: gated blocks in place of perceptrons.
        norm_input: observations are normed first, as released.
    """

    def __init__(
        self,
        features: int,
        actions: int,
        *,
        size: int = 64,
        heads: int = 1,
        blocks: int = 1,
        rms: bool = False,
        swiglu: bool = False,
        norm_input: bool = True,
    ) -> None:
        super().__init__()
        self._actions = actions
        norm = rms_norm if rms else layer_norm
        self.see = nn.Sequential(
            norm(features) if norm_input else nn.Identity(), linear(features, size), Gelu()
        )
        self.norm_seen = norm(size)
        self.encoder = nn.ModuleList(
            _EncoderBlock(size, heads, norm, swiglu=swiglu) for _ in range(blocks)
        )
        self.value_head = head(size, 1, norm, OUTPUT_GAIN)
        self.tell = nn.Sequential(linear(actions + 1, size, bias=False), Gelu())
        self.norm_told = norm(size)
        self.decoder = nn.ModuleList(
            _DecoderBlock(size, heads, norm, swiglu=swiglu) for _ in range(blocks)
        )
        self.action_head = head(size, actions, norm, OUTPUT_GAIN)

    def encode(self, observations_BND: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, E] embeddings and [B, N] values."""
        x_BNE = self.norm_seen(self.see(observations_BND))
        for block in self.encoder:
            x_BNE = block(x_BNE)
        return x_BNE, self.value_head(x_BNE).squeeze(-1)

    def decode(self, seen_BNE: Tensor, actions_BN: Tensor) -> Tensor:
        """[B, N, A] logits of each agent, by the actions of those before it."""
        told_BNA = shifted(actions_BN, self._actions, seen_BNE.dtype)
        x_BNE = self.norm_told(self.tell(told_BNA))
        for block in self.decoder:
            x_BNE = block(x_BNE, seen_BNE)
        return self.action_head(x_BNE)
