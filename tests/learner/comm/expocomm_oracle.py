"""ExpoComm as a loop over agents in float64 that knows nothing of rotations, batches or torch.

Dimension key: T = time, N = agents, K = offsets, H = hidden, M = message.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.net.topology import in_neighbours

Vector = NDArray[np.float64]
Tensors = Mapping[str, Vector]


def rounded(message_M: Vector) -> Vector:
    return message_M.astype(np.float16).astype(np.float64)


def static_messages(tensors: Tensors, hidden_TNH: Vector, heard_TNK: NDArray[np.bool_]) -> Vector:
    """[T, N, M] before rounding, from the first step of an episode."""
    p = tensors
    time, agents, _ = hidden_TNH.shape
    size = len(p["value.bias"])
    sent = [np.zeros(size)] * agents
    messages = np.zeros((time, agents, size))
    for t in range(time):
        for i in range(agents):
            peers = in_neighbours(i, agents)
            tokens = [sent[i], *(sent[j] for k, j in enumerate(peers) if heard_TNK[t, i, k])]
            query = p["query.weight"] @ hidden_TNH[t, i] + p["query.bias"]
            logits = np.array([query @ (p["key.weight"] @ token) for token in tokens])
            weights = np.exp(logits / np.sqrt(len(query)))
            weights /= weights.sum()
            values = [p["value.weight"] @ token + p["value.bias"] for token in tokens]
            context = sum(w * value for w, value in zip(weights, values, strict=True))
            if "message.weight" in p:
                joint = np.concatenate((hidden_TNH[t, i], context))
                context = np.tanh(p["message.weight"] @ joint + p["message.bias"])
            messages[t, i] = context
        sent = [rounded(message) for message in messages[t]]
    return messages


def one_peer_messages(
    tensors: Tensors, hidden_TNH: Vector, heard_TNK: NDArray[np.bool_], *, self_slot: bool
) -> Vector:
    """[T, N, M] before rounding, from the first step of an episode."""
    p = tensors
    time, agents, _ = hidden_TNH.shape
    size = len(p["mix.bias"])
    own_state = p["mix.weight"].shape[1] > size
    state, sent = np.zeros((agents, size)), np.zeros((agents, size))
    messages = np.zeros((time, agents, size))
    for t in range(time):
        for i in range(agents):
            heard_from = [*([i] if self_slot else []), *in_neighbours(i, agents)]
            slot = t % len(heard_from)
            peer = heard_from[slot]
            if peer != i and not heard_TNK[t, i, slot - int(self_slot)]:
                peer = i
            inputs = [hidden_TNH[t, i], sent[peer]] if own_state else [sent[peer]]
            x = np.maximum(p["mix.weight"] @ np.concatenate(inputs) + p["mix.bias"], 0.0)
            from_x = np.split(p["memory.weight_ih"] @ x + p["memory.bias_ih"], 3)
            from_m = np.split(p["memory.weight_hh"] @ state[i] + p["memory.bias_hh"], 3)
            reset = 1.0 / (1.0 + np.exp(-(from_x[0] + from_m[0])))
            update = 1.0 / (1.0 + np.exp(-(from_x[1] + from_m[1])))
            candidate = np.tanh(from_x[2] + reset * from_m[2])
            messages[t, i] = (1.0 - update) * candidate + update * state[i]
        state = messages[t].copy()
        sent = np.array([rounded(message) for message in state])
    return messages
