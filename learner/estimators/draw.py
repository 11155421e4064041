"""Several passes over one part, each with gates drawn in its own way from the same noise.

    noise × sign -> gates -> loss of the algorithm -> what each step costs

What the estimators here have in common. The gates C of an unroll are independent given what the
agents saw: scores come from hidden states, which no message reaches. So the loss L(C), averaged
over gates, has the gradient

    E[dL/dw with the gates held]  +  sum over gates of  E[d E(L) / d score] · d score/dw

and backward yields the first term as it is: gates have no gradient of their own here. An estimator
adds the second. Its reward, with the sign of a cost, is what the agents' losses come to in the
episode from the first step on that an edge can reach: the next one (causal), or its own (paper).
Episodes share no gate, and no step before is touched. Within these bounds there is no credit to
give: with VDN and the like all agents share a loss, and after log2(N) hops anyone may have been
reached.

Three things make that exact. TD targets do not depend on the draw: they are made once, with the
gates as they will be deployed choosing the next action, and are the same in all passes. All other
noise is the same in all passes, too. And gates that were not drawn have no such term: those of
episodes without noise (`gate.noise_share`), those that were recorded, those that cannot be used.

What counts as a cost: the TD loss and whatever else an algorithm tells by `Part.charge`, the state
predictor of `learner.aux`, and the teacher. InfoNCE does not, as it has no share of a step's own;
it trains messages, and no scores. The price of an edge has a gradient of its own
(learner/price.py).

Dimension key: T = time, B = batch, N = agents, K = offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from configs.schema import GateTiming


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The gates of one pass."""

    scores_TBNK: Tensor
    """With their gradient."""
    gates_TBNK: Tensor
    """1 where an edge is open, else 0."""
    noise_TBNK: Tensor
    """Logistic; what was added to the scores."""
    counts_TBNK: Tensor
    """bool: noise had its say."""


@dataclass(slots=True, eq=False)
class Draw:
    """One pass over a part; `gate` and the algorithm's loss fill it."""

    sign: float
    """Of the noise: 1 as it was drawn, -1 its mirror image, 0 none, as in deployment."""
    settled: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """By name, what all passes have in common."""
    drawn: Drawn | None = None
    costs_TB: Tensor | None = None
    """What each step adds to the loss of the batch."""

    def take(self, drawn: Drawn) -> None:
        """Take note of the gates; a loss unrolls the agents once."""
        assert self.drawn is None, "two unrolls in one loss"
        self.drawn = drawn

    def charge(self, losses: Tensor) -> None:
        """Add to the costs, of [T, B] or of [T, B, N]."""
        costs_TB = losses.detach()
        if costs_TB.ndim > 2:
            costs_TB = costs_TB.flatten(2).sum(-1)
        self.costs_TB = costs_TB if self.costs_TB is None else self.costs_TB + costs_TB

    def settle(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What no gate has a say in: the first pass computes it."""
        if name not in self.settled:
            self.settled[name] = compute()
        return self.settled[name]

    @property
    def gates(self) -> Drawn:
        assert self.drawn is not None, "gates are learned, and no unroll has drawn any"
        return self.drawn

    @property
    def costs(self) -> Tensor:
        """[T, B]

        Raises:
            ValueError: the algorithm does not say.
        """
        if self.costs_TB is None:
            raise ValueError(
                "the algorithm's loss tells no costs (Part.charge): take gate.estimator "
                "straight-through"
            )
        return self.costs_TB


def costs_to_go(costs_TB: Tensor, timing: GateTiming) -> Tensor:
    """[T + 1, B, 1, 1] costs of all steps that the edges of each step can reach.

    With the costs 1, 2, 4 it is 6, 4, 0, 0 (causal) or 7, 6, 4, 0 (paper).
    """
    none_1B = torch.zeros_like(costs_TB[:1])
    after_TB = torch.cat((costs_TB.flip(0).cumsum(0).flip(0), none_1B))
    if timing == "causal":
        after_TB = torch.cat((after_TB[1:], none_1B))
    return after_TB[..., None, None]


def pushed(total: Tensor, drawn: Drawn, slopes_TBNK: Tensor) -> Tensor:
    """[] the same number, whose gradient has slopes towards the scores of gates that were drawn."""
    slopes_TBNK = torch.where(drawn.counts_TBNK, slopes_TBNK, 0.0).to(drawn.scores_TBNK.dtype)
    push = (drawn.scores_TBNK * slopes_TBNK.detach()).sum()
    return total + (push - push.detach())
