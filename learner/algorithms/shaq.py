"""SHAQ: Shapley Q-learning (Wang et al., 2022).

    q_tot = sum_i delta_i q_i       delta_i = 1 where agent i does what it values most, else alpha_i
    alpha_i = 1 + mean over orders of |f(mean q of those who joined before i, q_i; state)|
    y = r + gamma sum_i q'_i         no mixer in the target: greedy actions have weight 1

f is a mixer of two values (learner/mixers/qmix.py), so neither it nor anything else grows with the
number of agents. The orders in which agents join a coalition are drawn anew for each step; whom i
finds there is all that f has to know, so a running mean along each order does for all agents at
once: O(N) for a draw, where the paper's code has masks of N × N.

As alpha is at least 1, a value above 0 that an agent does not hold for its best is learned too low
by that factor, and one below 0 too high: where all values are above 0, an action that looked best
early may go on looking so.

alpha has a gradient to the agents as well. f has a step size and a bound of its gradient of its
own. The dead do not join. Whether the online or the target agents choose q' is `learner.double_q`.

Dimension key: T = time, B = batch, N = agents, M = samples of an order, S = state.
"""

import torch
from torch import Tensor, nn

from configs.algorithms.shaq import OPTIONS, TRAITS
from learner.algorithms.base import Loss, ParameterGroup, Setup
from learner.algorithms.value_based import ValueBased, of_actions
from learner.experience.part import Divisors, Part
from learner.experience.replay import Rows
from learner.mixers.qmix import QMixer
from learner.targets import living_only


def random_orders(
    alive_TBN: Tensor, samples: int, generator: torch.Generator, rows: Rows
) -> Tensor:
    """[T, B, M, N] agents in the order in which they join.

    Noise is drawn for all rows of the part, so that it does not depend on who works off which.
    """
    time, _, agents = alive_TBN.shape
    shape = (time, rows.of, samples, agents)
    keys = torch.rand(shape, generator=generator, device=alive_TBN.device)
    return keys[:, rows.slice].argsort(-1)


def joined_before(q_N: Tensor, alive_N: Tensor, orders_MN: Tensor) -> Tensor:
    """[…, M, N] mean value of the living who joined before each agent; 0 where nobody has.

    Args:
        q_N: […, N]
        alive_N: […, N] bool.
        orders_MN: […, M, N] agents in the order in which they join.
    """
    counts_N = alive_N.to(q_N.dtype)
    in_order = [
        x_N.unsqueeze(-2).expand(orders_MN.shape).gather(-1, orders_MN)
        for x_N in (q_N * counts_N, counts_N)
    ]
    sums, numbers = (x.cumsum(-1) - x for x in in_order)
    means = sums / numbers.clamp(min=1.0)
    return torch.zeros_like(means).scatter(-1, orders_MN, means)


def alphas(
    weigh: nn.Module, q_N: Tensor, alive_N: Tensor, orders_MN: Tensor, state_S: Tensor
) -> Tensor:
    """[…, N] weights, at least 1, of the agents that do not do what they value most."""
    before_MN = joined_before(q_N, alive_N, orders_MN)
    pairs_MN2 = torch.stack((before_MN, q_N.unsqueeze(-2).expand_as(before_MN)), dim=-1)
    # The hypernetworks see each state once, for all orders and agents.
    return 1.0 + weigh(pairs_MN2, state_S[..., None, None, :]).abs().mean(-2)


class Shaq(ValueBased):
    """A policy and its target, and the network of weights, which has none."""

    traits = TRAITS
    recordable = True
    Options = OPTIONS

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        config = setup.config
        weigh = QMixer(
            2,
            setup.dimensions.state_dim,
            mixing_embed=config.mixing_embed,
            hypernet_embed=config.hypernet_embed,
        )
        return {"mixer": weigh, **setup.auxiliary()}

    def followed(self) -> list[str]:
        return ["policy"]

    def parameter_groups(self) -> list[ParameterGroup]:
        agents = tuple(name for name in self.online if name != "mixer")
        share = self.options.weights_rate
        return [ParameterGroup(agents), ParameterGroup(("mixer",), share, clipped_with="mixer")]

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        target_q_TBNA = self.target_q(part)
        online = self.unroll(part)
        q_TBNA, alive_TBN = online.q_TBNA[:-1], part.lives_TBN
        chosen_TBN = of_actions(q_TBNA, part.actions)
        next_TBN = self.next_values(online.q_TBNA, target_q_TBNA)
        targets_TB = self.team_targets(living_only(next_TBN, part.lives_on_TBN).sum(-1), part)

        samples = self.options.samples
        orders_TBMN = random_orders(alive_TBN, samples, part.generator, part.rows)
        alpha_TBN = alphas(
            self.online["mixer"], chosen_TBN, alive_TBN, orders_TBMN, part.states[:-1]
        )
        delta_TBN = torch.where(q_TBNA.argmax(-1) == part.actions, 1.0, alpha_TBN)
        q_tot_TB = living_only(delta_TBN * chosen_TBN, alive_TBN).sum(-1)
        td = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors)

        mean = torch.where(part.agent_mask_TBN, alpha_TBN, 0.0).sum() / divisors.agent_steps
        td.sums["alpha_mean"] = mean
        return td + self.policy_terms(online, part, divisors)

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        """Of each order and agent: a mean (3) and two values mixed."""
        one = 3 + QMixer.flops(2, setup.config.mixing_embed)
        return setup.options.samples * setup.dimensions.num_agents * one


ALGORITHM = Shaq
