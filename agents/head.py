"""The Q head: what an agent's state and its message are worth, action by action.

    hidden, context -> relu -> q-values

The context is the message, unless the scheme has the head read something else.

For policy gradients these are logits; or means and log deviations of actions that are real numbers.
A policy may have several output layers, of which each agent reads one (`own_outputs`).

Dimension key: E = copies, H = hidden, C = context, A = actions, P = columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agents.layers import Layout, Linear, columns
from configs.arrays import FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

_ZERO = np.float32(0.0)


def own_outputs(spec: "PolicySpec", agent: int) -> slice | None:
    """Where an agent's values are among those of all output layers; None: there is one layer."""
    if spec.heads == 1:
        return None
    first = agent % spec.heads * spec.outputs
    return slice(first, first + spec.outputs)


class QHead:
    """The head of one policy version."""

    def __init__(self, tensors: Mapping[str, FloatArray], hidden: int) -> None:
        """
        Args:
            hidden: hidden units that are left.
        """
        state_HU, context_CU = np.split(columns(tensors["q_hidden.weight"]), [hidden])
        self._context = np.ascontiguousarray(context_CU)
        self._weight, self._bias = columns(tensors["q_out.weight"]), tensors["q_out.bias"]
        self.reads: tuple[Linear, ...] = ((state_HU, tensors["q_hidden.bias"]),)

    @staticmethod
    def layout(spec: "PolicySpec") -> Layout:
        return (
            ("q_hidden.weight", (spec.hidden, spec.hidden + spec.context)),
            ("q_hidden.bias", (spec.hidden,)),
            ("q_out.weight", (spec.heads * spec.outputs, spec.hidden)),
            ("q_out.bias", (spec.heads * spec.outputs,)),
        )

    def seat(self, columns: Sequence[slice]) -> None:
        """Learn where in a row of the fused product each of `reads` is."""
        (self._state,) = columns

    def q_values(self, parts_EP: FloatArray, context_EC: FloatArray) -> FloatArray:
        """[E, A], or [E, heads × A] of all output layers one after the other.

        Args:
            context_EC: the message, before it is rounded for the wire, or what the scheme says.
        """
        fused_EH: FloatArray = context_EC.dot(self._context)
        fused_EH += parts_EP[:, self._state]
        np.maximum(fused_EH, _ZERO, out=fused_EH)
        q_EA: FloatArray = fused_EH.dot(self._weight)
        q_EA += self._bias
        return q_EA
