"""Mean field Q (Yang et al., 2018): the head reads what the neighbours did, on average.

    action just chosen -> its number, to the neighbours
    numbers heard -> mean one-hot action of the step before -> two relu layers -> context -> Q head

q_i(o_i, a_i, mean action) of equation 7, where the mean is over those who were heard: everybody who
lives, or with `neighbours=true` the neighbours of the step in which they said it. An agent that
hears nobody, as in an episode's first step, reads zeros. One number crosses an edge in a step. The
learner's side of the paper, whose targets follow a Boltzmann policy, is learner/algorithms/mfq.py;
this scheme goes with any algorithm.

Dimension key: E = copies, K = in-edges, T = 1 + K tokens, A = actions, M = 1, C = context, P =
columns of the fused product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.comm.base import Heard
from agents.comm.everybody import Everybody
from agents.dead_units import shrink_relu
from agents.layers import Layout, columns
from configs.arrays import BoolArray, FloatArray
from configs.schema import NetworkConfig

if TYPE_CHECKING:
    from agents.policy import PolicySpec

_ZERO = np.float32(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    neighbours: bool = False
    """Take the mean over neighbours alone, who change as agents move; mlii/mfrl takes all."""
    hidden: int = 64
    """Units of the first layer over the mean action; mlii/mfrl has 64."""
    embedding: int = 32
    """Units of the second, which the Q head reads; mlii/mfrl has 32."""

    def __post_init__(self) -> None:
        for name, size in (("hidden", self.hidden), ("embedding", self.embedding)):
            if not 1 <= size <= 4096:
                raise ValueError(f"{name} must be between 1 and 4096, got {size}")


class Mfq(Everybody):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.mfq:MfqTwin"
    says_actions = True
    largest = 65_535.0
    hidden_readers = ()

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        self._actions_A = np.arange(spec.num_actions, dtype=np.float32)
        self._hidden = columns(tensors["mean_hidden.weight"]), tensors["mean_hidden.bias"]
        self._embedding = columns(tensors["mean.weight"]), tensors["mean.bias"]

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        options: Options = spec.scheme_opts()
        return (
            ("mean_hidden.weight", (options.hidden, spec.num_actions)),
            ("mean_hidden.bias", (options.hidden,)),
            ("mean.weight", (options.embedding, options.hidden)),
            ("mean.bias", (options.embedding,)),
        )

    @classmethod
    def shrink(cls, living: dict[str, FloatArray]) -> None:
        shrink_relu(living, "mean_hidden", "mean")

    @classmethod
    def message_size(cls, network: NetworkConfig, options: Any) -> int:
        return 1

    @classmethod
    def context_of(cls, spec: "PolicySpec") -> int:
        return spec.scheme_opts().embedding

    def message_of_actions(self, actions_E: NDArray[np.integer[Any]]) -> FloatArray:
        return actions_E.astype(np.float32)[:, None]

    def context(self, parts_EP: FloatArray, heard: Heard, message_EM: FloatArray) -> FloatArray:
        assert heard.tokens_ETM is not None, "its edges are open"
        present_ET = heard.present_ET
        present_EK = None if present_ET is None else present_ET[:, 1:]
        context = mean_action(heard.tokens_ETM[:, 1:, 0], present_EK, self._actions_A)
        for weight, bias in (self._hidden, self._embedding):
            context = context.dot(weight)
            context += bias
            np.maximum(context, _ZERO, out=context)
        return context


def mean_action(
    said_EK: FloatArray, present_EK: BoolArray | None, actions_A: FloatArray
) -> FloatArray:
    """[E, A] mean of the one-hot actions of those who are present; zeros where nobody is. What
    names no action counts as not said.

    >>> said, present = np.array([[2.0, 0.0, 2.0]]), np.array([[True, True, False]])
    >>> mean_action(said, present, np.arange(3.0))
    array([[0.5, 0. , 0.5]], dtype=float32)

    Args:
        said_EK: numbers of the in-neighbours' actions.
        present_EK: which of them were heard; None: all.
        actions_A: 0, 1, … A - 1.
    """
    did_EKA = said_EK[:, :, None] == actions_A
    if present_EK is not None:
        did_EKA &= present_EK[:, :, None]
    counts_EA = did_EKA.sum(axis=1, dtype=np.float32)
    counts_EA /= np.maximum(counts_EA.sum(axis=1, keepdims=True), np.float32(1.0))
    return counts_EA


SCHEME = Mfq
