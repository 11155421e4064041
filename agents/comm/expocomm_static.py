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

A key's bias would move all logits of a softmax alike, so there is none. In the release the dead go
on relaying: `--agents.dead relay`.

Dimension key: E = copies, T = tokens attended to (own message first), H = hidden, M = message, Q =
query and key size, P = columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agents.comm.attention import Attention
from agents.comm.base import Heard
from agents.layers import Layout, Linear, columns
from configs.arrays import FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

LARGEST = 65504.0
"""No entry of a message is larger: as released a message is linear in messages and may grow, and
this is what float16 holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    own_state: bool = False
    """A message contains its sender's own state; false is the release, which transmits nothing."""


class ExpocommStatic(Attention):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.expocomm_static:ExpocommStaticTwin"
    largest = LARGEST
    hidden_readers = None

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        # Attention merges matrices of other shapes, so only what attends is taken over.
        key, scale = tensors["key.weight"], np.float32(1.0 / np.sqrt(spec.attention))
        asks = (tensors["query.weight"].T @ key) * scale, (tensors["query.bias"] @ key) * scale
        self._heard, self._bias_M = columns(tensors["value.weight"]), tensors["value.bias"]
        self.reads: tuple[Linear, ...] = (asks,)
        if spec.scheme_opts().own_state:
            own_HM, context_MM = np.split(columns(tensors["message.weight"]), [spec.hidden])
            bias_M = tensors["message.bias"] + self._bias_M @ context_MM
            self._heard = np.ascontiguousarray(self._heard @ context_MM)
            self.reads = asks, (np.ascontiguousarray(own_HM), bias_M)

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        released: Layout = (
            ("query.weight", (spec.attention, spec.hidden)),
            ("query.bias", (spec.attention,)),
            ("key.weight", (spec.attention, spec.message)),
            ("value.weight", (spec.message, spec.message)),
            ("value.bias", (spec.message,)),
        )
        if not spec.scheme_opts().own_state:
            return released
        return (
            *released,
            ("message.weight", (spec.message, spec.hidden + spec.message)),
            ("message.bias", (spec.message,)),
        )

    def seat(self, columns: Sequence[slice]) -> None:
        self._asks, *own = columns
        self._own_state = own[0] if own else None

    def message(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        assert heard.tokens_ETM is not None, "its edges are open"
        mean_EM = self.attend(parts_EP, heard.tokens_ETM, heard.present_ET)
        message_EM: FloatArray = np.dot(mean_EM, self._heard)
        if self._own_state is not None:
            message_EM += parts_EP[:, self._own_state]
            return np.tanh(message_EM, message_EM)
        message_EM += self._bias_M
        return message_EM.clip(-LARGEST, LARGEST, out=message_EM)


SCHEME = ExpocommStatic
