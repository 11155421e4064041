"""MAGPO: agents follow a guider that never strays beyond where they can follow (Li et al., 2025).

mu, the guider:   -min(r A, clip(clip(mu / pi, 1 / delta, delta) pi / mu_old) A), r = mu / mu_old
                  + KL(mu || pi) where mu / pi is beyond delta, - entropy + value error
pi, the agents:   KL(mu || pi) + improve × (-min(s A, clip(s) A)),                s = pi / mu_old

The guider plays during training, so mu_old is what the data is from. When they are evaluated the
agents play, each by itself.

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

import torch

from configs.algorithms.magpo import OPTIONS, TRAITS
from learner.algorithms.base import Loss
from learner.algorithms.ctds import Ctds
from learner.algorithms.guided import Judged
from learner.algorithms.policy_gradient import ADVANTAGE, played
from learner.experience.part import Divisors, Part
from learner.policy_gradient.clipped import surrogate
from learner.policy_gradient.guided import divergence, double_clipped, strays


class Magpo(Ctds):
    """Multi-agent guided policy optimisation."""

    traits = TRAITS
    Options = OPTIONS

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        judged = self.judged(part)
        unrolled, log_pi_TBNA = self.students(part)
        log_pi_TBN = played(log_pi_TBNA, part)
        both = self._guider(judged, log_pi_TBNA, log_pi_TBN, part, divisors)
        both += self.imitation(judged, log_pi_TBNA, part, divisors)
        both += self._improvement(judged, log_pi_TBN, part, divisors)
        both = Loss(both.total, both.sums | {"loss": both.total})
        return both + self.policy_terms(unrolled, part, divisors)

    def _guider(
        self,
        judged: Judged,
        log_pi_TBNA: torch.Tensor,
        log_pi_TBN: torch.Tensor,
        part: Part,
        divisors: Divisors,
    ) -> Loss:
        options, mask_TBN, count = self.options, part.agent_mask_TBN, divisors.agent_steps
        log_mu_TBN, log_pi_TBN = judged.log_prob_TBN, log_pi_TBN.detach()
        old_TBN = torch.where(mask_TBN, judged.old_TBN, log_mu_TBN.detach())
        losses_TBN = double_clipped(
            log_mu_TBN, log_pi_TBN, old_TBN, part.columns[ADVANTAGE.name], options.clip,
            options.delta,
        )  # fmt: skip
        policy_loss = torch.where(mask_TBN, losses_TBN, 0.0).sum() / count
        strays_TBN = mask_TBN & strays(log_mu_TBN, log_pi_TBN, options.delta)
        apart_TBN = divergence(judged.log_mu_TBNA, log_pi_TBNA.detach())
        pull = torch.where(strays_TBN, apart_TBN, 0.0).sum() / count
        entropy = self.entropy(judged.log_mu_TBNA, part, divisors)
        moved_TBN = torch.where(mask_TBN, log_mu_TBN - old_TBN, 0.0)
        total = policy_loss + pull - options.entropy * entropy
        guider = Loss(
            total,
            {
                "policy_loss": policy_loss,
                "entropy": entropy,
                "policy_moved": (moved_TBN.exp() - 1.0 - moved_TBN).sum() / count,
                "guide_strays": strays_TBN.sum() / count,
            },
        )
        return guider + self.value_errors(judged.values_TBN, part, divisors)

    def _improvement(
        self, judged: Judged, log_pi_TBN: torch.Tensor, part: Part, divisors: Divisors
    ) -> Loss:
        """The agents' own surrogate, against what the guide played by."""
        options, mask_TBN, count = self.options, part.agent_mask_TBN, divisors.agent_steps
        old_TBN = torch.where(mask_TBN, judged.old_TBN, log_pi_TBN.detach())
        advantage_TBN = part.columns[ADVANTAGE.name]
        losses_TBN = surrogate(log_pi_TBN, old_TBN, advantage_TBN, options.clip)
        losses_TBN = torch.where(mask_TBN, losses_TBN, 0.0)
        part.charge(losses_TBN, count, options.improve)
        loss = losses_TBN.sum() / count
        return Loss(options.improve * loss, {"agents_loss": loss})


ALGORITHM = Magpo
