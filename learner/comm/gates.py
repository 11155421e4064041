"""Gates in training: which edges open, differentiably (SOPS, equations 3 and 4).

    score + Logistic(0, 1) noise -> y = sigmoid(· / temperature) -> C = 1[y > 1/2], straight-through

That gradient is `gate.estimator straight-through`; the others draw the same gates and have no
surrogate (learner/estimators/).

With a budget b an agent opens no more than its b best edges, and the noisy score is held against
that of the rival that would take (or has taken) the edge's place, where this is above 0.

Dimension key: T = time, B = batch, N = agents, K = offsets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.found import scheme_of
from configs.schema import GateConfig, GateMode, GateTiming
from learner.estimators.draw import Draw, Drawn
from learner.experience.replay import Rows
from learner.kernels.straight_through import straight_through


@dataclass(frozen=True, slots=True, eq=False)
class GateRule:
    """How scores become gates."""

    timing: GateTiming
    mode: GateMode
    temperature: float | Tensor = 1.0
    """[] Of the surrogate's sigmoid; it changes gradients and never the gates."""
    noise: torch.Generator | None = None
    """Source of the logistic noise; None is deployment: open iff score > 0."""
    noisy_B: Tensor | None = None
    """bool: episodes that get noise, None: all. The others are deployment, so that a policy cannot
    come to rely on edges that only chance opens."""
    budget: int = 0
    """Edges that an agent may open in a step; 0 sets no limit."""
    rows: Rows | None = None
    """Rows of a larger batch that this one is. Noise is drawn for all of it, so that it does not
    depend on who works off which rows."""
    recorded_TBNK: Tensor | None = None
    """bool: edges that were open when the data was made, of the first steps or all; there neither
    scores nor noise decide. None: they decide everywhere."""
    draw: Draw | None = None
    """The pass of an estimator, which is told the gates and gives scores their gradient; None:
    straight-through."""

    @classmethod
    def of(
        cls,
        comm: str,
        gate: GateConfig,
        temperature: float | Tensor = 1.0,
        noise: torch.Generator | None = None,
    ) -> "GateRule":
        """The rule of a run; agents that never speak are agents whose gates are closed."""
        mode = scheme_of(comm).gate_mode(gate.mode)
        return cls(gate.timing, mode, temperature, noise, budget=gate.budget)


def logistic_noise(
    like_TBNK: Tensor, generator: torch.Generator, rows: Rows | None = None
) -> Tensor:
    """Logistic(0, 1), the difference of two Gumbel variables, in the shape of `like_TBNK`.

    Args:
        like_TBNK: gives shape, type and device.
        generator: source of the noise.
        rows: what `like_TBNK` is of a larger batch, for all of which noise is drawn.
    """
    shape = list(like_TBNK.shape)
    if rows is not None:
        shape[1] = rows.of
    uniform = torch.rand(shape, generator=generator, device=like_TBNK.device, dtype=like_TBNK.dtype)
    if rows is not None:
        uniform = uniform[:, rows.slice]
    # rand() may return exactly 0, whose logit is -inf.
    tiny = torch.finfo(like_TBNK.dtype).eps
    return torch.logit(uniform, eps=tiny)


def within_budget(scores_TBNK: Tensor, candidates_TBNK: Tensor, budget: int) -> Tensor:
    """[T, B, N, K] bool: candidates that an agent opens, as in `agents.comm.gate.within_budget`."""
    if not 0 < budget < candidates_TBNK.shape[-1]:
        return candidates_TBNK
    ranked = torch.where(candidates_TBNK, -scores_TBNK, float("inf"))
    best = ranked.sort(dim=-1, stable=True).indices[..., :budget]
    return torch.zeros_like(candidates_TBNK).scatter_(-1, best, True) & candidates_TBNK


def gate(scores_TBNK: Tensor, allowed_TBNK: Tensor, rule: GateRule) -> Tensor:
    """[T, B, N, K] 1 where an edge is open and 0 where it is closed, with the surrogate's
    gradient; with a `draw` without one.

    Args:
        scores_TBNK: of the out-edges.
        allowed_TBNK: bool: out-edges that can be used at all.
        rule: noise, temperature and budget.
    """
    noisy = scores_TBNK
    if rule.noise is not None:
        noise = logistic_noise(scores_TBNK, rule.noise, rule.rows)
        if rule.noisy_B is not None:
            noise = noise * rule.noisy_B[None, :, None, None]
        if rule.draw is not None:
            noise = noise * rule.draw.sign
        noisy = noisy + noise
    candidates = allowed_TBNK & (noisy.detach() > 0.0)
    chosen = within_budget(noisy.detach(), candidates, rule.budget)
    if rule.recorded_TBNK is not None:
        chosen = torch.cat((rule.recorded_TBNK, chosen[len(rule.recorded_TBNK) :]))
    if rule.draw is not None:
        gates_TBNK = chosen.to(noisy.dtype)
        _tell(rule.draw, rule, scores_TBNK, noisy, gates_TBNK, allowed_TBNK)
        return gates_TBNK
    margin = noisy
    if 0 < rule.budget < scores_TBNK.shape[-1]:
        margin = noisy - _threshold(noisy.detach(), candidates, chosen, rule.budget)
    surrogate = torch.sigmoid(margin / rule.temperature) * allowed_TBNK
    return straight_through(surrogate, chosen.to(noisy.dtype))


def _tell(
    draw: Draw, rule: GateRule, scores: Tensor, noisy: Tensor, gates: Tensor, allowed: Tensor
) -> None:
    counts = allowed.clone()
    if rule.noisy_B is not None:
        counts &= rule.noisy_B[None, :, None, None]
    if rule.recorded_TBNK is not None:
        counts[: len(rule.recorded_TBNK)] = False
    draw.take(Drawn(scores, gates, (noisy - scores).detach(), counts))


def open_edges_of(masks: Tensor, num_edges: int) -> Tensor:
    """[T, B, N, K] bool: edges that are open by masks, whose bit k stands for out-edge k.

    Args:
        masks: [T, B, N] or [T, B, N, W], int64, as in runtime/net/edge_bits.py.
    """
    bits_K = torch.arange(num_edges, device=masks.device)
    words = masks[..., bits_K // 64] if masks.dim() > 3 else masks.unsqueeze(-1)
    return (words >> bits_K % 64) & 1 != 0


def deployed(scores_TBNK: Tensor, allowed_TBNK: Tensor, budget: int) -> Tensor:
    """[T, B, N, K] bool: edges that would be open without noise."""
    return within_budget(scores_TBNK, allowed_TBNK & (scores_TBNK > 0.0), budget)


def _threshold(scores: Tensor, candidates: Tensor, chosen: Tensor, budget: int) -> Tensor:
    """[T, B, N, K] what a score must exceed for its edge to be open: 0, or the score of a rival."""
    best = torch.where(candidates, scores, 0.0).topk(budget + 1, dim=-1).values
    # An open edge closes when the first that was refused overtakes it; one that was refused opens
    # when it overtakes the last that was taken.
    return torch.where(chosen, best[..., budget:], best[..., budget - 1 : budget])
