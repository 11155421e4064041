"""The torch twin of agents/networks/gru.py.

Dimension key: T = time, B = batch, N = agents, D = observation features, X = encoded features, H =
hidden.
"""

from torch import Tensor, nn

from agents.policy import PolicySpec
from learner.kernels.dense import dense
from learner.kernels.gru import run_gru
from learner.networks.base import NetworkTwin

GRU_NAMES = {
    f"gru.{name}": f"gru.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
}
"""Layout name -> torch's name: nn.GRU numbers its layers."""


def run_memory(gru: nn.GRU, x_TBNX: Tensor, hidden_BNH: Tensor) -> Tensor:
    """[T, B, N, H] states of a GRU over encoded observations."""
    time, batch, agents, _ = x_TBNX.shape
    sequences = x_TBNX.reshape(time, batch * agents, -1)
    hidden = run_gru(gru, sequences, hidden_BNH.reshape(batch * agents, -1))
    return hidden.view(time, batch, agents, -1)


class GruTwin(NetworkTwin):
    is_row_by_row = True
    names = GRU_NAMES

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        self._encoder = nn.Linear(spec.observation_dim, spec.hidden)
        self._gru = nn.GRU(spec.hidden, spec.hidden)
        self.layers = {"encoder": self._encoder, "gru": self._gru}

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        encoder = self._encoder
        x_TBNX = dense(observations_TBND, encoder.weight, encoder.bias, relu=True)
        return run_memory(self._gru, x_TBNX, hidden_BNH)
