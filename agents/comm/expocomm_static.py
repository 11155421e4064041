"""ExpoComm on the static exponential graph: every agent hears all its neighbours in every step.

    own last message and those of the in-neighbours -> attention by h -> message -> Q head, peers

The release (github.com/LXXXXR/ExpoComm, EC-S) is a baseline of SOPS, and transmits nothing: a
message is a weighted mean of linear maps of messages, the weights add up to one, and every message
begins at zero. So all agents have the same message at all times, whatever they observe. That is
`own_state=false`, the scheme as released. With `own_state=true` a message contains its sender's
state (docs/design.md, decision 1), and what is left is SOPS with every edge open and no gate.

    as released       m' = V (Σ w m) + b_V
    with own state    m' = tanh(W [h, V (Σ w m) + b_V] + b)
    both              w = softmax over own + heard tokens of (W_q h + b_q) · (W_k m) / sqrt(Q)

A key's bias would move all logits of a softmax alike, so there is none.

Dimension key: E = copies, T = tokens attended to (own message first), H = hidden, M = message, Q =
query and key size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.comm.gate import BoolArray
from agents.policy import FloatArray

LARGEST = 65504.0
"""No entry of a message is larger: as released a message is linear in messages and may grow, and
this is what float16 holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    own_state: bool = False
    """A message contains its sender's own state; false is the release, which transmits nothing."""


Layout = tuple[tuple[str, tuple[int, ...]], ...]


def layout(hidden: int, message: int, attention: int, options: Options) -> Layout:
    own: Layout = (
        ("message.weight", (message, hidden + message)),
        ("message.bias", (message,)),
    )
    return (
        ("query.weight", (attention, hidden)),
        ("query.bias", (attention,)),
        ("key.weight", (attention, message)),
        ("value.weight", (message, message)),
        ("value.bias", (message,)),
        *(own if options.own_state else ()),
    )


class StaticStep:
    """What is made of what was heard, for a policy version."""

    def __init__(self, tensors: Mapping[str, FloatArray], hidden: int, options: Options) -> None:
        key = tensors["key.weight"]
        scale = np.float32(1.0 / np.sqrt(len(key)))
        asks = (tensors["query.weight"].T @ key) * scale, (tensors["query.bias"] @ key) * scale
        heard_MM, bias_M = tensors["value.weight"].T, tensors["value.bias"]
        self._own_state = options.own_state
        self.reads = [asks]
        """Weights and biases of what is linear in h."""
        if options.own_state:
            own_HM, context_MM = np.split(tensors["message.weight"].T, [hidden])
            heard_MM, bias_M = heard_MM @ context_MM, bias_M @ context_MM
            self.reads.append((own_HM, tensors["message.bias"] + bias_M))
        self._heard_MM = np.ascontiguousarray(heard_MM)
        self._bias_M = bias_M

    def message(
        self,
        asks_EM: FloatArray,
        own_EM: FloatArray | None,
        tokens_ETM: FloatArray,
        present_ET: BoolArray | None,
    ) -> FloatArray:
        """[E, M] new message, not yet rounded.

        Args:
            asks_EM: queries through the transposed key matrix, q · (W_k m) = (W_k^T q) · m.
            own_EM: what a message owes to its sender's state; None as released.
            tokens_ETM: own last message, then what was heard.
            present_ET: tokens that are there, the own one always; None: all are.
        """
        logits_ET: FloatArray = (tokens_ETM @ asks_EM[:, :, None])[:, :, 0]
        if present_ET is not None:
            logits_ET[~present_ET] = -np.inf
        logits_ET -= np.maximum.reduce(logits_ET, axis=1, keepdims=True)
        np.exp(logits_ET, logits_ET)
        logits_ET /= np.add.reduce(logits_ET, axis=1, keepdims=True)
        message_EM: FloatArray = np.dot((logits_ET[:, None] @ tokens_ETM)[:, 0], self._heard_MM)
        if own_EM is not None:
            message_EM += own_EM
            return np.tanh(message_EM, message_EM)
        message_EM += self._bias_M
        return message_EM.clip(-LARGEST, LARGEST, out=message_EM)
