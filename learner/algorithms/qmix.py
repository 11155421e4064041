"""QMIX: the team's value never falls when an agent's rises (Rashid et al., 2018).

    q_tot = monotonic mixer(q_1 … q_N; state)            learner/mixers/qmix.py
    y = r + gamma target mixer(q'_1 … q'_N; next state);   loss = mean of (q_tot - y)²

The team's reward r is the mean of the agents' own ones.
"""

import torch
from torch import nn

from configs.algorithms.qmix import TRAITS
from learner.algorithms.base import Loss, Setup
from learner.algorithms.value_based import ValueBased, of_actions
from learner.experience.part import Divisors, Part
from learner.mixers.qmix import QMixer
from learner.targets import living_only


class Qmix(ValueBased):
    """One mixer and its target."""

    traits = TRAITS
    recordable = True
    needs_living_only = True

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return {"mixer": QMixer.of(setup.config, setup.dimensions), **setup.auxiliary()}

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        target_q_TBNA = self.target_q(part)
        online = self.unroll(part)
        chosen_TBN = of_actions(online.q_TBNA[:-1], part.actions)
        with torch.no_grad():
            next_TBN = self.next_values(online.q_TBNA, target_q_TBNA)
            mixer = self.target["mixer"]
            next_total_TB = mixer(living_only(next_TBN, part.lives_on_TBN), part.states[1:])
            targets_TB = self.team_targets(next_total_TB, part)
        q_tot_TB = self.online["mixer"](living_only(chosen_TBN, part.lives_TBN), part.states[:-1])
        td = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors)
        return td + self.policy_terms(online, part, divisors)

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        return QMixer.flops(setup.dimensions.num_agents, setup.config.mixing_embed)


ALGORITHM = Qmix
