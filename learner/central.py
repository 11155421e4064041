"""The central critic of weighted QMIX: a team value without restriction (Rashid et al., 2020).

    observations -> CentralAgent -> q* of each agent ──┐
                                     global state ─────┴-> CentralMixer -> q*_tot

QMIX can only say what is monotonic in every agent's value; this critic can say anything, and is the
target of both (learner/mixers/wqmix.py). It is thrown away after training, so nothing of it needs
to be decentralised: its agents do not speak, because its mixer hears them all. Each has the
policy's encoder and GRU in its own sizes and with parameters of its own.

Dimension key: T = time, B = batch, N = agents, D = observation features, H = hidden, A = actions.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from agents.policy import PolicySpec
from configs.schema import LearnerConfig
from learner.kernels.gru import run_gru
from learner.mixers.wqmix import CentralMixer


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


@dataclass(frozen=True, slots=True, eq=False)
class CentralCritic:
    """Both halves; a target critic is a deep copy."""

    agent: CentralAgent
    mixer: CentralMixer


def make_central(
    config: LearnerConfig, spec: PolicySpec, num_agents: int, state_dim: int
) -> CentralCritic | None:
    """The critic of OW-QMIX; other algorithms have none."""
    if config.algorithm != "wqmix":
        return None
    return CentralCritic(
        CentralAgent(spec.observation_dim, spec.num_actions, config.central_hidden),
        CentralMixer(num_agents, state_dim, embed=config.central_embed),
    )
