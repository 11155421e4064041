"""ExpoComm on the one-peer exponential graph: in each step every agent hears one neighbour.

    slot of the step -> that neighbour's last message -> [h, m_j] -> GRU -> message -> Q head, peer

The slots are taken in turn, by the step of the episode. In the release (github.com/LXXXXR/ExpoComm,
EC-O) the first slot is the agent itself, so it hears a neighbour in K of K + 1 steps; in the paper
(`self_slot=false`) there is no such slot. A message is the state of a GRU of its own:

    x = relu(W [h, m_j] + b)        m' = GRU(x, m)

The GRU goes on from its state as it is; on the wire it is rounded. The release has the own state in
the message; `own_state=false` leaves h out, and then nothing is transmitted, as on the static graph
as released. Where a neighbour does not take part or its message was lost, the own last message
stands in, as in the slot that is the agent's own. In the release the dead go on relaying:
`--agents.dead relay`.

Dimension key: E = copies, T = tokens (own message first), K = edges of one direction, H = hidden,
M = message, P = columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.comm.base import Heard, Scheme
from agents.layers import Layout, Linear, columns, draw_uniform
from configs.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

OWN = -1
"""The slot in which an agent hears itself."""
_HALF, _ZERO = np.float32(0.5), np.float32(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    own_state: bool = True
    """A message contains its sender's own state, as in the release; false transmits nothing."""

    self_slot: bool = True
    """An agent hears itself in one of K + 1 steps, as in the release; false: a neighbour in each of
    K, as in the paper."""


class ExpocommOnePeer(Scheme):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.expocomm_one_peer:ExpocommOnePeerTwin"
    carries = ("memory",)

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        options: Options = spec.scheme_opts()
        self.memory = self.memory_of(spec)
        self._num_edges = self.graph(num_agents, options).num_edges
        self._own_slots = int(options.self_slot)
        mix, bias_M = tensors["mix.weight"], tensors["mix.bias"]
        own_HM, heard_MM = np.split(columns(mix), [mix.shape[1] - spec.message])
        self._heard, self._bias_M = np.ascontiguousarray(heard_MM), bias_M
        self.reads: tuple[Linear, ...] = ()
        if options.own_state:
            self.reads = ((np.ascontiguousarray(own_HM), bias_M),)
        # sigmoid(x) = (tanh(x / 2) + 1) / 2 cannot overflow; the half of x goes into the weights.
        halves = np.ones(3 * spec.message, dtype=np.float32)
        halves[: 2 * spec.message] = _HALF
        self._input = columns(tensors["message_gru.weight_ih"]) * halves
        self._input_bias = tensors["message_gru.bias_ih"] * halves
        self._state = columns(tensors["message_gru.weight_hh"]) * halves
        self._state_bias = tensors["message_gru.bias_hh"] * halves

    @classmethod
    def memory_of(cls, spec: "PolicySpec") -> int:
        return spec.message

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        size = spec.message
        own = spec.hidden if spec.scheme_opts().own_state else 0
        return (
            ("mix.weight", (size, own + size)),
            ("mix.bias", (size,)),
            ("message_gru.weight_ih", (3 * size, size)),
            ("message_gru.weight_hh", (3 * size, size)),
            ("message_gru.bias_ih", (3 * size,)),
            ("message_gru.bias_hh", (3 * size,)),
        )

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        # torch draws all of a GRU by the size of its state.
        draw_uniform(name, tensors, rng, spec.message if name.startswith("message_gru.") else 0)

    def seat(self, columns: Sequence[slice]) -> None:
        self._own_state = columns[0] if columns else None

    def open_edges(self, steps_E: NDArray[np.integer[Any]], allowed_EK: BoolArray) -> BoolArray:
        """[E, K] the edge over which the next step hears: what is said now is heard then."""
        slot_E = slots(steps_E.astype(np.int64) + 1, self._num_edges, self._own_slots)
        return allowed_EK & (np.arange(self._num_edges) == slot_E[:, None])

    def message(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        x_EM: FloatArray = np.dot(self._of_one_peer(heard), self._heard)
        x_EM += self._bias_M if self._own_state is None else parts_EP[:, self._own_state]
        np.maximum(x_EM, _ZERO, out=x_EM)
        from_input: FloatArray = np.dot(x_EM, self._input)
        from_input += self._input_bias
        from_state: FloatArray = np.dot(heard.memory_EX, self._state)
        from_state += self._state_bias
        size = self.memory
        gates = from_input[:, : 2 * size]
        gates += from_state[:, : 2 * size]
        np.tanh(gates, gates)
        gates *= _HALF
        gates += _HALF
        reset, update = gates[:, :size], gates[:, size:]
        candidate = from_input[:, 2 * size :]
        reset *= from_state[:, 2 * size :]
        candidate += reset
        np.tanh(candidate, candidate)
        following = heard.memory_EX - candidate
        following *= update
        following += candidate
        heard.memory_EX = following
        return following

    def _of_one_peer(self, heard: Heard) -> FloatArray:
        """[E, M] the message of the slot's neighbour, or the own one.

        In real time episodes of neighbours need not begin together, and what has come may be of
        another slot: then it is the first that is there. In lock-step there is no other.
        """
        tokens_ETM, present_ET = heard.tokens_ETM, heard.present_ET
        assert tokens_ETM is not None, "its edges are open"
        copies_E = np.arange(len(tokens_ETM))
        slot_E = slots(heard.steps_E.astype(np.int64), self._num_edges, self._own_slots)
        if present_ET is None:
            return tokens_ETM[copies_E, slot_E + 1]
        token_E = np.where(present_ET[copies_E, slot_E + 1], slot_E + 1, 0)
        others_E = (token_E == 0) & present_ET[:, 1:].any(axis=1)
        if others_E.any():
            token_E[others_E] = 1 + present_ET[others_E, 1:].argmax(axis=1)
        return tokens_ETM[copies_E, token_E]


def slots(steps_E: NDArray[np.int64], num_edges: int, own_slots: int) -> NDArray[np.int64]:
    """[E] the in-edge over which a step hears, or OWN.

    Args:
        steps_E: steps of the episode, from 0.
        own_slots: 1 where the agent itself is the first slot of a cycle, else 0.
    """
    return steps_E % (num_edges + own_slots) - own_slots


SCHEME = ExpocommOnePeer
