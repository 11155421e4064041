"""QPLEX: any team value whose best joint action is everybody's own best (Wang et al., 2021).

    q_i <- w_i(s) q_i + v_i(s), and so does its maximum          w_i > 0
    q_tot = sum_i q_i + sum_i (lambda_i(s, u) - 1) (q_i - max q_i)            lambda_i > 0
          = sum_i max q_i + sum_i lambda_i (q_i - max q_i)

No advantage q_i - max q_i is above 0, so q_tot is largest where all of them are 0, whatever the
positive lambda_i make of the others: that is IGM, and all of it, as lambda may depend on the joint
action u. As in the paper's code, advantages are constants for the gradient: agents learn through
the plain sum, lambda through its own parameters.

    dmaq     w, v: two layers of the state
    qatten   w: several heads of attention, the state asks, what an agent sees answers;
             v: one number of the state, the same for all

The paper's code takes "what an agent sees" from the head of the state, where its tasks put the
agents' features one after the other; ours have states of any make, so it is the observation.

    y = r + gamma q_tot' of the target mixer, at what the online agents would do (double Q), held
        against the target agents' maxima

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions, S = state,
E = units of a head, H = heads.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from configs.algorithms.qplex import OPTIONS, TRAITS, QplexOptions
from learner.algorithms.base import Loss, Setup
from learner.algorithms.value_based import ValueBased, of_actions
from learner.experience.part import Divisors, Part
from learner.kernels.one_hot import one_hot
from learner.targets import living_only

_ABOVE_ZERO = 1e-10


def layers(inputs: int, hidden: int, outputs: int, depth: int) -> nn.Sequential:
    """`depth` linear layers with ReLU between them."""
    sizes = [inputs, *[hidden] * (depth - 1), outputs]
    found: list[nn.Module] = []
    for before, after in pairwise(sizes):
        found += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*found[:-1])


class StateWeights(nn.Module):
    """dmaq: w and v of each agent, from the state."""

    def __init__(self, num_agents: int, state_dim: int, hidden: int) -> None:
        super().__init__()
        self.w = layers(state_dim, hidden, num_agents, 2)
        self.v = layers(state_dim, hidden, num_agents, 2)

    def forward(self, state_S: Tensor, seen_ND: Tensor) -> tuple[Tensor, Tensor, None]:
        """[…, N] w, […, N] v."""
        return self.w(state_S).abs() + _ABOVE_ZERO, self.v(state_S), None


class Attention(nn.Module):
    """qatten: w by heads of attention, and one v for all, from the state."""

    def __init__(
        self,
        num_agents: int,
        state_dim: int,
        seen: int,
        *,
        embed: int,
        hidden: int,
        heads: int,
        weighted: bool,
    ) -> None:
        super().__init__()
        self.num_agents, self.heads = num_agents, heads
        self.selectors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(state_dim, hidden), nn.ReLU(), nn.Linear(hidden, embed, bias=False)
            )
            for _ in range(heads)
        )
        self.keys = nn.ModuleList(nn.Linear(seen, embed, bias=False) for _ in range(heads))
        self.head_weights = layers(state_dim, hidden, heads, 2) if weighted else None
        self.v = layers(state_dim, embed, 1, 2)

    def forward(self, state_S: Tensor, seen_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[…, N] w, […, N] v, and […] the heads' mean squared logits, summed over heads."""
        logits = torch.stack(
            [
                (key(seen_ND) @ selector(state_S).unsqueeze(-1)).squeeze(-1)
                for selector, key in zip(self.selectors, self.keys, strict=True)
            ],
            dim=-2,
        )  # (…, H, N)
        embed = self.keys[0].out_features
        assert isinstance(embed, int)
        attention = (logits * embed**-0.5).softmax(-1)
        if self.head_weights is not None:
            attention = attention * self.head_weights(state_S).abs().unsqueeze(-1)
        v = self.v(state_S) / self.num_agents
        w_N = attention.sum(-2) + _ABOVE_ZERO
        return w_N, v.expand_as(w_N), logits.square().mean(-1).sum(-1)


class Lambdas(nn.Module):
    """Positive weights of the advantages, from the state and the joint action."""

    def __init__(
        self, num_agents: int, num_actions: int, state_dim: int, options: QplexOptions
    ) -> None:
        super().__init__()
        hidden, depth = options.advantage_embed, options.advantage_layers
        both = state_dim + num_agents * num_actions
        self.keys = nn.ModuleList(
            layers(state_dim, hidden, 1, depth) for _ in range(options.kernels)
        )
        self.agents = nn.ModuleList(
            layers(state_dim, hidden, num_agents, depth) for _ in range(options.kernels)
        )
        self.actions = nn.ModuleList(
            layers(both, hidden, num_agents, depth) for _ in range(options.kernels)
        )

    def forward(self, state_S: Tensor, one_hot_NA: Tensor) -> Tensor:
        """[…, S], […, N, A] -> […, N]"""
        both = torch.cat((state_S, one_hot_NA.flatten(-2)), dim=-1)
        return torch.stack(
            [
                (key(state_S).abs() + _ABOVE_ZERO)
                * agents(state_S).sigmoid()
                * actions(both).sigmoid()
                for key, agents, actions in zip(self.keys, self.agents, self.actions, strict=True)
            ]
        ).sum(0)


class QplexMixer(nn.Module):
    """q_tot of a joint action, from the agents' values of it and their largest values."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        options, config, sizes = setup.options, setup.config, setup.dimensions
        agents, state, hidden = sizes.num_agents, sizes.state_dim, config.hypernet_embed
        self.weights: nn.Module | None = None
        if options.variant == "qatten":
            self.weights = Attention(
                agents,
                state,
                setup.spec.observation_dim,
                embed=config.mixing_embed,
                hidden=hidden,
                heads=options.heads,
                weighted=options.weighted_head,
            )
        elif options.weighted_head:
            self.weights = StateWeights(agents, state, hidden)
        self.lambdas = Lambdas(agents, sizes.num_actions, state, options)

    def forward(
        self, q_N: Tensor, best_N: Tensor, one_hot_NA: Tensor, state_S: Tensor, seen_ND: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """[…] q_tot, and […] what attention adds to the loss (None: nothing).

        Args:
            q_N: […, N] of the actions taken.
            best_N: […, N] the largest of each agent.
            one_hot_NA: […, N, A] the actions taken.
            state_S: […, S]
            seen_ND: […, N, D]
        """
        logits = None
        if self.weights is not None:
            w_N, v_N, logits = self.weights(state_S, seen_ND)
            q_N, best_N = w_N * q_N + v_N, w_N * best_N + v_N
        advantage_N = (q_N - best_N).detach()
        lambda_N = self.lambdas(state_S, one_hot_NA)
        return q_N.sum(-1) + (advantage_N * (lambda_N - 1.0)).sum(-1), logits


class Qplex(ValueBased):
    """One mixer and its target."""

    traits = TRAITS
    recordable = True
    Options = OPTIONS

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return {"mixer": QplexMixer(setup), **setup.auxiliary()}

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        target_q_TBNA = self.target_q(part)
        online = self.unroll(part)
        chosen_TBN = of_actions(online.q_TBNA[:-1], part.actions)
        with torch.no_grad():
            chooses = online.q_TBNA if self.config.double_q else target_q_TBNA
            greedy_TBN = chooses[1:].argmax(-1)
            next_total_TB, _ = self._mix(
                self.target["mixer"], target_q_TBNA[1:], greedy_TBN, part.lives_on_TBN, part, at=1
            )
            targets_TB = self.team_targets(next_total_TB, part)
        q_tot_TB, logits_TB = self._mix(
            self.online["mixer"], online.q_TBNA[:-1], part.actions, part.lives_TBN, part, at=0
        )
        loss = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors)
        if logits_TB is not None:
            mean = torch.where(part.learns_TB, logits_TB, 0.0).sum() / divisors.steps
            attention = self.options.attention_coef * mean
            loss += Loss(attention, {"attention_loss": attention})
        return loss + self.policy_terms(online, part, divisors)

    def _mix(
        self,
        mixer: nn.Module,
        q_TBNA: Tensor,
        actions_TBN: Tensor,
        lives_TBN: Tensor,
        part: Part,
        at: int,
    ) -> tuple[Tensor, Tensor | None]:
        """q_tot of actions in the steps `at` … `at` + T - 1. The dead do nothing and are worth
        nothing.
        """
        steps = slice(at, at + len(part.actions))
        one_hot_TBNA = one_hot(actions_TBN, q_TBNA.shape[-1], q_TBNA.dtype)
        found: tuple[Tensor, Tensor | None] = mixer(
            living_only(of_actions(q_TBNA, actions_TBN), lives_TBN),
            living_only(q_TBNA.detach().amax(-1), lives_TBN),
            one_hot_TBNA * lives_TBN.unsqueeze(-1),
            part.states[steps],
            part.observations[steps],
        )
        return found

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        """Values and maxima weighed (4), advantages (1), products of three (3 a kernel), weights of
        the advantages (2), two sums (2): for each agent.
        """
        return (9 + 3 * setup.options.kernels) * setup.dimensions.num_agents


ALGORITHM = Qplex
