"""The random policy: nothing is learned, and every action is as likely as any other.

It goes with every space of actions, so it is what any other algorithm is measured against.
"""

from torch import nn

from configs.algorithms.random import TRAITS
from learner.algorithms.base import Algorithm, Loss, Setup
from learner.experience.part import Divisors, Part


class Random(Algorithm):
    """No networks beside the policy, which nobody asks."""

    traits = TRAITS

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return {}

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        raise AssertionError("no update is owed where nothing is trained")


ALGORITHM = Random
