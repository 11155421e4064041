"""Weighted QMIX, optimistically (OW-QMIX; Rashid et al., 2020).

    y = r + gamma q*_tot' of the central target critic, for both
    loss = mean of w (q_tot - y)² + mean of (q*_tot - y)²        w = 1 where q_tot < y, else alpha

A monotonic mixer that cannot fit all joint actions fits those better than it thinks: what is
overestimated anyway may stay so, as long as the best joint action is valued right.

Layer sizes as in the paper's code (notes/algorithms.md, 1.6).

Dimension key: N = agents, S = state.
"""

import torch
from torch import Tensor, nn


class CentralMixer(nn.Module):
    """q*_tot may depend on the agents' values in any way."""

    def __init__(self, num_agents: int, state_dim: int, *, embed: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(state_dim + num_agents, embed),
            nn.ReLU(),
            nn.Linear(embed, embed),
            nn.ReLU(),
            nn.Linear(embed, embed),
            nn.ReLU(),
            nn.Linear(embed, 1),
        )
        self.v = nn.Sequential(nn.Linear(state_dim, embed), nn.ReLU(), nn.Linear(embed, 1))

    def forward(self, q_N: Tensor, state_S: Tensor) -> Tensor:
        """[…, N], […, S] -> […]"""
        mixed = self.net(torch.cat((state_S, q_N), dim=-1))
        return (mixed + self.v(state_S)).squeeze(-1)


def optimistic_weights(td_error: Tensor, alpha: float) -> Tensor:
    """[…] w of each squared error q_tot - y: alpha where q_tot is not below its target.

    >>> optimistic_weights(torch.tensor([-2.0, 0.0, 3.0]), alpha=0.1)
    tensor([1.0000, 0.1000, 0.1000])
    """
    return torch.where(td_error < 0.0, 1.0, alpha)
