"""Linear layers without memory; `agents.networks.mlp` is the same function in numpy.

Dimension key: T = time, B = batch, N = agents, D = observation features, H = hidden.
"""

from torch import Tensor, nn

from agents.networks.mlp import layer_names
from agents.policy import PolicySpec
from learner.kernels.dense import dense
from learner.networks.base import NetworkTwin


class MlpTwin(NetworkTwin):
    """A trainable one."""

    is_row_by_row = True

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        first, *others = layer_names(spec.network_opts())
        self._stack = [nn.Linear(spec.observation_dim, spec.hidden)]
        self._stack += [nn.Linear(spec.hidden, spec.hidden) for _ in others]
        self.layers = dict(zip((first, *others), self._stack, strict=True))

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        x = observations_TBND
        for layer in self._stack:
            x = dense(x, layer.weight, layer.bias, relu=True)
        return x
