"""MAPPO, without torch: learner/algorithms/mappo.py is the algorithm."""

from dataclasses import dataclass
from typing import Literal

from configs.algorithms.base import Traits
from configs.algorithms.ippo import PpoOptions, ppo_traits


@dataclass(frozen=True, kw_only=True)
class MappoOptions(PpoOptions):
    """What MAPPO takes."""

    critic: Literal["mlp", "gru"] = "mlp"
    """Whether the critic remembers the episode; it sees the state."""
    sees: Literal["both", "state"] = "both"
    """What the critic knows of a moment: the state and what the agent sees of it (the
    "agent-specific" state of Yu et al.), or the state alone, which is the same for all."""


def mappo_traits(options: MappoOptions) -> Traits:
    """Those of IPPO."""
    return ppo_traits(options)


OPTIONS = MappoOptions
TRAITS = mappo_traits
