"""Units of a sparse policy that take no part in what an agent says or does, taken out at load.

    tensors of a policy -> without_dead_units -> smaller tensors, the hidden units that are left

Masks (MAST, section 3.1) leave units without readers or without inputs. Matrices without them give
the same messages, beacons, scores and q-values but for the order of additions:

- What nobody reads goes: units of the encoder, the Q head and the scorer; and a hidden unit from
  which no path leads to anything that is said or done. That it reads itself, or that others like it
  read it, does not keep it alive.
- What has no inputs is a constant, relu(bias), and moves into the biases of its readers. Not so a
  hidden unit: without inputs it still runs from zero towards its own fixed point, and tells its
  readers the time.
- Message, beacon and actions keep their sizes, because others read them.

Network and scheme know their own layers: each says what may go. Where one of them does not say
which hidden units it reads, all of these are kept.

Dimension key: H = hidden, U = units of a relu layer, I = inputs, O = units of the layer that reads.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.found import network_of, scheme_of
from configs.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

Tensors = Mapping[str, FloatArray]

_ZERO = np.float32(0.0)


class LivingUnits(NamedTuple):
    tensors: Tensors
    """As `agents.policy.views` names them; hidden layers may be narrower."""
    hidden: NDArray[np.intp]
    """Indices of the hidden units that are left."""


def without_dead_units(spec: "PolicySpec", tensors: Tensors) -> LivingUnits:
    """Take out what has no effect, seen from the outputs backwards."""
    every_unit = np.arange(spec.hidden)
    if all(
        tensor.all() for tensor in tensors.values()
    ):  # dense: a look costs a quarter of a search
        return LivingUnits(tensors, every_unit)
    network, scheme = network_of(spec.network), scheme_of(spec.scheme)
    living = dict(tensors)
    shrink_relu(living, "q_hidden", "q_out")
    scheme.shrink(living)
    readers = scheme.hidden_readers
    if readers is None:
        return LivingUnits(living, every_unit)
    read_H = scheme.read_hidden(living, spec.hidden)
    read_H |= read_inputs(living["q_hidden.weight"][:, : spec.hidden])
    kept = network.shrink(living, read_H)
    if kept is None:
        return LivingUnits(living, every_unit)
    for name in (*readers, "q_hidden.weight"):
        # Own state comes first; what follows it, a context or a message, stays.
        own, others = np.split(living[name], [spec.hidden], axis=1)
        living[name] = np.concatenate((own[:, kept], others), axis=1)
    return LivingUnits(living, kept)


def shrink_relu(living: dict[str, FloatArray], layer: str, reader: str, of: str = "") -> None:
    """Take dead units out of a relu layer that one other layer reads.

    Args:
        of: which weights and biases of that layer, if it has several.
    """
    weight_UI, bias_U = living[f"{layer}.weight"], living[f"{layer}.bias"]
    reader_OU, reader_bias_O = living[f"{reader}.weight{of}"], living[f"{reader}.bias{of}"]
    constant_U = ~weight_UI.any(axis=1)
    constants_U = np.maximum(bias_U[constant_U], _ZERO)
    living[f"{reader}.bias{of}"] = reader_bias_O + reader_OU[:, constant_U] @ constants_U
    kept_U = read_inputs(reader_OU) & ~constant_U
    living[f"{layer}.weight"], living[f"{layer}.bias"] = weight_UI[kept_U], bias_U[kept_U]
    living[f"{reader}.weight{of}"] = reader_OU[:, kept_U]


def read_inputs(weight_OI: FloatArray) -> BoolArray:
    """[I] the inputs that any of these units reads."""
    read_I: BoolArray = np.logical_or.reduce(weight_OI != _ZERO, axis=0)
    return read_I
