"""HAPPO, without torch: learner/algorithms/happo.py is the algorithm."""

from dataclasses import dataclass
from typing import Literal

from configs.algorithms.base import Traits
from configs.algorithms.mappo import MappoOptions, mappo_traits


@dataclass(frozen=True, kw_only=True)
class HappoOptions(MappoOptions):
    """What HAPPO takes. One advantage of the joint action is what its theory is about."""

    reward: Literal["own", "team"] = "team"
    """Whose rewards an agent learns from: its own, or the mean of all."""
    sees: Literal["both", "state"] = "state"
    """What the critic knows of a moment: the state and what the agent sees of it, or the state
    alone, which is the same for all."""


def happo_traits(options: HappoOptions) -> Traits:
    """Those of MAPPO."""
    return mappo_traits(options)


OPTIONS = HappoOptions
TRAITS = happo_traits
