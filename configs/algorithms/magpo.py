"""MAGPO without torch: learner/algorithms/magpo.py is the algorithm."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.algorithms.base import Traits
from configs.algorithms.guided import GuideOptions, guided_traits
from configs.ranges import within


@dataclass(frozen=True, kw_only=True)
class MagpoOptions(GuideOptions):
    """What MAGPO takes."""

    guide: Literal["sable", "mat"] = "sable"
    """What decides for all agents during training."""
    delta: Annotated[float, within(1.0, 1e6)] = 1.3
    """Factor within which the guider's probabilities stay of the agents'; the paper tunes it to
    between 1.1 and 3."""
    follow: Annotated[float, within(0.0, 1000.0)] = 1.0
    """Weight of the agents' divergence from the guider."""
    improve: Annotated[float, within(0.0, 1000.0)] = 1.0
    """Weight of the agents' own surrogate (the paper's λ); the paper tunes it to between 1 and
    8."""
    divergence: Literal["guider-first", "agents-first"] = "guider-first"
    """Of the agents from the guider: KL(mu || pi) as in the released code, or KL(pi || mu) as in
    the paper's equation 11."""


def magpo_traits(options: MagpoOptions) -> Traits:
    """The guide plays in training, the agents when they are evaluated."""
    return guided_traits(options, alone=False)


OPTIONS = MagpoOptions
TRAITS = magpo_traits
