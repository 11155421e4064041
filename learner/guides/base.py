"""What a guide is: a policy that sees all agents and decides for one after the other.

    observations of all agents, memory -> act -> actions, log-probabilities, memory
    a whole episode, its actions       -> judge -> logits, values

`act` goes step by step while the world plays, `judge` over all steps at once while the learner
learns: both agree to rounding, and so a guide's first minibatch is on policy.

An agent knows its number by a one-hot behind what it sees. The dead are told of as if they had
played action 0.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from learner.forbidden import forbidding

Memory = tuple[Tensor, ...]
"""[B, …] each."""
Draw = Callable[[Tensor], Tensor]
"""Logits [B, A] -> actions [B]."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What all agents see in one step."""

    observations_BND: Tensor
    alive_BN: Tensor
    """bool"""
    allowed_BNA: Tensor | None
    """bool; None: everything is."""
    begins_B: Tensor
    """bool: an episode begins."""
    steps_B: Tensor
    """int64: number of the step within its episode."""


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """Windows of episodes: T steps and the moment after the last."""

    observations_TBND: Tensor
    """[T + 1, …]"""
    actions_TBN: Tensor
    """int64 [T, …]"""
    alive_TBN: Tensor
    """bool [T + 1, …]"""
    allowed_TBNA: Tensor | None
    """bool [T + 1, …]"""
    start_B: Tensor
    """int64: step of its episode with which each window begins."""
    memory: Memory
    """What was remembered then; as `Guide.begin` says where that is step 0."""


class Guide(nn.Module, ABC):
    """Derive from it, and give what decides."""

    begins_as_it_is = True
    """Its layers are not drawn anew (learner/initialisation.py)."""

    def __init__(self, num_agents: int, num_actions: int) -> None:
        super().__init__()
        self.num_agents, self.num_actions = num_agents, num_actions

    @abstractmethod
    def begin(self, batch: int) -> Memory:
        """Nothing is known yet."""

    @abstractmethod
    def act(self, now: Moment, memory: Memory, draw: Draw) -> tuple[Tensor, Tensor, Memory]:
        """[B, N] actions, their log-probabilities, and the memory afterwards."""

    @abstractmethod
    def judge(self, played: Played) -> tuple[Tensor, Tensor]:
        """[T, B, N, A] logits and [T + 1, B, N] values."""

    def named(self, observations: Tensor) -> Tensor:
        """[…, N, D + N] what agents see, and who they are."""
        names = torch.eye(self.num_agents, device=observations.device, dtype=observations.dtype)
        names = names.expand(*observations.shape[:-2], -1, -1)
        return torch.cat((observations, names), dim=-1)


def one_after_the_other(
    now: Moment, draw: Draw, logits_of: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """[B, N] actions and log-probabilities, each agent told of those before it.

    Args:
        logits_of: agent, [B, N] actions so far, zeros from the agent's on -> [B, A].
    """
    actions_BN = torch.zeros_like(now.alive_BN, dtype=torch.int64)
    log_probs_BN = torch.zeros_like(now.alive_BN, dtype=now.observations_BND.dtype)
    for agent in range(now.alive_BN.shape[1]):
        logits_BA = logits_of(agent, actions_BN)
        if now.allowed_BNA is not None:
            logits_BA = forbidding(logits_BA, now.allowed_BNA[:, agent])
        log_p_BA = logits_BA.log_softmax(-1)
        alive_B = now.alive_BN[:, agent]
        chosen_B = torch.where(alive_B, draw(log_p_BA), 0)
        actions_BN[:, agent] = chosen_B
        log_prob_B = log_p_BA.gather(-1, chosen_B.unsqueeze(-1)).squeeze(-1)
        log_probs_BN[:, agent] = torch.where(alive_B, log_prob_B, 0.0)
    return actions_BN, log_probs_BN


def told_of(played: Played) -> Tensor:
    """[T, B, N] actions as other agents are told of them."""
    return torch.where(played.alive_TBN[:-1], played.actions_TBN, 0)


def allowed_logits(logits_TBNA: Tensor, played: Played) -> Tensor:
    if played.allowed_TBNA is None:
        return logits_TBNA
    return forbidding(logits_TBNA, played.allowed_TBNA[:-1])
