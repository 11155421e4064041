"""MAT without torch: learner/algorithms/mat.py is the algorithm."""

from configs.algorithms.base import Traits
from configs.algorithms.guided import GuideOptions, guided_traits


def mat_traits(options: GuideOptions) -> Traits:
    """It plays everywhere."""
    return guided_traits(options, alone=True)


OPTIONS = GuideOptions
TRAITS = mat_traits
