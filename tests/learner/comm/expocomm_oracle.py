"""ExpoComm as a loop over agents in float64 that knows nothing of rotations, batches or torch.

Dimension key: T = time, N = agents, H = hidden, M = message.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.net.topology import in_neighbours

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """What a scheme is given."""

    hidden_TNH: Vector
    alive_TN: NDArray[np.bool_]

    def reaches(self, t: int, sender: int, receiver: int) -> bool:
        """Whether what the sender said in step t - 1 could be sent to the receiver: both took part,
        as far as the sender could know.
        """
        if t == 0 or not self.alive_TN[t - 1, sender]:
            return False
        return t == 1 or bool(self.alive_TN[t - 2, receiver])


def rounded(message_M: Vector) -> Vector:
    return message_M.astype(np.float16).astype(np.float64)


def static_messages(p: Mapping[str, Vector], episode: Episode) -> Vector:
    """[T, N, M] before rounding."""
    time, agents, _ = episode.hidden_TNH.shape
    size = len(p["value.bias"])
    sent = [np.zeros(size)] * agents
    messages = np.zeros((time, agents, size))
    for t in range(time):
        for i in range(agents):
            peers = [j for j in in_neighbours(i, agents) if episode.reaches(t, j, i)]
            tokens = [sent[i], *(sent[j] for j in peers)]
            query = p["query.weight"] @ episode.hidden_TNH[t, i] + p["query.bias"]
            logits = np.array([query @ (p["key.weight"] @ token) for token in tokens])
            weights = np.exp(logits / np.sqrt(len(query)))
            weights /= weights.sum()
            values = [p["value.weight"] @ token + p["value.bias"] for token in tokens]
            messages[t, i] = sum(w * value for w, value in zip(weights, values, strict=True))
            if "message.weight" in p:
                joint = np.concatenate((episode.hidden_TNH[t, i], messages[t, i]))
                messages[t, i] = np.tanh(p["message.weight"] @ joint + p["message.bias"])
        sent = [rounded(message) for message in messages[t]]
    return messages


def one_peer_messages(p: Mapping[str, Vector], episode: Episode, *, self_slot: bool) -> Vector:
    """[T, N, M] before rounding."""
    time, agents, _ = episode.hidden_TNH.shape
    size = len(p["mix.bias"])
    own_state = p["mix.weight"].shape[1] > size
    state, sent = np.zeros((agents, size)), np.zeros((agents, size))
    messages = np.zeros((time, agents, size))
    for t in range(time):
        for i in range(agents):
            cycle = [*([i] if self_slot else []), *in_neighbours(i, agents)]
            peer = cycle[t % len(cycle)]
            if not episode.reaches(t, peer, i):
                peer = i
            inputs = [episode.hidden_TNH[t, i], sent[peer]] if own_state else [sent[peer]]
            x = np.maximum(p["mix.weight"] @ np.concatenate(inputs) + p["mix.bias"], 0.0)
            from_x = np.split(p["message_gru.weight_ih"] @ x + p["message_gru.bias_ih"], 3)
            from_m = np.split(p["message_gru.weight_hh"] @ state[i] + p["message_gru.bias_hh"], 3)
            reset = 1.0 / (1.0 + np.exp(-(from_x[0] + from_m[0])))
            update = 1.0 / (1.0 + np.exp(-(from_x[1] + from_m[1])))
            candidate = np.tanh(from_x[2] + reset * from_m[2])
            messages[t, i] = (1.0 - update) * candidate + update * state[i]
        state = messages[t].copy()
        sent = np.array([rounded(message) for message in state])
    return messages
