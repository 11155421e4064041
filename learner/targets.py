"""TD targets: what each value should have been.

    q of the next step (online chooses, target values) , rewards, who lives on -> target

`terminated` ends the value, `truncated` does not: after a time-out the value of the next
observation counts. An agent that dies has no value beyond; a dead agent has none at all. Flags
bring back the papers' habits, a time-out as the end and dead agents in the loss.

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema import LearnerConfig


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What each of T steps brought."""

    rewards_TBN: Tensor
    """Individual rewards, already scaled."""
    alive_TBN: Tensor
    """[T + 1, B, N] bool"""
    filled_TB: Tensor
    """bool: steps that were played."""
    ends_TB: Tensor
    """bool: there is no value beyond this step, for anybody."""

    @classmethod
    def of(
        cls,
        config: LearnerConfig,
        *,
        rewards_TBN: Tensor,
        alive_TBN: Tensor,
        filled_TB: Tensor,
        terminated_TB: Tensor,
        truncated_TB: Tensor,
    ) -> "Outcome":
        """Apply the reward scale and the papers' habits to what was recorded."""
        ends = terminated_TB | truncated_TB if config.timeout_is_terminal else terminated_TB
        # An agent in the loss after its death is one that counts as alive to the end.
        alive = torch.ones_like(alive_TBN) if config.dead_in_loss else alive_TBN
        return cls(rewards_TBN * config.reward_scale, alive, filled_TB, ends)

    @property
    def agent_mask_TBN(self) -> Tensor:
        """bool: steps that an agent played and, unless the flag says otherwise, lived."""
        return self.filled_TB.unsqueeze(-1) & self.alive_TBN[:-1]


def next_values(online_q_TBNA: Tensor, target_q_TBNA: Tensor, *, double_q: bool) -> Tensor:
    """[T, B, N] value of each agent's next step, from q of steps 1 to T.

    Double Q: the online network chooses the action and the target network values it.
    """
    if not double_q:
        return target_q_TBNA.amax(-1)
    best_TBN1 = online_q_TBNA.argmax(-1, keepdim=True)
    return target_q_TBNA.gather(-1, best_TBN1).squeeze(-1)


def individual_targets(next_TBN: Tensor, outcome: Outcome, gamma: float) -> Tensor:
    """[T, B, N] r_i + gamma q_i', without q_i' where the episode ends or agent i dies."""
    goes_on_TBN = ~outcome.ends_TB.unsqueeze(-1) & outcome.alive_TBN[1:]
    return outcome.rewards_TBN + gamma * next_TBN * goes_on_TBN


def team_targets(next_total_TB: Tensor, outcome: Outcome, gamma: float) -> Tensor:
    """[T, B] mean of the individual rewards + gamma q_tot', without q_tot' where the episode ends.

    The dead count with a reward of 0; their share of q_tot' is the mixer's matter (`living_only`).
    """
    reward_TB = outcome.rewards_TBN.mean(-1)
    return reward_TB + gamma * next_total_TB * ~outcome.ends_TB


def living_only(q_TBN: Tensor, alive_TBN: Tensor) -> Tensor:
    """What goes into a mixer: the dead contribute 0."""
    return q_TBN * alive_TBN
