"""IQL: every agent learns from its own rewards (Tan, 1993; Tampuu et al., 2017).

y_i = r_i + gamma q'_i;   loss = mean over agents and steps of (q_i - y_i)²
"""

from torch import nn

from configs.algorithms.iql import TRAITS
from learner.algorithms.base import Loss, Setup
from learner.algorithms.value_based import ValueBased, of_actions
from learner.experience.part import Divisors, Part


class Iql(ValueBased):
    """Independent Q-learning; all agents share parameters."""

    traits = TRAITS
    recordable = True
    needs_living_only = True

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return setup.auxiliary()

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        target_q_TBNA = self.target_q(part)
        online = self.unroll(part)
        chosen_TBN = of_actions(online.q_TBNA[:-1], part.actions)
        next_TBN = self.next_values(online.q_TBNA, target_q_TBNA)
        targets_TBN = self.individual_targets(next_TBN, part)
        td = self.individual_td(chosen_TBN, targets_TBN, online, part, divisors)
        return td + self.policy_terms(online, part, divisors)


ALGORITHM = Iql
