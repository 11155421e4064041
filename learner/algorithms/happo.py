"""HAPPO: agents improve one after the other, each with regard to those before (Kuba et al., 2022).

    random order -> agent i_1 -> i_2 -> … -> i_N -> critic           (turns of a rollout)

    loss of i_m = -min(r M A, clip(r) M A) - entropy,     r = pi / pi_old of agent i_m
    M = product of r over the agents before, i_1 … i_m-1

A turn has all epochs and minibatches, so a rollout costs N + 1 times as many gradient steps as one
of MAPPO. M is computed once a turn, from what the policy says by then: all that earlier turns have
changed is in it, what they changed by messages or by shared parameters included.

Dimension key: T = time, B = batch, N = agents.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from configs.algorithms.happo import OPTIONS, TRAITS
from configs.columns import LOG_PROB, Column
from learner.algorithms.base import Loss, Setup
from learner.algorithms.mappo import Mappo
from learner.algorithms.policy_gradient import ADVANTAGE
from learner.experience.episode import Episode
from learner.experience.part import Divisors, Part
from learner.network import PolicyNetwork
from learner.schedules import Schedules

FACTOR = Column("factor", ("float32",))
"""M at the agent whose turn it is, zeros elsewhere; nothing but zeros in the critic's turn."""


_MOST = 60.0
"""Largest logarithm of M: beyond, float32 is soon infinite, or zero."""


class Happo(Mappo):
    """Agents share parameters, or have output layers (`network.heads`) or whole networks
    (`network.policies`) of their own. In an agent's turn nothing but what it acts by is improved:
    with networks of their own that is nobody else's.
    """

    traits = TRAITS
    Options = OPTIONS

    def __init__(
        self,
        setup: Setup,
        policy: PolicyNetwork,
        schedules: Schedules,
        initial: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__(setup, policy, schedules, initial, device)
        self._order: list[int] = []
        """Agents in the order of this rollout's turns."""

    @property
    def turns(self) -> int:
        """Each agent's, and the critic's."""
        return self.setup.dimensions.num_agents + 1

    @torch.no_grad()
    def in_turn(
        self, episodes: Sequence[Episode], turn: int, rng: np.random.Generator
    ) -> list[Episode]:
        """The episodes with the factor of this turn as a column."""
        if turn == 0:
            self._order = rng.permutation(self.turns - 1).tolist()
        found: list[Tensor] = []
        for part, lengths in self.parts_of(episodes):
            factor_TBN = torch.zeros_like(part.outcome.rewards_TBN)
            if turn < len(self._order):
                agent, before = self._order[turn], self._order[:turn]
                factor_TBN[..., agent] = compound(self._moved(part), before)
            found += [factor_TBN[:length, b].cpu() for b, length in enumerate(lengths)]
        return [
            episode.with_column(FACTOR, factor_TN.numpy())
            for episode, factor_TN in zip(episodes, found, strict=True)
        ]

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        factor_TBN = part.columns[FACTOR.name]
        # Whose turn it is; nobody's is the critic's.
        turn = int(factor_TBN.sum((0, 1)).argmax()) if factor_TBN.any() else None
        for_critic = turn is None
        learns = None if turn is None else turn % self.setup.spec.policies
        mine, of_mine = part, divisors
        if not for_critic:
            # A mean over the steps of the batch, to which an agent adds nothing while it is dead.
            advantage_TBN = factor_TBN * part.columns[ADVANTAGE.name]
            mine = replace(
                part,
                agent_mask_TBN=part.agent_mask_TBN & (factor_TBN > 0.0),
                columns={**part.columns, ADVANTAGE.name: advantage_TBN},
            )
            of_mine = Divisors(divisors.steps, divisors.steps)
        # What is not trained is watched: the figures of all turns have the same names.
        with torch.set_grad_enabled(not for_critic):
            unrolled = self.unroll(part, gates="recorded", learns=learns)
            actor = self.actor(unrolled, mine, of_mine)
            actor += self.policy_terms(unrolled, part, divisors)
        with torch.set_grad_enabled(for_critic):
            critic = self.value_errors(self.expected(part), part, divisors)
        total = critic.total if for_critic else actor.total
        return Loss(total, actor.sums | critic.sums | {"loss": total})

    def _moved(self, part: Part) -> Tensor:
        """[T, B, N] log pi - log pi_old of what was played; zeros where nothing counts."""
        policy = self.distribution(self.unroll(part, gates="recorded"))
        moved_TBN = policy.log_prob(part.actions) - part.columns[LOG_PROB.name]
        return torch.where(part.agent_mask_TBN, moved_TBN, 0.0)


def compound(moved_TBN: Tensor, before: Sequence[int]) -> Tensor:
    """[T, B] M of the agents that have had their turn.

    Args:
        moved_TBN: log pi - log pi_old of what each agent has played; zeros of the dead.
    """
    return moved_TBN[..., list(before)].sum(-1).clamp(-_MOST, _MOST).exp()


ALGORITHM = Happo
