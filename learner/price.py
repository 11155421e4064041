"""The price of an open edge, which closes the gates that nobody needs (design, decision 6).

    env_steps, TD loss as deployed -> price now
    loss = TD + α auxiliary + price · (open edges of an agent in a step)

A number of open edges has no slope. The charge is the true number forward; backward it presses on
every score with the probability that its edge is open, down to where the edge is closed but would
still open now and then, were there noise:

    d charge / d score = price · sigmoid(score)      if score > -1, else 0

The slope of the expected number, p (1 - p), would press on nobody who is decided: an edge whose
score had grown while it was free would stay open however dear it became. And what is pressed down
without end is not found again when it turns out to have been needed.

Two things keep a price from shutting the gate for good. It comes late: at first nothing has been
learnt from messages, so no edge is worth anything. And with `gate.price_loss` it is waived while
the policy, played without noise, errs more than that: a price that goes on pressing there shuts the
last edges too, and where nothing is heard nothing tells a score that hearing would help.

Dimension key: T = time, B = batch, N = agents, K = offsets.
"""

import torch
from torch import Tensor
from torch.nn import functional

from configs.schema import GateConfig
from learner.kernels.straight_through import straight_through

_MEMORY = 0.9
"""Share of the loss so far in its running mean: about ten updates."""
_SHUT = -1.0
"""Score below which an edge is no longer pressed: with noise it would open in 27 % of all cases."""


class EdgePrice:
    """What an open edge costs at each point of the training."""

    def __init__(self, gate: GateConfig) -> None:
        self._gate = gate
        self.deployed_loss: float | None = None
        """Running mean of what was heard; None: nothing is known yet."""

    def at(self, env_steps: int) -> float:
        """In units of reward. With price 0.004, price_start 1000 and price_steps 400 it is 0.001
        after 1100 steps; and half of that where the loss is half as much again as `price_loss`.
        """
        return ramped(self._gate, env_steps) * self._charged_share()

    def hear(self, deployed_loss: float) -> None:
        """Take in an update's mean TD loss over the episodes without noise."""
        before = deployed_loss if self.deployed_loss is None else self.deployed_loss
        self.deployed_loss = _MEMORY * before + (1.0 - _MEMORY) * deployed_loss

    def _charged_share(self) -> float:
        limit = self._gate.price_loss
        if limit == 0.0:
            return 1.0
        if self.deployed_loss is None:
            return 0.0
        return min(max(2.0 - self.deployed_loss / limit, 0.0), 1.0)


def ramped(gate: GateConfig, env_steps: int) -> float:
    """The price by the schedule alone."""
    if env_steps < gate.price_start:
        return 0.0
    risen = (env_steps - gate.price_start) / gate.price_steps if gate.price_steps else 1.0
    return gate.price * min(risen, 1.0)


def open_edges(scores_TBNK: Tensor, gates_TBNK: Tensor, counts_TBNK: Tensor) -> Tensor:
    """[] number of open edges among those that count, with the gradient that presses on scores.

    Args:
        scores_TBNK: of the out-edges.
        gates_TBNK: 1 where an edge is open.
        counts_TBNK: bool: edges that are charged for at all.
    """
    pressed = torch.where(scores_TBNK > _SHUT, functional.softplus(scores_TBNK), 0.0)
    charged = straight_through(pressed, gates_TBNK.detach())
    return torch.where(counts_TBNK, charged, 0.0).sum()
