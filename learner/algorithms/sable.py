"""Sable: one policy with memory decides for one agent after the other (Mahjoub et al., 2025).

mu(a_i | what all agents have seen, a_1 … a_i-1)
loss = -min(r A, clip(r) A) - entropy + value error,     r = mu / mu_old

It decides in the learner's process, in training and in evaluations. No agent can act by itself
afterwards.
"""

from configs.algorithms.sable import OPTIONS, TRAITS
from learner.algorithms.base import Loss, Setup
from learner.algorithms.guided import Guided, make_sable
from learner.experience.part import Divisors, Part
from learner.guides.base import Guide


class Sable(Guided):
    """PPO of a policy for all agents."""

    traits = TRAITS
    Options = OPTIONS

    @classmethod
    def make_guide(cls, setup: Setup) -> Guide:
        return make_sable(setup)

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        loss = self.guides_loss(self.judged(part), part, divisors)
        return Loss(loss.total, loss.sums | {"loss": loss.total})


ALGORITHM = Sable
