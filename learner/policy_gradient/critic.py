"""What a policy-gradient algorithm expects of a moment: a network of the learner's alone.

    what is known of each moment -> V(moment)        of values with mean 0 and deviation 1, if asked

Dimension key: T = time, B = batch, N = agents, X = what the critic sees.
"""

from typing import Literal

import torch
from torch import Tensor, nn

_SLOW = 0.99
"""Share of the old statistics that a rollout leaves."""


class Critic(nn.Module):
    """One value for each agent.

    Args:
        inputs: X
        kind: a perceptron, or one with a GRU that begins with the episode, or with what it
            remembered where a piece of one begins.
    """

    def __init__(self, inputs: int, hidden: int, kind: Literal["mlp", "gru"]) -> None:
        super().__init__()
        self._first = nn.Linear(inputs, hidden)
        self._memory = nn.GRU(hidden, hidden) if kind == "gru" else None
        self._second = nn.Linear(hidden, hidden)
        self._value = nn.Linear(hidden, 1)

    @property
    def remembers(self) -> bool:
        return self._memory is not None

    def states(self, seen_TBNX: Tensor, before_BNH: Tensor | None = None) -> Tensor:
        """[T, B, N, H] what it remembers after each moment, if it does.

        Args:
            before_BNH: what it remembered before the first; None: nothing.
        """
        x = torch.relu(self._first(seen_TBNX))
        if self._memory is None:
            return x
        before = None if before_BNH is None else before_BNH.flatten(0, 1).unsqueeze(0)
        return self._memory(x.flatten(1, 2), before)[0].view(x.shape)

    def forward(self, seen_TBNX: Tensor, before_BNH: Tensor | None = None) -> Tensor:
        """[T, B, N]"""
        x = self.states(seen_TBNX, before_BNH)
        return self._value(torch.relu(self._second(x))).squeeze(-1)


class ValueScale(nn.Module):
    """Running mean and deviation of the values' targets (van Hasselt et al., 2016).

    They are parameters without a gradient, so that checkpoints keep them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.square = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(()), requires_grad=False)
        """Of what the two have seen: they begin at nothing."""

    @torch.no_grad()
    def learn(self, targets: Tensor) -> None:
        """Take in the targets of a rollout, as many as there are."""
        self.mean.mul_(_SLOW).add_((1.0 - _SLOW) * targets.mean())
        self.square.mul_(_SLOW).add_((1.0 - _SLOW) * targets.square().mean())
        self.weight.mul_(_SLOW).add_(1.0 - _SLOW)

    def _of(self) -> tuple[Tensor, Tensor]:
        weight = self.weight.clamp(min=1e-5)
        mean = self.mean / weight
        deviation = (self.square / weight - mean.square()).clamp(min=1e-2).sqrt()
        return mean, deviation

    def scaled(self, values: Tensor) -> Tensor:
        """In the critic's terms; unchanged before anything was learned."""
        if not bool(self.weight > 0.0):
            return values
        mean, deviation = self._of()
        return (values - mean) / deviation

    def unscaled(self, values: Tensor) -> Tensor:
        """In rewards."""
        if not bool(self.weight > 0.0):
            return values
        mean, deviation = self._of()
        return mean + deviation * values
