"""What the policy's head says, as a distribution over actions.

    outputs [..., A] -> Categorical         one of A actions
    outputs [..., 2 n] -> Boxed             n real numbers (agents/tanh_normal.py draws them)

Dimension key: T = time, B = batch, N = agents, A = actions, n = numbers of an action.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from agents.policy import PolicySpec
from agents.tanh_normal import Scale
from configs.arrays import Bounds
from learner.experience.part import Part
from learner.policy_gradient.tanh_normal import TanhNormal


class Distribution(Protocol):
    def log_prob(self, actions: Tensor) -> Tensor:
        """[T, B, N] of actions as they were played."""
        ...

    def entropy(self, part: Part) -> Tensor:
        """[T, B, N]; `part` has the noise, if it is an estimate."""
        ...


class Categorical:
    """One of A actions.

    Args:
        logits: [T, B, N, A]
    """

    def __init__(self, logits: Tensor) -> None:
        self.log_p_TBNA = logits.log_softmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_p_TBNA.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, part: Part) -> Tensor:
        return -(self.log_p_TBNA.exp() * self.log_p_TBNA).sum(-1)


class Boxed:
    """Real numbers; densities are those over [-1, 1].

    Args:
        outputs: [T, B, N, 2 n]
    """

    def __init__(self, outputs: Tensor, bounds: Bounds) -> None:
        mean, log_std = outputs.chunk(2, dim=-1)
        self._normal, self._mean = TanhNormal(mean, log_std), mean
        self._scale = Scale.of(bounds)

    def log_prob(self, actions: Tensor) -> Tensor:
        centre, half = (torch.tensor(x, device=actions.device) for x in self._scale)
        # In double precision, as agents do it: near the border single precision has few digits.
        inner = (actions.double() - centre) / torch.where(half > 0.0, half, np.inf)
        return self._normal.log_prob(inner).float()

    def entropy(self, part: Part) -> Tensor:
        time, _, *rest = self._mean.shape
        shape, device = (time, part.rows.of, *rest), self._mean.device
        # Drawn for all rows of the part, so that it does not depend on who works off which.
        noise = torch.randn(shape, generator=part.generator, device=device)
        return self._normal.entropy(noise[:, part.rows.slice])


def distribution_of(outputs_TBNA: Tensor, spec: PolicySpec) -> Distribution:
    """Of what a policy's head says."""
    if spec.bounds is None:
        return Categorical(outputs_TBNA)
    return Boxed(outputs_TBNA, spec.bounds)
