"""What layers cost on paper (MAST, equations 8 to 11), and all those that take part in training.

    weights  (1 - S) I O            FLOPs  (1 - S) (2 I - 1) O                          (8, 10)
    GRU: the same with I + h inputs and 3 h outputs                                     (9, 11)

of a layer of I inputs and O outputs with sparsity S.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A linear layer, or a GRU as one of (I + h) inputs and 3 h outputs."""

    outputs: int
    inputs: int
    links: int
    """Weights that exist, (1 - S) I O."""
    biases: int = 0
    uses: int = 1
    """How often a step needs it: once, or once for every out-edge."""

    @property
    def flops(self) -> float:
        density = self.links / (self.outputs * self.inputs)
        return self.uses * density * (2 * self.inputs - 1) * self.outputs

    def dense(self) -> "Layer":
        return replace(self, links=self.outputs * self.inputs)


Layers = tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """All that takes part in training."""

    num_agents: int
    num_actions: int
    agent: Layers
    parts: Mapping[str, Layers] = field(default_factory=dict[str, Layers])
    """Networks beside the policy, without the auxiliary one: such as "mixer" (hypernetworks)."""
    policies: int = 1
    """Networks such as `agent` that agents do not share."""
    mixing_flops: int = 0
    """Of the mixing itself, whose weights are the hypernetworks' output."""

    @property
    def agents(self) -> float:
        """FLOPs of one step of all agents."""
        return self.num_agents * flops(self.agent)

    def of(self, part: str) -> float:
        """FLOPs of using a part once."""
        return flops(self.parts[part])

    @property
    def total(self) -> float:
        """FLOPs of one step of all agents, each other part once, and the mixing."""
        return self.agents + sum(map(self.of, self.parts)) + self.mixing_flops

    def dense(self) -> "Networks":
        """The same without masks."""

        def whole(layers: Layers) -> Layers:
            return tuple(layer.dense() for layer in layers)

        parts = {name: whole(layers) for name, layers in self.parts.items()}
        return replace(self, agent=whole(self.agent), parts=parts)


def flops(layers: Layers) -> float:
    """Of all of them."""
    return sum(layer.flops for layer in layers)


def weights(layers: Layers) -> int:
    """Links that exist."""
    return sum(layer.links for layer in layers)


def parameters(layers: Layers) -> int:
    """The same with biases, which stay dense."""
    return sum(layer.links + layer.biases for layer in layers)
