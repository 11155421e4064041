"""Actions that are real numbers: a normal distribution squeezed into a box, in numpy.

    head: means, log deviations -> u ~ Normal -> tanh(u) -> the box

`learner.policy_gradient.tanh_normal` is the same in torch, and says what the threshold is for. All
of this is computed in double precision, and of the number that is sent: log-probabilities are then
the learner's to rounding, also near the border, where tanh is flat.

Dimension key: E = copies, n = numbers of an action.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.arrays import Bounds, FloatArray

THRESHOLD = 0.999
FLOOR = 1e-3
"""Smallest deviation."""

_Doubles = NDArray[np.float64]
_FARTHEST = -30.0
"""Below, erfc would soon be zero."""


class Scale(NamedTuple):
    """Where a box is: [-1, 1] times half its widths, about its centre."""

    centre_n: _Doubles
    half_n: _Doubles

    @classmethod
    def of(cls, bounds: Bounds) -> "Scale":
        low_n, high_n = np.array(bounds[0]), np.array(bounds[1])
        return cls((low_n + high_n) / 2.0, (high_n - low_n) / 2.0)

    def into(self, inner: _Doubles) -> FloatArray:
        """[..., n] of [-1, 1], as actions are sent."""
        return (self.centre_n + self.half_n * inner).astype(np.float32)

    def back(self, actions: NDArray[Any]) -> _Doubles:
        """[..., n] the inverse; 0 where the box has no width."""
        return (actions - self.centre_n) / np.where(self.half_n > 0.0, self.half_n, np.inf)


def mode(outputs: FloatArray, scale: Scale) -> FloatArray:
    """[..., n] actions where nothing is drawn.

    Args:
        outputs: [..., 2 n] of the policy's head.
    """
    mean, _ = np.split(outputs.astype(np.float64), 2, axis=-1)
    return scale.into(np.tanh(mean))


def drawn(outputs_EO: FloatArray, scale: Scale, rng: np.random.Generator) -> FloatArray:
    """[E, n] actions; see `mode`."""
    mean_En, log_std_En = np.split(outputs_EO.astype(np.float64), 2, axis=-1)
    noise_En = rng.standard_normal(mean_En.shape)
    return scale.into(np.tanh(mean_En + _deviation(log_std_En) * noise_En))


def log_prob(outputs_EO: FloatArray, scale: Scale, actions_En: FloatArray) -> FloatArray:
    """[E] log-density of actions as they were sent, over [-1, 1] and not over the box: the two
    differ by a number that no ratio knows.
    """
    mean_En, log_std_En = np.split(outputs_EO.astype(np.float64), 2, axis=-1)
    deviation_En, inner_En = _deviation(log_std_En), scale.back(actions_En)
    u_En = np.arctanh(inner_En.clip(-THRESHOLD, THRESHOLD))
    distance_En = (u_En - mean_En) / deviation_En
    found_En = -0.5 * (distance_En**2 + math.log(2.0 * math.pi)) - np.log(deviation_En)
    found_En -= 2.0 * (math.log(2.0) - u_En - np.logaddexp(0.0, -2.0 * u_En))
    edge, rest = math.atanh(THRESHOLD), math.log(1.0 - THRESHOLD)
    for beyond_En, sign in ((inner_En <= -THRESHOLD, -1.0), (inner_En >= THRESHOLD, 1.0)):
        for at in zip(*np.nonzero(beyond_En), strict=True):
            distance = float(sign * mean_En[at] - edge) / float(deviation_En[at])
            found_En[at] = _log_ndtr(distance) - rest
    return found_En.sum(axis=-1).astype(np.float32)


def _deviation(log_std: _Doubles) -> _Doubles:
    return np.logaddexp(0.0, log_std) + FLOOR


def _log_ndtr(x: float) -> float:
    """Logarithm of the standard normal's share below x."""
    if x > _FARTHEST:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2.0)))
    # The first terms of its series for what is far away.
    return -0.5 * (x * x + math.log(2.0 * math.pi)) - math.log(-x) - 1.0 / (x * x)
