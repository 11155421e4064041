"""RES: regularised softmax, against overestimated team values (Pan et al., 2021).

    U = joint actions that differ from the greedy one in one agent at most: n × A, it n times
    q_tot' = sum_U softmax(beta q_tot(u)) q_target(u)
    loss = TD + lambda mean of (q_tot - return)²

The online networks choose the weights and the target networks the values, as in double Q. The
return is the recorded one, to the episode's end and without a value beyond.

With soft mellowmax (MAST does not say how the two go together) an agent that does not deviate
counts with that in place of its greedy value, in weights and values alike.

An agent that is dead has one action, to do nothing, as in the paper's code.

Dimension key: T = time, B = batch, N = agents, A = actions, S = state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.mixers.qmix import QMixer

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
        counts_TBNA = alive_TBN[now].unsqueeze(-1).repeat(1, 1, 1, actions)
        counts_TBNA[..., 0] = True
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
