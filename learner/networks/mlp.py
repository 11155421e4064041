"""Linear layers without memory; `agents.networks.mlp` is the same function in numpy.

Dimension key: T = time, B = batch, N = agents, D = observation features, H = hidden.
"""

from torch import Tensor, nn
from torch.nn import functional

from agents.networks.mlp import layer_names
from agents.policy import PolicySpec
from learner.networks.base import NetworkTwin


class MlpTwin(NetworkTwin):
    """A trainable one."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        first, *others = layer_names(spec.network_opts())
        self.layers = {first: nn.Linear(spec.observation_dim, spec.hidden)}
        self.layers |= {name: nn.Linear(spec.hidden, spec.hidden) for name in others}

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        x = observations_TBND
        for layer in self.layers.values():
            x = functional.relu(layer(x), inplace=True)
        return x
