"""What algorithms that learn action values by temporal differences have in common.

    unroll (online, target) -> chosen values, TD targets -> TD error -> loss

The files of the algorithms call these in order; which values, whose targets and how they are mixed
is theirs.

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

import torch
from torch import Tensor

from learner.algorithms.base import Algorithm, Loss, Unrolled
from learner.experience.part import Divisors, Part
from learner.targets import individual_targets, next_values, td_losses, team_targets


class ValueBased(Algorithm):
    """Agents whose head is q, and a target policy."""

    def target_q(self, part: Part) -> Tensor:
        """[T + 1, B, N, A] by the target policy, as it will be deployed."""
        return part.settled("q", lambda: self.unroll_deployed(self.target_policy, part).q_TBNA)

    @torch.no_grad()
    def next_values(self, online_q_TBNA: Tensor, target_q_TBNA: Tensor) -> Tensor:
        """[T, B, N] value of each agent's next step; from q of T + 1 steps."""
        return next_values(online_q_TBNA[1:], target_q_TBNA[1:], self.config)

    @torch.no_grad()
    def team_targets(self, next_total_TB: Tensor, part: Part) -> Tensor:
        """[T, B] of the team's value."""
        gamma, horizon = self.config.gamma, self._horizon
        return part.settled(
            "targets", lambda: team_targets(next_total_TB, part.outcome, gamma, *horizon)
        )

    @torch.no_grad()
    def individual_targets(self, next_TBN: Tensor, part: Part) -> Tensor:
        """[T, B, N] of each agent's own value."""
        gamma, horizon = self.config.gamma, self._horizon
        return part.settled(
            "targets", lambda: individual_targets(next_TBN, part.outcome, gamma, *horizon)
        )

    @property
    def _horizon(self) -> tuple[float, int]:
        """td_lambda and n_step at this point of the training."""
        if not self.schedules.looks_ahead:
            return 0.0, 1
        return self.config.td_lambda, self.config.n_step

    def team_td(
        self,
        q_tot_TB: Tensor,
        targets_TB: Tensor,
        chosen_TBN: Tensor,
        unrolled: Unrolled,
        part: Part,
        divisors: Divisors,
        weights_TB: Tensor | None = None,
    ) -> Loss:
        """The mean squared TD error of a team's value.

        Args:
            chosen_TBN: the agents' values of what they did: a metric.
            weights_TB: of the squared errors; None: 1.
        """
        mask, count = part.learns_TB, divisors.steps
        return self._td(
            q_tot_TB, targets_TB, mask, count, chosen_TBN, unrolled, part, divisors, weights_TB
        )

    def individual_td(
        self,
        chosen_TBN: Tensor,
        targets_TBN: Tensor,
        unrolled: Unrolled,
        part: Part,
        divisors: Divisors,
    ) -> Loss:
        """The mean squared TD error of each agent's own value."""
        mask, count = part.agent_mask_TBN, divisors.agent_steps
        return self._td(chosen_TBN, targets_TBN, mask, count, chosen_TBN, unrolled, part, divisors)

    def _td(
        self,
        values: Tensor,
        targets: Tensor,
        mask: Tensor,
        count: Tensor,
        chosen_TBN: Tensor,
        unrolled: Unrolled,
        part: Part,
        divisors: Divisors,
        weights: Tensor | None = None,
    ) -> Loss:
        """From values and targets of [T, B] or [T, B, N]."""
        error = td_error(values, targets, mask)
        losses = td_losses(error, self.config.huber, weights)
        part.charge(losses, count)
        loss = losses.sum() / count
        chosen = torch.where(part.agent_mask_TBN, chosen_TBN, 0.0).sum()
        sums = {
            "loss": loss,
            "td_error": error.abs().sum() / count,
            "q_mean": chosen / divisors.agent_steps,
            "target_mean": torch.where(mask, targets, 0.0).sum() / count,
        }
        if unrolled.noisy_B is not None:
            clean = mask & ~unrolled.noisy_B.view(1, -1, *[1] * (mask.ndim - 2))
            sums["deployed_squares"] = torch.where(clean, error, 0.0).square().sum()
            sums["deployed_steps"] = clean.sum()
        return Loss(loss, sums)


def td_error(values: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """values - targets where they count."""
    # where() and not a product: a masked NaN would stay a NaN.
    return torch.where(mask, values - targets, 0.0)


def of_actions(q_TBNA: Tensor, actions_TBN: Tensor) -> Tensor:
    """[T, B, N] the values of what the agents did."""
    return q_TBNA.gather(-1, actions_TBN.unsqueeze(-1)).squeeze(-1)
