"""What networks, schemes and the Q head share: layouts of parameters and linear layers of the
hidden state.

Dimension key: H = hidden, O = outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from configs.arrays import FloatArray

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names `layer.tensor` and shapes, in the order of the flat vector."""

Linear = tuple[FloatArray, FloatArray]
"""[H, O] and [O]: a linear layer of the hidden state, and its bias."""


@dataclass(frozen=True)
class NoOptions:
    """Of an extension that takes none."""


def columns(weight: FloatArray) -> FloatArray:
    """[out, in] -> [in, out] in the order in which a product reads it."""
    return np.ascontiguousarray(weight.T)


def draw_uniform(
    name: str, tensors: Mapping[str, FloatArray], rng: np.random.Generator, fan_in: int = 0
) -> None:
    """Fill a tensor from U(±1/sqrt(fan_in)); 0: the inputs of one unit of its layer's weight."""
    layer = name.rpartition(".")[0]
    fan_in = fan_in or int(np.prod(tensors[f"{layer}.weight"].shape[1:]))
    bound = 1.0 / np.sqrt(fan_in)
    tensors[name][...] = rng.uniform(-bound, bound, tensors[name].shape)
