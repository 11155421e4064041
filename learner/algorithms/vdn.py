"""VDN: the team's value is the sum of the agents' (Sunehag et al., 2017).

    q_tot = sum_i q_i;   y = r + gamma sum_i q'_i;   loss = mean of (q_tot - y)²

The team's reward r is the mean of the agents' own ones.
"""

from torch import nn

from configs.algorithms.vdn import TRAITS
from learner.algorithms.base import Loss, Setup
from learner.algorithms.value_based import ValueBased, of_actions
from learner.experience.part import Divisors, Part
from learner.targets import living_only


class Vdn(ValueBased):
    """A mixer without parameters."""

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
        targets_TB = self.team_targets(living_only(next_TBN, part.lives_on_TBN).sum(-1), part)
        q_tot_TB = living_only(chosen_TBN, part.lives_TBN).sum(-1)
        td = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors)
        return td + self.policy_terms(online, part, divisors)

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        return setup.dimensions.num_agents - 1


ALGORITHM = Vdn
