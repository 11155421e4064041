"""What policy gradients have in common: they learn from one rollout at a time.

    rollout -> values -> advantages, targets (once)
    minibatch -> log pi, values -> clipped ratios, errors of values -> loss

Actors with a critic are actor_critic.py's, policies that decide for all agents guided.py's.

Dimension key: T = time, B = batch, N = agents.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from configs.columns import VALUE, Column
from learner import noise
from learner.algorithms.base import Algorithm, Loss
from learner.experience.device_batch import Transfer
from learner.experience.episode import Episode
from learner.experience.part import Divisors, Part, part_of
from learner.experience.replay import Rows, Windows
from learner.policy_gradient.clipped import surrogate, value_loss
from learner.policy_gradient.critic import ValueScale
from learner.policy_gradient.gae import advantages

ADVANTAGE = Column("advantage", ("float32",))
"""Of the action that was played, with mean 0 and deviation 1 over the rollout."""
TARGET = Column("target", ("float32",))
"""What the critic should have said."""

_EPISODES_AT_ONCE = 8


class PolicyGradient(Algorithm):
    """Advantages and clipped losses."""

    options: Any
    """`PpoOptions`, or a subclass."""

    @abstractmethod
    def expected(self, part: Part) -> Tensor:
        """[T + 1, B, N] values, in the terms of whatever says them."""

    def followed(self) -> list[str]:
        return []

    # --- once a rollout ---------------------------------------------------------------------------

    @torch.no_grad()
    def prepared(self, episodes: Sequence[Episode]) -> list[Episode]:
        """The rollout's episodes with values, advantages and targets as columns."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for part, lengths in self.parts_of(episodes):
            found += self._judged(part, lengths)
        lived = [torch.from_numpy(e.alive[:-1]) for e in episodes]  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        counted = torch.cat([a[m] for (a, _, _), m in zip(found, lived, strict=True)])
        mean, deviation = counted.mean(), counted.std(correction=0) + 1e-8
        if "scale" in self.online:
            targets = torch.cat([t[m] for (_, _, t), m in zip(found, lived, strict=True)])
            self._scale.learn(targets.to(self._scale.mean.device))
        return [
            episode.with_column(ADVANTAGE, ((advantage - mean) / deviation).numpy())
            .with_column(VALUE, value.numpy())
            .with_column(TARGET, target.numpy())
            for episode, (advantage, value, target) in zip(episodes, found, strict=True)
        ]

    def parts_of(self, episodes: Sequence[Episode]) -> Iterator[tuple[Part, list[int]]]:
        """A rollout's episodes, a few at once, and the steps of each. Nothing random is in them:
        gates are those that were recorded.
        """
        device = next(self.policy.parameters()).device
        for begin in range(0, len(episodes), _EPISODES_AT_ONCE):
            some = list(episodes[begin : begin + _EPISODES_AT_ONCE])
            lengths = [episode.length for episode in some]
            on_device = Transfer(device).begin(Windows(some, [0] * len(some), lengths).gather())
            on_device.wait()
            rows = Rows(0, len(some), len(some))
            yield part_of(on_device, rows, noise.unused(device), self.setup.run), lengths

    def _judged(self, part: Part, lengths: list[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """[T, N] advantages, values and targets of each episode."""
        values_TBN = self.values(part)
        rewards_TBN, goes_on_TBN = self._rewards(part)
        follows_TB = torch.zeros_like(part.outcome.filled_TB)
        follows_TB[:-1] = part.outcome.filled_TB[1:]
        follows_TBN = follows_TB.unsqueeze(-1).expand_as(goes_on_TBN)
        gamma, gae_lambda = self.config.gamma, self.options.gae_lambda
        advantages_TBN = advantages(
            rewards_TBN, values_TBN, goes_on_TBN, follows_TBN, gamma, gae_lambda
        )
        targets_TBN = advantages_TBN + values_TBN[:-1]
        arrays = (advantages_TBN.cpu(), values_TBN[:-1].cpu(), targets_TBN.cpu())
        first, second, third = arrays
        return [
            (first[:length, b], second[:length, b], third[:length, b])
            for b, length in enumerate(lengths)
        ]

    def _rewards(self, part: Part) -> tuple[Tensor, Tensor]:
        """[T, B, N] rewards, and bool: whether there is a value beyond."""
        outcome = part.outcome
        goes_on_TBN = ~outcome.ends_TB.unsqueeze(-1).expand_as(outcome.rewards_TBN)
        if self.options.reward == "own":
            return outcome.rewards_TBN, goes_on_TBN & outcome.alive_TBN[1:]
        team_TBN = outcome.rewards_TBN.mean(-1, keepdim=True).expand_as(goes_on_TBN)
        return team_TBN, goes_on_TBN

    @property
    def _scale(self) -> ValueScale:
        scale = self.online["scale"]
        assert isinstance(scale, ValueScale)
        return scale

    def values(self, part: Part) -> Tensor:
        """[T + 1, B, N] in rewards."""
        values_TBN = self.expected(part)
        return self._scale.unscaled(values_TBN) if "scale" in self.online else values_TBN

    # --- every minibatch --------------------------------------------------------------------------

    def clipped(
        self,
        log_prob_TBN: Tensor,
        old_TBN: Tensor,
        part: Part,
        divisors: Divisors,
        *,
        heard: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped surrogate, and how far the policy has moved.

        Args:
            log_prob_TBN: of the actions that were played.
            old_TBN: the same when they were chosen.
            heard: the policy has heard messages, so that their gates have a share in the loss.
        """
        advantage_TBN = part.columns[ADVANTAGE.name]
        mask_TBN, count = part.agent_mask_TBN, divisors.agent_steps
        old_TBN = torch.where(mask_TBN, old_TBN, log_prob_TBN.detach())
        losses_TBN = surrogate(log_prob_TBN, old_TBN, advantage_TBN, self.options.clip)
        losses_TBN = torch.where(mask_TBN, losses_TBN, 0.0)
        if heard:
            part.charge(losses_TBN, count)
        moved_TBN = torch.where(mask_TBN, log_prob_TBN - old_TBN, 0.0)
        clipped_TBN = (moved_TBN.exp() - 1.0).abs() > self.options.clip
        return losses_TBN.sum() / count, {
            # Of the new policy from the old one, by the third estimator of Schulman (2020).
            "policy_moved": (moved_TBN.exp() - 1.0 - moved_TBN).sum() / count,
            "ratios_clipped": clipped_TBN.sum() / count,
        }

    def entropy(self, log_p_TBNA: Tensor, part: Part, divisors: Divisors) -> Tensor:
        """[] of the policy in the steps that count."""
        return self.mean(-(log_p_TBNA.exp() * log_p_TBNA).sum(-1), part, divisors)

    def mean(self, numbers_TBN: Tensor, part: Part, divisors: Divisors) -> Tensor:
        """[] over the steps that count."""
        return torch.where(part.agent_mask_TBN, numbers_TBN, 0.0).sum() / divisors.agent_steps

    def value_errors(self, values_TBN: Tensor, part: Part, divisors: Divisors) -> Loss:
        """The squared error of the values.

        Args:
            values_TBN: [T + 1, B, N] as `expected` says them.
        """
        old_TBN, target_TBN = part.columns[VALUE.name], part.columns[TARGET.name]
        if "scale" in self.online:
            old_TBN, target_TBN = self._scale.scaled(old_TBN), self._scale.scaled(target_TBN)
        clip, huber = self.options.value_clip, self.options.huber
        losses_TBN = value_loss(values_TBN[:-1], old_TBN, target_TBN, clip, huber)
        loss = torch.where(part.agent_mask_TBN, losses_TBN, 0.0).sum() / divisors.agent_steps
        return Loss(self.options.value_coef * loss, {"value_loss": loss})


def played(log_p_TBNA: Tensor, part: Part) -> Tensor:
    """[T, B, N] of the actions that were played."""
    return log_p_TBNA.gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
