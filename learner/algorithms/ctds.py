"""CTDS: a teacher decides for all agents, and they imitate it (MAGPO's baseline; Li et al., 2025).

mu: PPO.                     pi: min KL(mu || pi)

The teacher may go where no agent can follow: nothing keeps it near them.

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

from typing import Any

import torch
from torch import Tensor, nn

from configs.algorithms.ctds import OPTIONS, TRAITS, CtdsOptions
from learner.algorithms.base import Loss, Setup, Unrolled
from learner.algorithms.guided import Guided, Judged, make_mat, make_sable
from learner.experience.part import Divisors, Part
from learner.guides.base import Guide
from learner.policy_gradient.guided import divergence


class Ctds(Guided):
    """Centralised teacher, decentralised students."""

    traits: Any = TRAITS
    Options = OPTIONS

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return super().parts(setup) | setup.auxiliary()

    @classmethod
    def make_guide(cls, setup: Setup) -> Guide:
        options: CtdsOptions = setup.options
        return make_sable(setup) if options.guide == "sable" else make_mat(setup)

    def imitation(
        self, judged: Judged, log_pi_TBNA: Tensor, part: Part, divisors: Divisors
    ) -> Loss:
        """How far the agents are from the guide, which has no gradient here."""
        mu_TBNA, options = judged.log_mu_TBNA.detach(), self.options
        pair = (mu_TBNA, log_pi_TBNA)
        if options.divergence == "agents-first":
            pair = (log_pi_TBNA, mu_TBNA)
        apart_TBN = torch.where(part.agent_mask_TBN, divergence(*pair), 0.0)
        part.charge(apart_TBN, divisors.agent_steps, options.follow)
        apart = apart_TBN.sum() / divisors.agent_steps
        return Loss(options.follow * apart, {"agents_from_guide": apart})

    def students(self, part: Part) -> tuple[Unrolled, Tensor]:
        """The agents over a part, and [T, B, N, A] the logarithms of their probabilities."""
        unrolled = self.unroll(part, gates="recorded")
        return unrolled, unrolled.q_TBNA[:-1].log_softmax(-1)

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        judged = self.judged(part)
        unrolled, log_pi_TBNA = self.students(part)
        both = self.guides_loss(judged, part, divisors)
        both += self.imitation(judged, log_pi_TBNA, part, divisors)
        both = Loss(both.total, both.sums | {"loss": both.total})
        return both + self.policy_terms(unrolled, part, divisors)


ALGORITHM = Ctds
