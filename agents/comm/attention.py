"""Attention over messages: the part that SOPS shares with other schemes.

    hidden -> query ─┐
    own and heard ───┴-> weighted mean (equation 5) ─┐
    hidden ──────────────────────────────────────────┴-> tanh -> message

Dimension key: E = copies, T = tokens attended to (own message first), H = hidden, M = message, P =
columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agents.comm.base import Heard, Scheme
from agents.dead_units import read_inputs
from agents.layers import Layout, Linear, columns
from configs.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec


class Attention(Scheme):
    """A message is made of the own state and of a mean over what was heard."""

    hidden_readers = ("query.weight", "message.weight")

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        hidden = tensors["query.weight"].shape[1]
        # A logit is (W_q h) (W_k m): by the rows of W_q^T W_k every token is asked directly.
        scale = np.float32(1.0 / np.sqrt(spec.attention))
        asks_HM = (tensors["query.weight"].T @ tensors["key.weight"]) * scale
        own_HM, context_HM = np.split(columns(tensors["message.weight"]), [hidden])
        # The value projection commutes with the weighted sum: W_c (W_v Σ w m) = (W_c W_v) Σ w m.
        self._heard = np.ascontiguousarray(tensors["value.weight"].T @ context_HM)
        self.reads: tuple[Linear, ...] = (
            (asks_HM, np.zeros(spec.message, dtype=np.float32)),
            (own_HM, tensors["message.bias"]),
        )

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        return (
            ("query.weight", (spec.attention, spec.hidden)),
            ("key.weight", (spec.attention, spec.message)),
            ("value.weight", (spec.hidden, spec.message)),
            ("message.weight", (spec.message, 2 * spec.hidden)),
            ("message.bias", (spec.message,)),
        )

    @classmethod
    def read_hidden(cls, living: Mapping[str, FloatArray], hidden: int) -> BoolArray:
        answered = living["key.weight"].any(axis=1)  # a query that no key answers asks nothing
        read_H = read_inputs(living["query.weight"][answered])
        for name in cls.hidden_readers or ():
            if name != "query.weight":
                read_H |= read_inputs(living[name][:, :hidden])
        return read_H

    def seat(self, columns: Sequence[slice]) -> None:
        self._asks, self._own = columns

    def attend(
        self, parts_EP: FloatArray, tokens_ETM: FloatArray, present_ET: BoolArray | None
    ) -> FloatArray:
        """[E, M] weighted mean of the tokens that are present, by scaled attention.

        The own last message stands first and is always present, so the softmax has a finite maximum
        even when no edge is open. Without `present_ET` all are.
        """
        weights_ET = self._weights(parts_EP, tokens_ETM, present_ET)
        return (weights_ET[:, None] @ tokens_ETM)[:, 0]

    def weights(self, parts_EP: FloatArray, heard: Heard) -> FloatArray | None:
        if heard.tokens_ETM is None:
            return None
        return self._weights(parts_EP, heard.tokens_ETM, heard.present_ET)

    def _weights(
        self, parts_EP: FloatArray, tokens_ETM: FloatArray, present_ET: BoolArray | None
    ) -> FloatArray:
        """[E, T] the softmax; zero for what is not present."""
        asks_EM = parts_EP[:, self._asks]
        logits_ET: FloatArray = (tokens_ETM @ asks_EM[:, :, None])[:, :, 0]
        if present_ET is not None:
            logits_ET[~present_ET] = -np.inf
        logits_ET -= np.maximum.reduce(logits_ET, axis=1, keepdims=True)
        np.exp(logits_ET, logits_ET)
        logits_ET /= np.add.reduce(logits_ET, axis=1, keepdims=True)
        return logits_ET

    def message_of(self, parts_EP: FloatArray, heard_EM: FloatArray) -> FloatArray:
        """[E, M] new message m = Msg(h, c), which contains the agent's own state h.

        Args:
            heard_EM: what `attend` returns; its value projection is merged with this layer.
        """
        message_EM: FloatArray = heard_EM.dot(self._heard)
        message_EM += parts_EP[:, self._own]
        return np.tanh(message_EM, message_EM)

    def message(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        if heard.tokens_ETM is None:
            return self.message_of(parts_EP, heard.own_EM)
        heard_EM = self.attend(parts_EP, heard.tokens_ETM, heard.present_ET)
        return self.message_of(parts_EP, heard_EM)
