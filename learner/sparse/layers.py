"""Which weights are masked, and what shares one total.

    parameters of all networks -> matrices -> pools: agents' networks, mixers, or both as one

Every matrix is a layer of its own: a GRU has two, for its input and for its state. Biases stay
dense. So does the auxiliary network: it is thrown away after training, and MAST has none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from configs.schema import SparseConfig

GROUPS = {
    "scorer": ("beacon", "edge", "scorer_hidden", "scorer_out"),
    "messages": ("query", "key", "value", "message"),
    "mixer": ("mixer", "central_mixer"),
}
"""Names for layers of the policy that belong together, and for networks."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Layers that have a sparsity together."""

    sparsity: float
    names: tuple[str, ...]


def masked_layers(
    parameters: Iterable[tuple[str, nn.Parameter]], dense: Sequence[str]
) -> dict[str, nn.Parameter]:
    """The matrices that get masks, by the names of their parameters.

    Args:
        parameters: names begin with that of the network: policy, mixer, auxiliary, …
        dense: layers that stay as they are; this learner need not have them.
    """
    words = [layer for word in dense for layer in GROUPS.get(word, (word,))]
    return {
        name: parameter
        for name, parameter in parameters
        if parameter.ndim == 2
        and not name.startswith("auxiliary.")
        and not any(_is(name, layer) for layer in words)
    }


def _is(name: str, layer: str) -> bool:
    """Whether a parameter belongs to a layer or network."""
    network, _, rest = name.partition(".")
    return layer == network or rest.startswith(f"{layer}.")


def pools(config: SparseConfig, layers: Mapping[str, Tensor]) -> list[Pool]:
    """One for everything, or one for agents' networks and one for mixers."""
    if config.policy == config.mixer == -1.0:
        return [Pool(config.sparsity, tuple(layers))]
    mixers = tuple(name for name in layers if "mixer" in name.partition(".")[0])
    agents = tuple(name for name in layers if name not in mixers)
    both = ((config.policy, agents), (config.mixer, mixers))
    return [
        Pool(config.sparsity if sparsity == -1.0 else sparsity, names)
        for sparsity, names in both
        if names
    ]
