"""CTDS without torch: learner/algorithms/ctds.py is the algorithm."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.algorithms.base import Traits
from configs.algorithms.guided import GuideOptions, guided_traits
from configs.ranges import within


@dataclass(frozen=True, kw_only=True)
class CtdsOptions(GuideOptions):
    """What CTDS takes."""

    guide: Literal["sable", "mat"] = "sable"
    """The teacher, which decides for all agents during training."""
    follow: Annotated[float, within(0.0, 1000.0)] = 1.0
    """Weight of the agents' divergence from the teacher."""
    divergence: Literal["guider-first", "agents-first"] = "guider-first"
    """Of the agents from the teacher: KL(mu || pi), or KL(pi || mu)."""


def ctds_traits(options: CtdsOptions) -> Traits:
    """The teacher plays in training, the agents when they are evaluated."""
    return guided_traits(options, alone=False)


OPTIONS = CtdsOptions
TRAITS = ctds_traits
