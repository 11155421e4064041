"""The network of an agent in the fewest numpy calls that do the same arithmetic.

Of the loops beside ours: the same sizes, parameters drawn at random, nothing checked, nothing
rounded, nobody dead. numpy only.

Dimension key: E = copies, K = offsets, D = observation features, H = hidden, M = message, Z =
beacon, A = actions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.workload import Workload

FloatArray = NDArray[np.float32]


class PlainPolicy:
    """GRU, attention over messages, new message, action values, beacon and scorer."""

    def __init__(self, work: Workload, seed: int) -> None:
        rng = np.random.default_rng(seed)

        def matrix(*shape: int) -> FloatArray:
            return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

        hidden, message = work.hidden, work.message
        self._encoder = matrix(work.observation_dim, hidden)
        self._input, self._recurrent = matrix(hidden, 3 * hidden), matrix(hidden, 3 * hidden)
        self._query, self._key = matrix(hidden, work.attention), matrix(message, work.attention)
        self._value = matrix(message, hidden)
        self._message = matrix(2 * hidden, message)
        self._q_hidden = matrix(hidden + message, hidden)
        self._q_out = matrix(hidden, work.num_actions)
        self._beacon = matrix(hidden, work.beacon)
        self._scorer_own = matrix(work.beacon, work.scorer)
        self._scorer_peer = matrix(work.beacon, work.scorer)
        self._scorer_out = matrix(work.scorer, 1)[:, 0]
        self._hidden_EH: FloatArray = np.zeros((work.copies, hidden), np.float32)
        self._own_EM: FloatArray = np.zeros((work.copies, message), np.float32)

    def step(
        self, observation_ED: FloatArray, messages_KEM: FloatArray, beacons_KEZ: FloatArray
    ) -> tuple[NDArray[Any], FloatArray, FloatArray]:
        """[E] actions, [E, M] new message, [E, Z] new beacon."""
        hidden_EH, size = self._hidden_EH, self._hidden_EH.shape[1]
        given = np.maximum(observation_ED @ self._encoder, 0.0) @ self._input
        kept = hidden_EH @ self._recurrent
        gates = 1.0 / (1.0 + np.exp(-(given + kept)[:, : 2 * size]))
        candidate = np.tanh(given[:, 2 * size :] + gates[:, :size] * kept[:, 2 * size :])
        hidden_EH = candidate + gates[:, size:] * (hidden_EH - candidate)

        tokens_TEM = np.concatenate((self._own_EM[None], messages_KEM))
        logits_TE = np.einsum("tea,ea->te", tokens_TEM @ self._key, hidden_EH @ self._query)
        weights_TE = np.exp(logits_TE - logits_TE.max(axis=0))
        weights_TE /= weights_TE.sum(axis=0)
        context_EH = np.einsum("te,tem->em", weights_TE, tokens_TEM) @ self._value
        message_EM = np.tanh(np.concatenate((hidden_EH, context_EH), axis=1) @ self._message)
        fused = np.maximum(np.concatenate((hidden_EH, message_EM), axis=1) @ self._q_hidden, 0.0)
        actions_E = (fused @ self._q_out).argmax(axis=1)

        beacon_EZ = np.tanh(hidden_EH @ self._beacon)
        scores = beacon_EZ @ self._scorer_own + beacons_KEZ @ self._scorer_peer
        # Computed like ours; who is sent to is the workload's rule.
        self._scores_KE = np.maximum(scores, 0.0) @ self._scorer_out
        self._hidden_EH, self._own_EM = hidden_EH.astype(np.float32, copy=False), message_EM
        return actions_E, message_EM, beacon_EZ
