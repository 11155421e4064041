"""A normal distribution squeezed into a box: actions that are real numbers (Haarnoja et al., 2018).

    mean, deviation -> u ~ Normal -> a = tanh(u) in (-1, 1)

Beyond a threshold, where tanh is flat, the density is that of the whole tail spread over what is
left, as in the reference code: log-probabilities stay finite for actions at the border.

Dimension key: n = numbers of an action; everything else is batch.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional

_THRESHOLD = 0.999
_FLOOR = 1e-3
"""Smallest deviation."""


class TanhNormal:
    """Independent numbers.

    Args:
        mean: [..., n] before tanh.
        log_std: [n] before softplus.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self._normal = Normal(mean, functional.softplus(log_std) + _FLOOR, validate_args=False)

    def log_prob(self, actions: Tensor) -> Tensor:
        """[…] of actions [..., n] in [-1, 1]."""
        inner = actions.clamp(-_THRESHOLD, _THRESHOLD)
        u = inner.atanh()
        within = self._normal.log_prob(u) - _log_slope(u)
        left, right = self._tails()
        rest = math.log(1.0 - _THRESHOLD)
        within = torch.where(actions <= -_THRESHOLD, left - rest, within)
        return torch.where(actions >= _THRESHOLD, right - rest, within).sum(-1)

    def _tails(self) -> tuple[Tensor, Tensor]:
        """[..., n] log-probabilities of what lies beyond the threshold on either side."""
        edge = math.atanh(_THRESHOLD)
        mean, deviation = self._normal.mean, self._normal.stddev
        special: Any = torch.special  # typed in part only
        return special.log_ndtr((-edge - mean) / deviation), special.log_ndtr(
            (mean - edge) / deviation
        )

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """[..., n] without a gradient."""
        mean, deviation = self._normal.mean.detach(), self._normal.stddev.detach()
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return torch.tanh(mean + deviation * noise)

    def mode(self) -> Tensor:
        """[..., n] what is played where nothing is drawn."""
        return torch.tanh(self._normal.mean)

    def entropy(self, noise: Tensor) -> Tensor:
        """[…] an estimate with one draw: the normal's entropy and the logarithm of the slope there.

        Args:
            noise: [..., n] standard normal.
        """
        u = self._normal.mean + self._normal.stddev * noise
        return (self._normal.entropy() + _log_slope(u)).sum(-1)


def _log_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)²) without losing digits."""
    return 2.0 * (math.log(2.0) - u - functional.softplus(-2.0 * u))
