"""SHAQ, without torch: learner/algorithms/shaq.py is the algorithm."""

from dataclasses import dataclass
from typing import Annotated

from configs.algorithms.base import Traits
from configs.ranges import between, check_ranges, within


@dataclass(frozen=True, kw_only=True)
class ShaqOptions:
    """What SHAQ alone takes."""

    samples: Annotated[int, between(1, 1024)] = 10
    """Orders in which the agents join, drawn for each step of a batch."""
    weights_rate: Annotated[float, within(1e-6, 1000.0)] = 2.0
    """Step size of the network of weights, as a share of `learner.learning_rate` (the paper's code:
    1e-3 beside 5e-4)."""

    def __post_init__(self) -> None:
        check_ranges(self, "--algorithm.options")


OPTIONS = ShaqOptions
TRAITS = Traits(
    fixes_agents=False,
    reads=("mixing_embed", "hypernet_embed"),
    sizes={"mixer": ("mixing_embed", "hypernet_embed")},
)
