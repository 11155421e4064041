"""A linear encoder and a GRU.

    observation -> encoder, relu -> x ─┐
                       hidden before ──┴-> GRU -> hidden

`GruMemory` is the second half: another encoder in front of it is another network.

Dimension key: E = copies, D = observation features, X = encoded features, H = hidden, G = the GRU's
three gates, P = columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.dead_units import read_inputs, shrink_relu
from agents.layers import Layout, Linear, columns, draw_uniform
from agents.networks.base import Network
from configs.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

_HALF, _ZERO = np.float32(0.5), np.float32(0.0)
_GATES = 3


class GruMemory:
    """A GRU whose share of the hidden state's product is made elsewhere.

    Args:
        layer: first word of its tensors' names.
    """

    def __init__(self, tensors: Mapping[str, FloatArray], layer: str = "gru") -> None:
        hidden = tensors[f"{layer}.weight_hh"].shape[1]
        # sigmoid(x) = (tanh(x / 2) + 1) / 2 cannot overflow; the half of x goes into the weights.
        halves = np.ones(_GATES * hidden, dtype=np.float32)
        halves[: 2 * hidden] = _HALF
        bias_ih = tensors[f"{layer}.bias_ih"] * halves
        bias_hh = tensors[f"{layer}.bias_hh"] * halves
        self._input = columns(tensors[f"{layer}.weight_ih"]) * halves
        self._candidate_bias = bias_ih[2 * hidden :].copy()
        bias_hh[: 2 * hidden] += bias_ih[: 2 * hidden]
        self._hidden = hidden
        self.read: Linear = (columns(tensors[f"{layer}.weight_hh"]) * halves, bias_hh)

    @staticmethod
    def layout(inputs: int, hidden: int, layer: str = "gru") -> Layout:
        return (
            (f"{layer}.weight_ih", (_GATES * hidden, inputs)),
            (f"{layer}.weight_hh", (_GATES * hidden, hidden)),
            (f"{layer}.bias_ih", (_GATES * hidden,)),
            (f"{layer}.bias_hh", (_GATES * hidden,)),
        )

    @staticmethod
    def shrink(living: dict[str, FloatArray], read_H: BoolArray) -> NDArray[np.intp]:
        """Keep the hidden units from which a path leads to one that is read, or that are read."""
        hidden = living["gru.weight_hh"].shape[1]
        recurrent_GHH = living["gru.weight_hh"].reshape(_GATES, hidden, hidden)
        kept_H = read_H
        while True:
            wider_H = kept_H | read_inputs(recurrent_GHH[:, kept_H].reshape(-1, hidden))
            if np.array_equal(wider_H, kept_H):
                break
            kept_H = wider_H
        rows_GH = np.tile(kept_H, _GATES)
        for name in ("gru.weight_ih", "gru.weight_hh", "gru.bias_ih", "gru.bias_hh"):
            living[name] = living[name][rows_GH]
        living["gru.weight_hh"] = living["gru.weight_hh"][:, kept_H]
        return np.flatnonzero(kept_H)

    def step(
        self, x_EX: FloatArray, hidden_EH: FloatArray, from_hidden_EG: FloatArray
    ) -> FloatArray:
        """[E, H] next hidden state.

        Args:
            from_hidden_EG: `read` of `hidden_EH`.
        """
        from_input: FloatArray = x_EX.dot(self._input)
        size = self._hidden
        gates = from_input[:, : 2 * size]
        gates += from_hidden_EG[:, : 2 * size]
        np.tanh(gates, gates)
        gates *= _HALF
        gates += _HALF
        reset, update = gates[:, :size], gates[:, size:]
        candidate = from_input[:, 2 * size :]
        candidate += self._candidate_bias
        reset *= from_hidden_EG[:, 2 * size :]
        candidate += reset
        np.tanh(candidate, candidate)
        following = hidden_EH - candidate
        following *= update
        following += candidate
        return following


class Gru(Network):
    """One version of it, ready to run."""

    twin = "learner.networks.gru:GruTwin"

    def __init__(self, spec: "PolicySpec", tensors: Mapping[str, FloatArray]) -> None:
        self._weight, self._bias = columns(tensors["encoder.weight"]), tensors["encoder.bias"]
        memory = GruMemory(tensors)
        self._step = memory.step
        self.reads = (memory.read,)

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        return (
            ("encoder.weight", (spec.hidden, spec.observation_dim)),
            ("encoder.bias", (spec.hidden,)),
            *GruMemory.layout(spec.hidden, spec.hidden),
        )

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        draw_uniform(name, tensors, rng, spec.hidden if name.startswith("gru.") else 0)

    @classmethod
    def shrink(cls, living: dict[str, FloatArray], read_H: BoolArray) -> NDArray[np.intp]:
        kept = GruMemory.shrink(living, read_H)
        shrink_relu(living, "encoder", "gru", "_ih")
        return kept

    def seat(self, columns: Sequence[slice]) -> None:
        (self._from_hidden,) = columns

    def recur(
        self, observation_ED: FloatArray, hidden_EH: FloatArray, parts_EP: FloatArray
    ) -> FloatArray:
        x_EX: FloatArray = observation_ED.dot(self._weight)
        x_EX += self._bias
        np.maximum(x_EX, _ZERO, out=x_EX)
        return self._step(x_EX, hidden_EH, parts_EP[:, self._from_hidden])


NETWORK = Gru
