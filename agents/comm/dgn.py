"""DGN: two rounds of attention over the neighbours (Jiang et al., 2020, Graph Convolutional
Reinforcement Learning).

    hidden -> feature f ─┐
    neighbours' f ───────┴-> round 1 -> r1 ─┐
    neighbours' r1 ─────────────────────────┴-> round 2 -> r2 -> context -> Q head
    message: f and r1

The paper lets both rounds happen within a step, in which every agent would have to wait for all
others twice. Here one exchange a step carries both: an agent attends to its own f and r1 of this
step and to its neighbours' of the step before. So what an agent two edges away saw arrives two
steps later. The Q head reads the hidden state beside the context, which stands for the first part
of the original's three-way concatenation; `concat` adds f and r1 as well.

Defaults are those of the authors' Keras code: 8 heads of 16 units, products scaled by 1/sqrt(16).
The PyTorch version that followed it has `heads=1,head_size=128,scaled=false`. The Keras code mixes
by the scaled products themselves, and takes a softmax only for its regulariser; the paper and the
PyTorch version mix by the softmax, and so does this scheme.

Dimension key: E = copies, T = tokens attended to (own first), K = in-edges, F = heads × head_size,
H = hidden, M = 2 F, C = context, P = columns of the fused product, W = heads, U = head_size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.comm.base import Heard
from agents.comm.everybody import Everybody
from agents.layers import Layout, columns
from configs.arrays import BoolArray, FloatArray
from configs.schema import NetworkConfig

if TYPE_CHECKING:
    from agents.policy import PolicySpec

ROUNDS = ("1", "2")
LAYERS = ("query", "key", "value", "mix")
_ZERO = np.float32(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    neighbours: bool = False
    """Attend to neighbours alone, who change as agents move; else to all agents."""
    heads: int = 8
    """Of each round."""
    head_size: int = 16
    """Units of a head; a feature has heads × head_size."""
    scaled: bool = True
    """Whether products of queries and keys are divided by sqrt(head_size)."""
    concat: bool = False
    """Whether the Q head reads the features and the first round beside the second."""
    consistency: float = 0.0
    """Weight of the paper's temporal relation regularisation, which has 0.03: the second round's
    attention is drawn to what it would be in the next step over the same agents. 0: none, like the
    authors' code for Battle and Jungle."""

    def __post_init__(self) -> None:
        for name, size in (("heads", self.heads), ("head_size", self.head_size)):
            if not 1 <= size <= 1024:
                raise ValueError(f"{name} must be between 1 and 1024, got {size}")
        if self.feature > 2048:
            raise ValueError(
                f"a feature has at most 2048 numbers, got {self.heads} heads of {self.head_size}"
            )
        if not 0.0 <= self.consistency <= 1e6:
            raise ValueError(f"consistency must be between 0 and 1e6, got {self.consistency}")

    @property
    def feature(self) -> int:
        """F"""
        return self.heads * self.head_size


class Dgn(Everybody):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.dgn:DgnTwin"
    largest = 65_504.0  # a relu has no bound; float16's own
    hidden_readers = ("feature.weight",)

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        options: Options = spec.scheme_opts()
        self._size, self._concat = options.feature, options.concat
        self._rounds = [Round(options, tensors, number) for number in ROUNDS]
        self.reads = ((columns(tensors["feature.weight"]), tensors["feature.bias"]),)

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        size = spec.scheme_opts().feature
        shapes: list[tuple[str, tuple[int, ...]]] = [
            ("feature.weight", (size, spec.hidden)),
            ("feature.bias", (size,)),
        ]
        for number in ROUNDS:
            for layer in LAYERS:
                shapes += [
                    (f"{layer}_{number}.weight", (size, size)),
                    (f"{layer}_{number}.bias", (size,)),
                ]
        return tuple(shapes)

    @classmethod
    def message_size(cls, network: NetworkConfig, options: Any) -> int:
        return 2 * options.feature

    @classmethod
    def context_of(cls, spec: "PolicySpec") -> int:
        options: Options = spec.scheme_opts()
        return (3 if options.concat else 1) * options.feature

    def seat(self, columns: Sequence[slice]) -> None:
        (self._feature,) = columns

    def message(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        feature_EF: FloatArray = np.maximum(parts_EP[:, self._feature], _ZERO)
        first_EF = self._rounds[0](feature_EF, *self._heard(heard, 0))
        return np.concatenate((feature_EF, first_EF), axis=1)

    def context(self, parts_EP: FloatArray, heard: Heard, message_EM: FloatArray) -> FloatArray:
        first_EF = message_EM[:, self._size :]
        second_EF = self._rounds[1](first_EF, *self._heard(heard, 1))
        if self._concat:
            return np.concatenate((message_EM, second_EF), axis=1)
        return second_EF

    def weights(self, parts_EP: FloatArray, heard: Heard) -> FloatArray | None:
        """[E, T] of the first round, on average over its heads."""
        if heard.tokens_ETM is None:
            return None
        feature_EF: FloatArray = np.maximum(parts_EP[:, self._feature], _ZERO)
        weights_EWT, _ = self._rounds[0].attention(feature_EF, *self._heard(heard, 0))
        return weights_EWT.mean(axis=1)

    def _heard(self, heard: Heard, number: int) -> tuple[FloatArray, BoolArray | None]:
        """[E, K, F] what the neighbours say for a round; and [E, K] who is there."""
        assert heard.tokens_ETM is not None, "its edges are open"
        start = number * self._size
        present_ET = heard.present_ET
        present_EK = None if present_ET is None else present_ET[:, 1:]
        return heard.tokens_ETM[:, 1:, start : start + self._size], present_EK


class Round:
    """Multi-head attention of an agent over itself and its neighbours, each layer with a relu."""

    def __init__(self, options: Options, tensors: Mapping[str, FloatArray], number: str) -> None:
        self._shape = options.heads, options.head_size
        self._scale = np.float32(options.head_size**-0.5 if options.scaled else 1.0)
        layers = [
            (columns(tensors[f"{layer}_{number}.weight"]), tensors[f"{layer}_{number}.bias"])
            for layer in LAYERS
        ]
        self._query, self._key, self._value, self._mix = layers

    def __call__(
        self, own_EF: FloatArray, heard_EKF: FloatArray, present_EK: BoolArray | None
    ) -> FloatArray:
        """[E, F]

        Args:
            own_EF: the agent's own, of this step.
            heard_EKF: the neighbours', of the step before.
            present_EK: which of them have come; None: all.
        """
        weights_EWT, values_ETWU = self.attention(own_EF, heard_EKF, present_EK)
        mixed_EWU = np.einsum("ewt,etwu->ewu", weights_EWT, values_ETWU)
        return relu(mixed_EWU.reshape(own_EF.shape), self._mix)

    def attention(
        self, own_EF: FloatArray, heard_EKF: FloatArray, present_EK: BoolArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """[E, W, T] weights, 0 for what is not there; and [E, T, W, U] the values they weigh."""
        tokens_ETF = np.concatenate((own_EF[:, None], heard_EKF), axis=1)
        present_ET = np.ones(tokens_ETF.shape[:2], dtype=np.bool_)
        if present_EK is not None:
            present_ET[:, 1:] = present_EK
        there_RF = tokens_ETF[present_ET]  # few are, where neighbours are near ones only
        query_EWU = relu(own_EF, self._query).reshape(-1, *self._shape)
        heads = (*present_ET.shape, *self._shape)
        keys_ETWU, values_ETWU = np.zeros(heads, np.float32), np.zeros(heads, np.float32)
        keys_ETWU[present_ET] = relu(there_RF, self._key).reshape(-1, *self._shape)
        values_ETWU[present_ET] = relu(there_RF, self._value).reshape(-1, *self._shape)
        logits_EWT = np.einsum("ewu,etwu->ewt", query_EWU, keys_ETWU) * self._scale
        logits_EWT = np.where(present_ET[:, None], logits_EWT, np.float32(-np.inf))
        logits_EWT -= logits_EWT.max(axis=2, keepdims=True)
        np.exp(logits_EWT, logits_EWT)
        logits_EWT /= logits_EWT.sum(axis=2, keepdims=True)
        return logits_EWT, values_ETWU


def relu(x: FloatArray, layer: tuple[FloatArray, FloatArray]) -> FloatArray:
    """[…, I] -> […, O] of a layer [I, O] and its bias."""
    weight, bias = layer
    y: FloatArray = x.dot(weight)
    y += bias
    return np.maximum(y, _ZERO, out=y)


SCHEME = Dgn
