"""MFQ, without torch: learner/algorithms/mfq.py is the algorithm."""

from dataclasses import dataclass
from typing import Annotated

from configs.algorithms.base import Traits
from configs.ranges import check_ranges, within


@dataclass(frozen=True, kw_only=True)
class MfqOptions:
    """What MFQ takes."""

    temperature: Annotated[float, within(1e-4, 1e4)] = 0.1
    """Of the Boltzmann policy that weighs the next step's values: near 0 the best action's alone
    counts, a large one weighs all alike."""

    def __post_init__(self) -> None:
        check_ranges(self, "--algorithm.options")


OPTIONS = MfqOptions
TRAITS = Traits(fixes_agents=False, has_operator=False)
