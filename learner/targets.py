"""TD targets: what each value should have been.

    q of the next step (online chooses, target values) , rewards, who lives on -> target

With `td_lambda` the value of the next step is mixed with the return that followed (Peng's Q(lambda)
without cutting: behaviour and target policy differ by epsilon only):

    G_t = r_t + gamma ((1 - lambda) q'_t+1 + lambda G_t+1)        as long as steps were recorded

which is MAST's (1 - lambda) sum_n lambda^(n-1) T_n, where T_n is the n-step target; RLx2 takes one
T_n (`n_step`). Either may begin late in a run (`learner.td_lambda_start`): returns of policies that
are long gone mislead more than a young target network.

`terminated` ends the value, `truncated` does not: after a time-out the value of the next
observation counts. An agent that dies has no value beyond; a dead agent has none at all. Flags
bring back the papers' habits, a time-out as the end and dead agents in the loss.

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from configs.schema import LearnerConfig
from learner.mellowmax import soft_mellowmax


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What each of T steps brought."""

    rewards_TBN: Tensor
    """Individual rewards, already clipped, less what a death costs, and scaled."""
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
        """Apply clip, cost of death and scale of rewards and the papers' habits to what was
        recorded.
        """
        ends = terminated_TB | truncated_TB if config.timeout_is_terminal else terminated_TB
        # An agent in the loss after its death is one that counts as alive to the end.
        alive = torch.ones_like(alive_TBN) if config.dead_in_loss else alive_TBN
        clip = config.reward_clip or float("inf")
        rewards = rewards_TBN.clamp(max=clip)
        if config.death_cost:
            died_TBN = filled_TB.unsqueeze(-1) & alive_TBN[:-1] & ~alive_TBN[1:]
            rewards = rewards - config.death_cost * died_TBN
        rewards = rewards * config.reward_scale
        return cls(rewards, alive, filled_TB, ends)

    @property
    def agent_mask_TBN(self) -> Tensor:
        """bool: steps that an agent played and, unless the flag says otherwise, lived."""
        return self.filled_TB.unsqueeze(-1) & self.alive_TBN[:-1]


def next_values(
    online_q_TBNA: Tensor,
    target_q_TBNA: Tensor,
    config: LearnerConfig,
    allowed_TBNA: Tensor | None = None,
) -> Tensor:
    """[T, B, N] value of each agent's next step, from q of steps 1 to T.

    Double Q: the online network chooses the action and the target network values it. Soft mellowmax
    chooses none: the target network's values are all it needs. What is not allowed (bool, at least
    one in each row is; None: all are) is neither chosen nor weighed.
    """
    if allowed_TBNA is not None:
        lowest = torch.finfo(target_q_TBNA.dtype).min / 1e4
        online_q_TBNA = online_q_TBNA.masked_fill(~allowed_TBNA, lowest)
        target_q_TBNA = target_q_TBNA.masked_fill(~allowed_TBNA, lowest)
    if config.operator == "mellowmax":
        return soft_mellowmax(target_q_TBNA, config.mellowmax_alpha, config.mellowmax_omega)
    if not config.double_q:
        return target_q_TBNA.amax(-1)
    best_TBN1 = online_q_TBNA.argmax(-1, keepdim=True)
    return target_q_TBNA.gather(-1, best_TBN1).squeeze(-1)


def individual_targets(
    next_TBN: Tensor, outcome: Outcome, gamma: float, td_lambda: float = 0.0, n_step: int = 1
) -> Tensor:
    """[T, B, N] r_i + gamma q_i', without q_i' where the episode ends or agent i dies."""
    goes_on_TBN = ~outcome.ends_TB.unsqueeze(-1) & outcome.alive_TBN[1:]
    followed_TB1 = _is_followed(outcome.filled_TB).unsqueeze(-1)
    rewards_TBN, discounts_TBN = outcome.rewards_TBN, gamma * goes_on_TBN
    if n_step > 1:
        return _n_step_returns(rewards_TBN, next_TBN, discounts_TBN, followed_TB1, n_step)
    return _mixed_returns(rewards_TBN, next_TBN, discounts_TBN, td_lambda * followed_TB1)


def team_targets(
    next_total_TB: Tensor, outcome: Outcome, gamma: float, td_lambda: float = 0.0, n_step: int = 1
) -> Tensor:
    """[T, B] mean of the individual rewards + gamma q_tot', without q_tot' where the episode ends.

    The dead count with a reward of 0; their share of q_tot' is the mixer's matter (`living_only`).
    """
    followed_TB = _is_followed(outcome.filled_TB)
    rewards_TB, discounts_TB = outcome.rewards_TBN.mean(-1), gamma * ~outcome.ends_TB
    if n_step > 1:
        return _n_step_returns(rewards_TB, next_total_TB, discounts_TB, followed_TB, n_step)
    return _mixed_returns(rewards_TB, next_total_TB, discounts_TB, td_lambda * followed_TB)


def _is_followed(filled_TB: Tensor) -> Tensor:
    """[T, B] bool: the next step was played as well, and lies within the window."""
    return torch.cat((filled_TB[1:], torch.zeros_like(filled_TB[:1])))


def _mixed_returns(
    rewards: Tensor, next_values: Tensor, discounts: Tensor, share_of_return: Tensor
) -> Tensor:
    """[T, …] r_t + discount_t ((1 - share_t) q'_t+1 + share_t G_t+1), from the last step back."""
    returns = rewards + discounts * next_values  # the last step's, and everybody's with share 0
    # What is added for the return beyond: discount × share × (G_t+1 - q'_t+1).
    weights = (discounts * share_of_return).unbind(0)
    one_step, values = returns.unbind(0), next_values.unbind(0)
    mixed = [one_step[-1]]
    for t in range(len(one_step) - 2, -1, -1):
        mixed.append(one_step[t] + weights[t] * (mixed[-1] - values[t]))
    return torch.stack(mixed[::-1])


def _n_step_returns(
    rewards: Tensor, next_values: Tensor, discounts: Tensor, followed: Tensor, n_step: int
) -> Tensor:
    """[T, …] n rewards and the value after them; fewer where less was recorded."""
    one_step = rewards + discounts * next_values
    returns = one_step
    for _ in range(n_step - 1):
        # One reward more: the shorter return of the next step stands for its value.
        gain = functional.pad(returns[1:] - next_values[:-1], (0, 0) * (returns.ndim - 1) + (0, 1))
        returns = one_step + discounts * followed * gain
    return returns


def returns_to_go(outcome: Outcome, gamma: float, after_B: Tensor) -> Tensor:
    """[T, B] the team's discounted rewards from each step to the episode's end, as recorded.

    Args:
        outcome: of windows.
        gamma: discount factor.
        after_B: the same of the steps behind the window, scaled and clipped likewise.
    """
    returns = [after_B]
    for rewards_B in reversed(outcome.rewards_TBN.mean(-1).unbind(0)):
        returns.append(rewards_B + gamma * returns[-1])
    return torch.stack(returns[:0:-1])


def td_losses(td_error: Tensor, huber: float, weights: Tensor | None = None) -> Tensor:
    """The squared errors, or weights × squared errors; errors beyond `huber` (if any) count
    2 huber |e| - huber².
    """
    losses = td_error.square()
    if huber:
        zeros = torch.zeros_like(td_error)
        losses = 2.0 * functional.huber_loss(td_error, zeros, reduction="none", delta=huber)
    return losses if weights is None else weights * losses


def td_loss(td_error: Tensor, huber: float, weights: Tensor | None = None) -> Tensor:
    """Sum of `td_losses`."""
    return td_losses(td_error, huber, weights).sum()


def living_only(q_TBN: Tensor, alive_TBN: Tensor) -> Tensor:
    """What goes into a mixer: the dead contribute 0."""
    return q_TBN * alive_TBN
