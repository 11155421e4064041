"""Linear layers without memory: what an agent sees now is all that it knows.

    observation -> linear, relu -> … -> linear, relu -> hidden

What there is to remember, messages must carry.

Dimension key: E = copies, D = observation features, H = hidden, P = columns of the fused product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agents.layers import Layout, columns
from agents.networks.base import Network
from configs.arrays import FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

_ZERO = np.float32(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    layers: int = 2
    """Layers, of `network.hidden` units each."""

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= 64:
            raise ValueError(f"layers must be between 1 and 64, got {self.layers}")


def layer_names(options: Options) -> tuple[str, ...]:
    """Names of the layers, the first one first."""
    return ("encoder", *(f"layer{i}" for i in range(1, options.layers)))


class Mlp(Network):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.networks.mlp:MlpTwin"

    def __init__(self, spec: "PolicySpec", tensors: Mapping[str, FloatArray]) -> None:
        self._layers = [
            (columns(tensors[f"{name}.weight"]), tensors[f"{name}.bias"])
            for name in layer_names(spec.network_opts())
        ]

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        inputs, layout = spec.observation_dim, list[tuple[str, tuple[int, ...]]]()
        for name in layer_names(spec.network_opts()):
            layout += [(f"{name}.weight", (spec.hidden, inputs)), (f"{name}.bias", (spec.hidden,))]
            inputs = spec.hidden
        return tuple(layout)

    def recur(
        self, observation_ED: FloatArray, hidden_EH: FloatArray, parts_EP: FloatArray
    ) -> FloatArray:
        x_EH = observation_ED
        for weight, bias in self._layers:
            x_EH = x_EH.dot(weight)
            x_EH += bias
            np.maximum(x_EH, _ZERO, out=x_EH)
        return x_EH


NETWORK = Mlp
