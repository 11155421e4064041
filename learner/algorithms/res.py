"""RES: regularised softmax, against overestimated team values (Pan et al., 2021).

    U = joint actions that differ from the greedy one in one agent at most: n × A, it n times
    q_tot' = sum_U softmax(beta q_tot(u)) q_target(u)
    loss = TD + lambda mean of (q_tot - return)²

The online networks choose the weights and the target networks the values, as in double Q. The
return is the recorded one, to the episode's end and without a value beyond.

With soft mellowmax (MAST does not say how the two go together) an agent that does not deviate
counts with that in place of its greedy value, in weights and values alike.

An agent that is dead has one action, to do nothing, as in the paper's code. Joint actions with one
that the environment does not allow do not count; in the paper's code they enter with very low
values, of which the mixer may make what it likes.

Dimension key: T = time, B = batch, N = agents, A = actions, S = state.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.algorithms.res import TRAITS
from learner.algorithms.base import Loss, Setup
from learner.algorithms.value_based import ValueBased, of_actions
from learner.experience.part import Divisors, Part
from learner.experience.replay import Discounting
from learner.forbidden import FORBIDDEN
from learner.mixers.qmix import QMixer
from learner.sparse.layer_costs import Networks
from learner.targets import living_only, returns_to_go

_NUMBERS_AT_ONCE = 1 << 24
"""Largest T × B × N × A × mixing units worked off together: 64 MB of each intermediate."""


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """How one set of networks, online or target, values what the agents may do next."""

    mixer: QMixer
    q_TBNA: Tensor
    own_TBN: Tensor
    """Of what each agent does unless it is the one that deviates."""


@torch.no_grad()
def softmax_values(
    online: Values, target: Values, states_TBS: Tensor, alive_TBN: Tensor, beta: float
) -> Tensor:
    """[T, B] value of the next step to the team.

    Args:
        online: gives the weights.
        target: gives the values; `own_TBN` is of the same actions as the online one's.
        states_TBS: of the next steps.
        alive_TBN: bool: of the next steps.
        beta: inverse temperature; 0 is the mean, infinity the best by the online networks.
    """
    _, batch, agents, actions = online.q_TBNA.shape
    per_step = batch * agents * actions * online.mixer.mixing_embed
    steps = max(1, _NUMBERS_AT_ONCE // per_step)
    pieces: list[Tensor] = []
    for at in range(0, len(states_TBS), steps):
        now = slice(at, at + steps)
        weights, values = (
            _deviations(side, states_TBS, alive_TBN, now).flatten(-2) for side in (online, target)
        )
        living_TBN1 = alive_TBN[now].unsqueeze(-1)
        counts_TBNA = living_TBN1 & (online.q_TBNA[now] > FORBIDDEN)
        counts_TBNA[..., :1] |= ~living_TBN1
        weights = (beta * weights).masked_fill(~counts_TBNA.flatten(-2), -torch.inf).softmax(-1)
        pieces.append((weights * values).sum(-1))
    return torch.cat(pieces)


def _deviations(side: Values, states_TBS: Tensor, alive_TBN: Tensor, now: slice) -> Tensor:
    """[T, B, N, A] q_tot of the joint actions in which one agent does something else."""
    living_TBN = alive_TBN[now]
    return side.mixer.deviations(
        side.own_TBN[now] * living_TBN,
        side.q_TBNA[now] * living_TBN.unsqueeze(-1),
        states_TBS[now],
    )


class Res(ValueBased):
    """QMIX with a softmax over joint actions in its targets and a pull towards returns."""

    traits = TRAITS
    recordable = True

    def __init__(self, setup: Setup, *rest: Any) -> None:
        super().__init__(setup, *rest)
        clip = self.config.reward_clip or np.inf
        self.discounting = Discounting(self.config.gamma, clip, self.config.death_cost)

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return {"mixer": QMixer.of(setup.config, setup.dimensions), **setup.auxiliary()}

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        mixer, target_mixer = self.online["mixer"], self.target["mixer"]
        assert isinstance(mixer, QMixer)
        assert isinstance(target_mixer, QMixer)
        target_q_TBNA = self.target_q(part)
        online = self.unroll(part)
        chosen_TBN = of_actions(online.q_TBNA[:-1], part.actions)
        with torch.no_grad():
            next_total_TB = softmax_values(
                Values(mixer, online.q_TBNA[1:], self.next_values(online.q_TBNA, online.q_TBNA)),
                Values(
                    target_mixer, target_q_TBNA[1:], self.next_values(online.q_TBNA, target_q_TBNA)
                ),
                part.states[1:],
                part.lives_on_TBN,
                self.config.res_beta,
            )
            targets_TB = self.team_targets(next_total_TB, part)
        q_tot_TB = mixer(living_only(chosen_TBN, part.lives_TBN), part.states[:-1])
        td = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors)

        after_B = part.returns_after_B * self.config.reward_scale
        returns_TB = returns_to_go(part.outcome, self.config.gamma, after_B)
        distance_TB = torch.where(part.learns_TB, q_tot_TB - returns_TB, 0.0)
        squares_TB = distance_TB.square()
        part.charge(squares_TB, divisors.steps, self.config.res_lambda)
        pull = self.config.res_lambda * squares_TB.sum() / divisors.steps
        return td + Loss(pull, {"return_loss": pull}) + self.policy_terms(online, part, divisors)

    @classmethod
    def flops(cls, networks: Networks) -> float:
        """4 agents + (3 + 2 n m) mix (MAST, equation 24)."""
        mix = networks.of("mixer") + networks.mixing_flops
        deviations = networks.num_agents * networks.num_actions
        return 4 * networks.agents + (3 + 2 * deviations) * mix

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        return QMixer.flops(setup.dimensions.num_agents, setup.config.mixing_embed)


ALGORITHM = Res
