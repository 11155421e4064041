"""Gates in training: which edges open, differentiably (SOPS, equations 3 and 4).

    score + Logistic(0, 1) noise -> y = sigmoid(· / temperature) -> C = 1[y > 1/2], straight-through

Dimension key: T = time, B = batch, N = agents, K = offsets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema import Comm, GateMode, GateTiming
from learner.straight_through import straight_through


@dataclass(frozen=True, slots=True, eq=False)
class GateRule:
    """How scores become gates."""

    timing: GateTiming
    mode: GateMode
    temperature: float = 1.0
    """Of the surrogate's sigmoid; it changes gradients and never the gates."""
    noise: torch.Generator | None = None
    """Source of the logistic noise; None is deployment: open iff score > 0."""

    @classmethod
    def of(
        cls,
        comm: Comm,
        timing: GateTiming,
        mode: GateMode,
        temperature: float = 1.0,
        noise: torch.Generator | None = None,
    ) -> "GateRule":
        """The rule of a run; agents that never speak are agents whose gates are closed."""
        return cls(timing, "closed" if comm == "none" else mode, temperature, noise)


def logistic_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Logistic(0, 1), the difference of two Gumbel variables, in the shape of `like`."""
    uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    # rand() may return exactly 0, whose logit is -inf.
    tiny = torch.finfo(like.dtype).eps
    return torch.logit(uniform, eps=tiny)


def gate(scores_TBNK: Tensor, rule: GateRule) -> Tensor:
    """[T, B, N, K] 1 where an edge is open and 0 where it is closed, with the surrogate's
    gradient.
    """
    noisy = scores_TBNK
    if rule.noise is not None:
        noisy = noisy + logistic_noise(scores_TBNK, rule.noise)
    hard = (noisy.detach() > 0.0).to(noisy.dtype)
    return straight_through(torch.sigmoid(noisy / rule.temperature), hard)
