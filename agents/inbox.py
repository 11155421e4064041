"""Packets of the K peers on one side, by tick: freshness is enforced by step numbers.

In lock-step a peer is at most one tick ahead, so two ticks are ever of interest and two slots hold
them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.gate import BoolArray
from agents.policy import FloatArray

_NEVER = -1


class Inbox:
    """The newest vectors [K, E, V] of K peers in E copies, for two neighbouring ticks.

    Dimension key: K = peers, E = copies, V = numbers in a vector.
    """

    def __init__(self, peers: int, copies: int, vector: int) -> None:
        self._ticks = np.full((2, peers), _NEVER, dtype=np.int64)
        self._present = np.zeros((2, peers, copies), dtype=np.bool_)
        self._vectors = np.zeros((2, peers, copies, vector), dtype=np.float32)

    def put(self, peer: int, tick: int, present_E: BoolArray, rows: NDArray[Any]) -> bool:
        """Keep a packet unless a newer one has taken its place; False if it is stale."""
        slot = tick & 1
        if tick <= self._ticks[slot, peer]:
            return False
        self._ticks[slot, peer] = tick
        self._present[slot, peer] = present_E
        self._vectors[slot, peer, present_E] = rows
        return True

    def arrived(self, tick: int) -> int:
        """Bit k is set if the packet of peer k for this tick is here."""
        bits = 0
        for peer in np.flatnonzero(self._ticks[tick & 1] == tick).tolist():
            bits |= 1 << peer
        return bits

    def present(self, tick: int) -> BoolArray:
        """[K, E] which copies have a vector of this tick."""
        slot = tick & 1
        return self._present[slot] & (self._ticks[slot] == tick)[:, None]

    def vectors(self, tick: int) -> FloatArray:
        """[K, E, V] meaningful where `present` is set."""
        return self._vectors[tick & 1]
