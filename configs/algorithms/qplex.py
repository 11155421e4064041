"""QPLEX, without torch: learner/algorithms/qplex.py is the algorithm."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.algorithms.base import Traits
from configs.ranges import between, check_ranges, within


@dataclass(frozen=True, kw_only=True)
class QplexOptions:
    """What QPLEX alone takes."""

    variant: Literal["dmaq", "qatten"] = "dmaq"
    """How the agents' values are weighed: by the state (dmaq), or by attention of the state to what
    each agent sees (qatten)."""
    weighted_head: bool = True
    """dmaq: weigh the values at all; qatten: weigh the heads by the state."""
    kernels: Annotated[int, between(1, 64)] = 4
    """Products that add up to the weight of an advantage."""
    advantage_layers: Annotated[int, between(1, 3)] = 1
    """Layers of each factor of such a product."""
    advantage_embed: Annotated[int, between(1, 1024)] = 64
    """Hidden units of these layers."""
    heads: Annotated[int, between(1, 64)] = 4
    """qatten: heads of attention, of `learner.mixing_embed` units each."""
    attention_coef: Annotated[float, within(0.0, 1000.0)] = 1e-3
    """qatten: weight of the mean squared logits in the loss."""

    def __post_init__(self) -> None:
        check_ranges(self, "--algorithm.options")


OPTIONS = QplexOptions
TRAITS = Traits(
    reads=("mixing_embed", "hypernet_embed"),
    sizes={"mixer": ("hypernet_embed", "mixing_embed", "advantage_embed")},
    keeps=("variant", "weighted_head", "kernels", "advantage_layers", "heads"),
    has_operator=False,
)
