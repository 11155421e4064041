"""QMIX: a monotonic mixer whose weights depend on the state (Rashid et al., 2018).

    q_tot = elu(q · |w1(s)| + b1(s)) · |w_final(s)| + v(s)

As in PyMARL (notes/algorithms.md, 1.1): two-layer hypernetworks for the weights, one layer for b1.

Dimension key: N = agents, S = state, E = mixing units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


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

    def forward(self, q_N: Tensor, state_S: Tensor) -> Tensor:
        """[…, N], […, S] -> […]"""
        w_1_NE = self.hyper_w_1(state_S).abs().unflatten(-1, (self.num_agents, self.mixing_embed))
        mixed_E = torch.einsum("...n,...ne->...e", q_N, w_1_NE)
        hidden_E = functional.elu(mixed_E + self.hyper_b_1(state_S))
        w_final_E = self.hyper_w_final(state_S).abs()
        return (hidden_E * w_final_E).sum(-1) + self.v(state_S).squeeze(-1)
