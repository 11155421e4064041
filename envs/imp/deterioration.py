"""How components deteriorate: what a model file says.

    rate r (years since new or repaired), damage f  ->  transition[r, f] -> damage a year later

Damage is a crack's size in F bins, the last of which is failure. A component is of one of L levels;
a k-out-of-n system has one level, a wind turbine has three. In the correlated system the first
cracks depend on a factor that all components share and nobody sees.

Dimension key: L = levels, R = deterioration rates, F = bins of damage, C = bins of the factor.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]
"""Beliefs are multiplied over whole episodes: float64, unlike what agents see."""

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """How the components' first cracks depend on the factor they share."""

    prior_C: RealArray
    """[C] belief about the factor before anything was inspected."""
    initial_CF: RealArray
    """[C, F] belief about a new component's damage, given the factor."""
    repaired_CF: RealArray
    """[C, F] the same about a repaired one."""


@dataclass(frozen=True, slots=True, eq=False)
class Deterioration:
    """Transition and inspection of components."""

    initial_LF: RealArray
    """[L, F] belief about a new or repaired component's damage."""
    transition_LRFF: RealArray
    """[L, R, F, F] from damage to damage within a step, by the rate."""
    detection_LF: RealArray
    """[L, F] chance that an inspection finds damage of this size."""
    correlation: Correlation | None = None

    @property
    def num_bins(self) -> int:
        """F"""
        return self.initial_LF.shape[-1]

    @property
    def num_rates(self) -> int:
        """R"""
        return self.transition_LRFF.shape[1]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` has written.

        Raises:
            OSError, ValueError, KeyError: no such file, or of another layout.
        """
        with np.load(path) as arrays:
            correlation = None
            if "prior_C" in arrays:
                correlation = Correlation(
                    prior_C=arrays["prior_C"],
                    initial_CF=arrays["initial_CF"],
                    repaired_CF=arrays["repaired_CF"],
                )
            return cls(
                initial_LF=arrays["initial_LF"],
                transition_LRFF=arrays["transition_LRFF"],
                detection_LF=arrays["detection_LF"],
                correlation=correlation,
            )

    def save(self, path: Path) -> None:
        """Write the model, compressed without loss."""
        arrays: dict[str, Any] = {
            "initial_LF": self.initial_LF,
            "transition_LRFF": self.transition_LRFF,
            "detection_LF": self.detection_LF,
        }
        if (of := self.correlation) is not None:
            arrays |= {
                "prior_C": of.prior_C,
                "initial_CF": of.initial_CF,
                "repaired_CF": of.repaired_CF,
            }
        np.savez_compressed(path, **arrays)


@cache
def shipped(name: str) -> Deterioration:
    """A model of the package: uncorrelated, correlated or owf (data/NOTICE says where from)."""
    return Deterioration.load(DATA / f"{name}.npz")
