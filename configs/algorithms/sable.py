"""Sable without torch: learner/algorithms/sable.py is the algorithm."""

from configs.algorithms.base import Traits
from configs.algorithms.guided import GuideOptions, guided_traits


def sable_traits(options: GuideOptions) -> Traits:
    """It plays everywhere."""
    return guided_traits(options, alone=True)


OPTIONS = GuideOptions
TRAITS = sable_traits
