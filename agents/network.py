"""The network of one agent in numpy, as `learner.network` is in torch.

    observation -> encoder -> GRU -> hidden -> attention over messages -> message -> q-values
                                        └────-> beacon

Dimension key: E = copies, T = tokens attended to (own message first), D = observation features, H =
hidden, M = message, Z = beacon, A = actions.
"""

import numpy as np

from agents.gate import BoolArray, Scorer
from agents.policy import FloatArray, PolicySpec, views

HALF, ONE, ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)


def _sigmoid(x: FloatArray) -> FloatArray:
    return HALF * (np.tanh(HALF * x) + ONE)  # exp would overflow for large negative x


class Network:
    """A policy version, ready to run."""

    def __init__(self, spec: PolicySpec, flat: FloatArray, features_KF: FloatArray) -> None:
        tensors = views(spec, flat)
        self.scorer = Scorer(tensors, features_KF)
        self._hidden = spec.hidden
        self._scale = np.float32(1.0 / np.sqrt(spec.attention))
        self._encoder = tensors["encoder.weight"].T, tensors["encoder.bias"]
        self._gru_input = tensors["gru.weight_ih"].T, tensors["gru.bias_ih"]
        self._gru_hidden = tensors["gru.weight_hh"].T, tensors["gru.bias_hh"]
        self._query = tensors["query.weight"].T
        self._key = tensors["key.weight"].T
        self._value = tensors["value.weight"].T
        self._message = tensors["message.weight"].T, tensors["message.bias"]
        self._q_hidden = tensors["q_hidden.weight"].T, tensors["q_hidden.bias"]
        self._q_out = tensors["q_out.weight"].T, tensors["q_out.bias"]
        self._beacon = tensors["beacon.weight"].T, tensors["beacon.bias"]

    def recur(self, observation_ED: FloatArray, hidden_EH: FloatArray) -> FloatArray:
        """[E, H] next hidden state; it does not depend on messages."""
        weight, bias = self._encoder
        x_EH = np.maximum(observation_ED @ weight + bias, ZERO)
        weight, bias = self._gru_input
        from_input: FloatArray = x_EH @ weight + bias
        weight, bias = self._gru_hidden
        from_hidden: FloatArray = hidden_EH @ weight + bias
        size = self._hidden
        gates = _sigmoid((from_input + from_hidden)[:, : 2 * size])
        reset, update = gates[:, :size], gates[:, size:]
        candidate = np.tanh(from_input[:, 2 * size :] + reset * from_hidden[:, 2 * size :])
        return candidate + update * (hidden_EH - candidate)

    def beacon(self, hidden_EH: FloatArray) -> FloatArray:
        """[E, Z] node embedding z = phi(h), not yet rounded."""
        weight, bias = self._beacon
        return np.tanh(hidden_EH @ weight + bias)

    def attend(
        self, hidden_EH: FloatArray, tokens_ETM: FloatArray, present_ET: BoolArray
    ) -> FloatArray:
        """[E, H] context: scaled attention over the tokens that are present.

        The own last message stands first and is always present, so the softmax has a finite maximum
        even when no edge is open.
        """
        query_EA = hidden_EH @ self._query
        logits_ET = ((tokens_ETM @ self._key) @ query_EA[:, :, None])[:, :, 0] * self._scale
        logits_ET = np.where(present_ET, logits_ET, -np.inf)
        weights_ET: FloatArray = np.exp(logits_ET - logits_ET.max(axis=1, keepdims=True))
        weights_ET /= weights_ET.sum(axis=1, keepdims=True)
        mixed_EM: FloatArray = (weights_ET[:, None] @ tokens_ETM)[:, 0]
        return mixed_EM @ self._value

    def message(self, hidden_EH: FloatArray, context_EH: FloatArray) -> FloatArray:
        """[E, M] new message m = Msg(h, c), which contains the agent's own state h."""
        weight, bias = self._message
        return np.tanh(np.concatenate((hidden_EH, context_EH), axis=1) @ weight + bias)

    def q_values(self, hidden_EH: FloatArray, message_EM: FloatArray) -> FloatArray:
        """[E, A]"""
        weight, bias = self._q_hidden
        fused_EH = np.concatenate((hidden_EH, message_EM), axis=1) @ weight + bias
        weight, bias = self._q_out
        return np.maximum(fused_EH, ZERO) @ weight + bias
