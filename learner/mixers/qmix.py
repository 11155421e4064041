"""QMIX: a monotonic mixer whose weights depend on the state (Rashid et al., 2018).

    q_tot = elu(q · |w1(s)| + b1(s)) · |w_final(s)| + v(s)

As in PyMARL (notes/algorithms.md, 1.1): two-layer hypernetworks for the weights, one layer for b1.

Dimension key: N = agents, S = state, E = mixing units.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.schema import LearnerConfig
from learner.experience.episode import Dimensions


class QMixer(nn.Module):
    """q_tot never falls when any agent's q rises."""

    def __init__(
        self, num_agents: int, state_dim: int, *, mixing_embed: int, hypernet_embed: int
    ) -> None:
        super().__init__()
        self.num_agents = num_agents
        self.mixing_embed = mixing_embed
        self.hyper_w_1 = nn.Sequential(
            nn.Linear(state_dim, hypernet_embed),
            nn.ReLU(),
            nn.Linear(hypernet_embed, num_agents * mixing_embed),
        )
        self.hyper_w_final = nn.Sequential(
            nn.Linear(state_dim, hypernet_embed),
            nn.ReLU(),
            nn.Linear(hypernet_embed, mixing_embed),
        )
        self.hyper_b_1 = nn.Linear(state_dim, mixing_embed)
        self.v = nn.Sequential(
            nn.Linear(state_dim, mixing_embed), nn.ReLU(), nn.Linear(mixing_embed, 1)
        )

    @classmethod
    def of(cls, config: LearnerConfig, sizes: Dimensions) -> Self:
        """The mixer that a run asks for."""
        return cls(
            sizes.num_agents,
            sizes.state_dim,
            mixing_embed=config.mixing_embed,
            hypernet_embed=config.hypernet_embed,
        )

    @staticmethod
    def flops(num_agents: int, mixing_embed: int) -> int:
        """Of the mixing itself, whose weights are the hypernetworks' output: n inputs, E units and
        one output.
        """
        return (2 * num_agents - 1) * mixing_embed + 2 * mixing_embed - 1

    def forward(self, q_N: Tensor, state_S: Tensor) -> Tensor:
        """[…, N], […, S] -> […]"""
        mixed_E, _ = self._first_layer(q_N, state_S)
        w_final_E = self.hyper_w_final(state_S).abs()
        return (functional.elu(mixed_E) * w_final_E).sum(-1) + self.v(state_S).squeeze(-1)

    def deviations(self, q_N: Tensor, others_NA: Tensor, state_S: Tensor) -> Tensor:
        """[…, N], […, N, A], […, S] -> […, N, A]: q_tot when entry n of q is that of `others` and
        the rest stay.

        The first layer is linear, so one agent's change adds to it: one product for all N × A in
        place of as many.
        """
        mixed_E, w_1_NE = self._first_layer(q_N, state_S)
        changes_NA1 = (others_NA - q_N.unsqueeze(-1)).unsqueeze(-1)
        mixed_NAE = torch.addcmul(mixed_E[..., None, None, :], changes_NA1, w_1_NE.unsqueeze(-2))
        w_final_E = self.hyper_w_final(state_S).abs()
        # (…, N, A, E) · (…, E) as one product: no second tensor of that size.
        total_NA = (functional.elu(mixed_NAE).flatten(-3, -2) @ w_final_E.unsqueeze(-1)).squeeze(-1)
        return (total_NA + self.v(state_S)).unflatten(-1, others_NA.shape[-2:])

    def _first_layer(self, q_N: Tensor, state_S: Tensor) -> tuple[Tensor, Tensor]:
        """[…, E] units before their activation, and […, N, E] their weights."""
        w_1_NE = self.hyper_w_1(state_S).abs().unflatten(-1, (self.num_agents, self.mixing_embed))
        mixed_E = torch.einsum("...n,...ne->...e", q_N, w_1_NE)
        return mixed_E + self.hyper_b_1(state_S), w_1_NE
