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

Dimension key: H = hidden, X = encoder units, U = units of the Q head, S = scorer units, G = the
GRU's three gates, I = inputs, O = units of the layer that reads.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray

Tensors = Mapping[str, FloatArray]

_GATES = 3
_ZERO = np.float32(0.0)


class LivingUnits(NamedTuple):
    tensors: Tensors
    """As `agents.policy.views` names them; hidden layers may be narrower."""
    hidden: NDArray[np.intp]
    """Indices of the hidden units that are left."""


def without_dead_units(tensors: Tensors) -> LivingUnits:
    """Take out what has no effect, seen from the outputs backwards."""
    if all(
        tensor.all() for tensor in tensors.values()
    ):  # dense: a look costs a quarter of a search
        return LivingUnits(tensors, np.arange(tensors["gru.weight_hh"].shape[1]))
    living = dict(tensors)
    _shrink_relu(living, "q_hidden", "q_out")
    _shrink_relu(living, "scorer_hidden", "scorer_out")
    hidden_H = _heard_hidden(living)
    _shrink_gru(living, hidden_H)
    _shrink_relu(living, "encoder", "gru", "_ih")
    return LivingUnits(living, np.flatnonzero(hidden_H))


def _shrink_relu(living: dict[str, FloatArray], layer: str, reader: str, of: str = "") -> None:
    """Take dead units out of a relu layer that one other layer reads.

    Args:
        of: which weights and biases of that layer, if it has several.
    """
    weight_UI, bias_U = living[f"{layer}.weight"], living[f"{layer}.bias"]
    reader_OU, reader_bias_O = living[f"{reader}.weight{of}"], living[f"{reader}.bias{of}"]
    constant_U = ~weight_UI.any(axis=1)
    constants_U = np.maximum(bias_U[constant_U], _ZERO)
    living[f"{reader}.bias{of}"] = reader_bias_O + reader_OU[:, constant_U] @ constants_U
    kept_U = _read(reader_OU) & ~constant_U
    living[f"{layer}.weight"], living[f"{layer}.bias"] = weight_UI[kept_U], bias_U[kept_U]
    living[f"{reader}.weight{of}"] = reader_OU[:, kept_U]


def _heard_hidden(living: dict[str, FloatArray]) -> BoolArray:
    """[H] the hidden units from which a path leads to an output."""
    hidden = living["gru.weight_hh"].shape[1]
    answered = living["key.weight"].any(axis=1)  # a query that no key answers asks nothing
    heard_H = _read(living["query.weight"][answered])
    for layer in ("message", "q_hidden", "beacon"):
        heard_H |= _read(living[f"{layer}.weight"][:, :hidden])
    recurrent_GHH = living["gru.weight_hh"].reshape(_GATES, hidden, hidden)
    while True:
        wider_H = heard_H | _read(recurrent_GHH[:, heard_H].reshape(-1, hidden))
        if np.array_equal(wider_H, heard_H):
            return heard_H
        heard_H = wider_H


def _read(weight_OI: FloatArray) -> BoolArray:
    """[I] the inputs that any of these units reads."""
    read_I: BoolArray = np.logical_or.reduce(weight_OI != _ZERO, axis=0)
    return read_I


def _shrink_gru(living: dict[str, FloatArray], kept_H: BoolArray) -> None:
    rows_GH = np.tile(kept_H, _GATES)
    for name in ("gru.weight_ih", "gru.weight_hh", "gru.bias_ih", "gru.bias_hh"):
        living[name] = living[name][rows_GH]
    living["gru.weight_hh"] = living["gru.weight_hh"][:, kept_H]
    for name in ("query.weight", "message.weight", "q_hidden.weight", "beacon.weight"):
        weight = living[name]
        # Own state comes first; what follows it, a context or a message, stays.
        kept = np.ones(weight.shape[1], dtype=np.bool_)
        kept[: kept_H.size] = kept_H
        living[name] = weight[:, kept]
