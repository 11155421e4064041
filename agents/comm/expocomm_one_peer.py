"""ExpoComm on the one-peer exponential graph: in each step every agent hears one neighbour.

    slot of the step -> that neighbour's last message -> [h, m_j] -> GRU -> message -> Q head, peer

The slots are taken in turn, by the step of the episode. In the release (github.com/LXXXXR/ExpoComm,
EC-O) the first slot is the agent itself, so it hears a neighbour in K of K + 1 steps; in the paper
(`self_slot=false`) there is none. A message is the state of a GRU of its own:

    x = relu(W [h, m_j] + b)        m' = GRU(x, m)

The GRU goes on from its state as it is; on the wire it is rounded. Own state is in the message as
released; `own_state=false` leaves h out and then, as in the static graph, nothing is transmitted.
Where a neighbour does not take part or its message was lost, the own last message stands in, as in
the slot that is the agent's own.

Dimension key: E = copies, K = offsets, H = hidden, M = message.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.policy import FloatArray

HALF = np.float32(0.5)
OWN = -1
"""The slot in which an agent hears itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    own_state: bool = True
    """A message contains its sender's own state, as in the release."""
    self_slot: bool = True
    """An agent hears itself in one of K + 1 steps, as in the release; false: a neighbour in each of
    K, as in the paper."""


def slots(steps_E: NDArray[np.integer], num_offsets: int, options: Options) -> NDArray[np.int64]:
    """[E] the offset over which a step hears, or OWN.

    Args:
        steps_E: steps of the episode, from 0. A message that is sent in step t is heard in t + 1.
    """
    own = int(options.self_slot)
    return steps_E.astype(np.int64) % (num_offsets + own) - own


Layout = tuple[tuple[str, tuple[int, ...]], ...]


def layout(hidden: int, message: int, options: Options) -> Layout:
    return (
        ("mix.weight", (message, (hidden if options.own_state else 0) + message)),
        ("mix.bias", (message,)),
        ("memory.weight_ih", (3 * message, message)),
        ("memory.weight_hh", (3 * message, message)),
        ("memory.bias_ih", (3 * message,)),
        ("memory.bias_hh", (3 * message,)),
    )


class OnePeerStep:
    """What is made of what was heard, for a policy version."""

    def __init__(self, tensors: Mapping[str, FloatArray]) -> None:
        mix = tensors["mix.weight"]
        size = len(mix)
        own_HM, heard_MM = np.split(mix.T, [mix.shape[1] - size])
        self.reads = (own_HM, tensors["mix.bias"])
        """Weight and bias of what is linear in h; the weight has no rows without own state."""
        # sigmoid(x) = (tanh(x / 2) + 1) / 2 cannot overflow; the half of x goes into the weights.
        halves = np.ones(3 * size, dtype=np.float32)
        halves[: 2 * size] = HALF
        self._heard_MM = np.ascontiguousarray(heard_MM)
        self._input = np.ascontiguousarray(tensors["memory.weight_ih"].T) * halves
        self._input_bias = tensors["memory.bias_ih"] * halves
        self._state = np.ascontiguousarray(tensors["memory.weight_hh"].T) * halves
        self._state_bias = tensors["memory.bias_hh"] * halves

    def message(
        self, own_EM: FloatArray, heard_EM: FloatArray, memory_EM: FloatArray
    ) -> FloatArray:
        """[E, M] the next state of the GRU, which is the message before rounding.

        Args:
            own_EM: what x owes to the agent's state, bias included.
            heard_EM: the neighbour's last message, or the own one where none was heard.
            memory_EM: the state before.
        """
        x_EM: FloatArray = np.dot(heard_EM, self._heard_MM)
        x_EM += own_EM
        np.maximum(x_EM, np.float32(0.0), out=x_EM)
        from_input: FloatArray = np.dot(x_EM, self._input)
        from_input += self._input_bias
        from_state: FloatArray = np.dot(memory_EM, self._state)
        from_state += self._state_bias
        size = memory_EM.shape[1]
        gates = from_input[:, : 2 * size]
        gates += from_state[:, : 2 * size]
        np.tanh(gates, gates)
        gates *= HALF
        gates += HALF
        reset, update = gates[:, :size], gates[:, size:]
        candidate = from_input[:, 2 * size :]
        reset *= from_state[:, 2 * size :]
        candidate += reset
        np.tanh(candidate, candidate)
        following = memory_EM - candidate
        following *= update
        following += candidate
        return following
