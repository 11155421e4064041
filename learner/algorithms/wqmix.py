"""Weighted QMIX, optimistically (OW-QMIX; Rashid et al., 2020).

    observations -> CentralAgent -> q* of each agent ──┐
                                     global state ─────┴-> CentralMixer -> q*_tot

    y = r + gamma q*_tot' of the central target critic, for both
    loss = mean of w (q_tot - y)² + mean of (q*_tot - y)²        w = 1 where q_tot < y, else alpha

QMIX can only say what is monotonic in every agent's value; the central critic can say anything, and
is the target of both. A monotonic mixer that cannot fit all joint actions fits those better than it
thinks: what is overestimated anyway may stay so, as long as the best joint action is valued right.

The critic is thrown away after training, so nothing of it needs to be decentralised: its agents do
not speak, because its mixer hears them all. Each has the policy's encoder and GRU in its own sizes
and with parameters of its own. Layer sizes as in the paper's code (notes/algorithms.md, 1.6).

Dimension key: T = time, B = batch, N = agents, D = observation features, H = hidden, A = actions,
S = state.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.algorithms.wqmix import TRAITS
from learner.algorithms.base import Loss, Setup
from learner.algorithms.value_based import ValueBased, of_actions, td_error
from learner.experience.part import Divisors, Part
from learner.kernels.gru import run_gru
from learner.mixers.qmix import QMixer
from learner.sparse.layer_costs import Networks
from learner.targets import living_only, td_loss


class CentralAgent(nn.Module):
    """fc, GRU, fc: q* of an agent from what it has seen; the parameters are shared by all."""

    def __init__(self, observation_dim: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder = nn.Linear(observation_dim, hidden)
        self.gru = nn.GRU(hidden, hidden)
        self.q_out = nn.Linear(hidden, num_actions)

    def forward(self, observations_TBND: Tensor) -> Tensor:
        """[T, B, N, A] of windows, each beginning with an empty memory."""
        time, batch, agents, _ = observations_TBND.shape
        x_TBNH = functional.relu(self.encoder(observations_TBND))
        sequences = x_TBNH.view(time, batch * agents, self.hidden)
        start = sequences.new_zeros(batch * agents, self.hidden)
        hidden_TBNH = run_gru(self.gru, sequences, start).view(x_TBNH.shape)
        return self.q_out(hidden_TBNH)


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


class Wqmix(ValueBased):
    """QMIX, and the central critic."""

    traits = TRAITS
    recordable = True
    idle_targets = frozenset({"policy", "mixer"})

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        config, spec, sizes = setup.config, setup.spec, setup.dimensions
        return {
            "mixer": QMixer.of(config, sizes),
            **setup.auxiliary(),
            "central_agent": CentralAgent(
                spec.observation_dim, spec.num_actions, config.central_hidden
            ),
            "central_mixer": CentralMixer(
                sizes.num_agents, sizes.state_dim, embed=config.central_embed
            ),
        }

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        states_TBS, lives_TBN, lives_on_TBN = part.states, part.lives_TBN, part.lives_on_TBN
        with torch.no_grad():
            # Nothing is asked of the policy's own target, nor of its mixer's.
            target_q_TBNA = self.target["central_agent"](part.observations)
        online = self.unroll(part)
        chosen_TBN = of_actions(online.q_TBNA[:-1], part.actions)
        with torch.no_grad():
            next_TBN = self.next_values(online.q_TBNA, target_q_TBNA)
            mixer = self.target["central_mixer"]
            next_total_TB = mixer(living_only(next_TBN, lives_on_TBN), states_TBS[1:])
            targets_TB = self.team_targets(next_total_TB, part)
        q_tot_TB = self.online["mixer"](living_only(chosen_TBN, lives_TBN), states_TBS[:-1])
        error_TB = td_error(q_tot_TB, targets_TB, part.learns_TB)
        weights_TB = optimistic_weights(error_TB, self.config.wqmix_alpha)
        td = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors, weights_TB)

        central_q_TBNA = self.online["central_agent"](part.observations[:-1])
        central_TBN = living_only(of_actions(central_q_TBNA, part.actions), lives_TBN)
        central_TB = self.online["central_mixer"](central_TBN, states_TBS[:-1])
        central_error_TB = td_error(central_TB, targets_TB, part.learns_TB)
        central = td_loss(central_error_TB, self.config.huber) / divisors.steps
        return (
            td
            + Loss(central, {"central_loss": central})
            + self.policy_terms(online, part, divisors)
        )

    @classmethod
    def flops(cls, networks: Networks) -> float:
        """3 agents + 3 mix + 4 unrestricted agents + 4 unrestricted mix (MAST, equation 21)."""
        ours = networks.agents + networks.of("mixer") + networks.mixing_flops
        central = networks.num_agents * networks.of("central_agent") + networks.of("central_mixer")
        return 3 * ours + 4 * central

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        return QMixer.flops(setup.dimensions.num_agents, setup.config.mixing_embed)


ALGORITHM = Wqmix
