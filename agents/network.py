"""The network of one agent in numpy, as `learner.network` is in torch.

    observation, hidden, parts -> recur -> hidden -> parts -> beacon
                                                       └──-> attend -> message -> q-values

Whatever is linear in h is one product, and its columns are called the parts: an agent of one copy
spends more on calls than on arithmetic. For the same reason matrices that follow each other without
anything between them are merged when a version arrives.

Dimension key: E = copies, T = tokens attended to (own message first), D = observation features, H =
hidden, M = message, Z = beacon, A = actions, P = parts.
"""

from itertools import accumulate, pairwise

import numpy as np

from agents.comm.gate import Scorer
from agents.dead_units import without_dead_units
from agents.policy import PolicySpec, views
from configs.arrays import BoolArray, FloatArray

HALF, ZERO = np.float32(0.5), np.float32(0.0)


class Network:
    """A policy version, ready to run."""

    def __init__(self, spec: PolicySpec, flat: FloatArray, features_KF: FloatArray) -> None:
        tensors, self._living_H = without_dead_units(views(spec, flat))
        hidden, message = self._living_H.size, spec.message
        self._width = spec.hidden
        self.scorer = Scorer(tensors, features_KF)
        self._hidden = hidden

        # sigmoid(x) = (tanh(x / 2) + 1) / 2 cannot overflow; the half of x goes into the weights.
        halves = np.ones(3 * hidden, dtype=np.float32)
        halves[: 2 * hidden] = HALF
        bias_ih, bias_hh = tensors["gru.bias_ih"] * halves, tensors["gru.bias_hh"] * halves
        self._encoder = _columns(tensors["encoder.weight"]), tensors["encoder.bias"]
        self._gru_input = _columns(tensors["gru.weight_ih"]) * halves
        self._candidate_bias = bias_ih[2 * hidden :].copy()
        bias_hh[: 2 * hidden] += bias_ih[: 2 * hidden]

        # A logit is (W_q h) (W_k m): by the rows of W_q^T W_k every token is asked directly.
        scale = np.float32(1.0 / np.sqrt(spec.attention))
        asks_HM = (tensors["query.weight"].T @ tensors["key.weight"]) * scale
        own_HM, context_HM = np.split(_columns(tensors["message.weight"]), [hidden])
        state_HH, said_MH = np.split(_columns(tensors["q_hidden.weight"]), [hidden])
        # The value projection commutes with the weighted sum: W_c (W_v Σ w m) = (W_c W_v) Σ w m.
        self._heard = np.ascontiguousarray(tensors["value.weight"].T @ context_HM)
        self._said = np.ascontiguousarray(said_MH)
        self._q_out = _columns(tensors["q_out.weight"]), tensors["q_out.bias"]

        parts = (
            (_columns(tensors["gru.weight_hh"]) * halves, bias_hh),
            (_columns(tensors["beacon.weight"]), tensors["beacon.bias"]),
            (asks_HM, np.zeros(message, dtype=np.float32)),
            (own_HM, tensors["message.bias"]),
            (state_HH, tensors["q_hidden.bias"]),
        )
        self._parts_HP = np.concatenate([weight for weight, _ in parts], axis=1)
        self._parts_P = np.concatenate([bias for _, bias in parts])
        ends = accumulate((bias.size for _, bias in parts), initial=0)
        self._gru, self._beacon, self._asks, self._own, self._state = (
            slice(start, stop) for start, stop in pairwise(ends)
        )

    def begin(self, copies: int) -> FloatArray:
        """[E, H] the hidden state before the first step; H counts units that have an effect."""
        return np.zeros((copies, self._hidden), dtype=np.float32)

    def adopt(self, hidden_EH: FloatArray, previous: "Network") -> FloatArray:
        """[E, H] the hidden state of another version as this one's; units that had no effect there
        begin at zero.
        """
        if np.array_equal(self._living_H, previous._living_H):
            return hidden_EH
        whole_EH = np.zeros((len(hidden_EH), self._width), dtype=np.float32)
        whole_EH[:, previous._living_H] = hidden_EH
        return whole_EH[:, self._living_H]

    def parts(self, hidden_EH: FloatArray) -> FloatArray:
        """[E, P] what the next stages need of a hidden state, and the GRU of the next step."""
        parts_EP: FloatArray = np.dot(hidden_EH, self._parts_HP)
        parts_EP += self._parts_P
        return parts_EP

    def recur(
        self, observation_ED: FloatArray, hidden_EH: FloatArray, parts_EP: FloatArray
    ) -> FloatArray:
        """[E, H] next hidden state; it does not depend on messages.

        Args:
            parts_EP: of `hidden_EH`.
        """
        weight, bias = self._encoder
        x_EH: FloatArray = np.dot(observation_ED, weight)
        x_EH += bias
        np.maximum(x_EH, ZERO, out=x_EH)
        from_input: FloatArray = np.dot(x_EH, self._gru_input)
        from_hidden = parts_EP[:, self._gru]
        size = self._hidden
        gates = from_input[:, : 2 * size]
        gates += from_hidden[:, : 2 * size]
        np.tanh(gates, gates)
        gates *= HALF
        gates += HALF
        reset, update = gates[:, :size], gates[:, size:]
        candidate = from_input[:, 2 * size :]
        candidate += self._candidate_bias
        reset *= from_hidden[:, 2 * size :]
        candidate += reset
        np.tanh(candidate, candidate)
        following = hidden_EH - candidate
        following *= update
        following += candidate
        return following

    def beacon(self, parts_EP: FloatArray) -> FloatArray:
        """[E, Z] node embedding z = phi(h), not yet rounded."""
        return np.tanh(parts_EP[:, self._beacon])

    def attend(
        self, parts_EP: FloatArray, tokens_ETM: FloatArray, present_ET: BoolArray | None
    ) -> FloatArray:
        """[E, M] weighted mean of the tokens that are present, by scaled attention.

        The own last message stands first and is always present, so the softmax has a finite maximum
        even when no edge is open. Without `present_ET` all are.
        """
        asks_EM = parts_EP[:, self._asks]
        logits_ET: FloatArray = (tokens_ETM @ asks_EM[:, :, None])[:, :, 0]
        if present_ET is not None:
            logits_ET[~present_ET] = -np.inf
        logits_ET -= np.maximum.reduce(logits_ET, axis=1, keepdims=True)
        np.exp(logits_ET, logits_ET)
        logits_ET /= np.add.reduce(logits_ET, axis=1, keepdims=True)
        return (logits_ET[:, None] @ tokens_ETM)[:, 0]

    def message(self, parts_EP: FloatArray, heard_EM: FloatArray) -> FloatArray:
        """[E, M] new message m = Msg(h, c), which contains the agent's own state h.

        Args:
            heard_EM: what `attend` returns; its value projection is merged with this layer.
        """
        message_EM: FloatArray = np.dot(heard_EM, self._heard)
        message_EM += parts_EP[:, self._own]
        return np.tanh(message_EM, message_EM)

    def q_values(self, parts_EP: FloatArray, message_EM: FloatArray) -> FloatArray:
        """[E, A]"""
        fused_EH: FloatArray = np.dot(message_EM, self._said)
        fused_EH += parts_EP[:, self._state]
        np.maximum(fused_EH, ZERO, out=fused_EH)
        weight, bias = self._q_out
        q_EA: FloatArray = np.dot(fused_EH, weight)
        q_EA += bias
        return q_EA


def _columns(weight: FloatArray) -> FloatArray:
    """[out, in] -> [in, out] in the order in which a product reads it."""
    return np.ascontiguousarray(weight.T)
