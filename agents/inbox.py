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

    Ticks and arrivals are plain integers: this runs once for every packet, in a hundred processes
    whose caches are cold each time, where a numpy scalar costs more than the bookkeeping.

    Dimension key: K = peers, E = copies, V = numbers in a vector.
    """

    def __init__(self, peers: int, copies: int, vector: int) -> None:
        self._ticks = [[_NEVER] * peers, [_NEVER] * peers]
        self._arrivals = [(_NEVER, 0), (_NEVER, 0)]
        """By slot the newest tick and the bits of those who have sent it."""
        self._present = np.zeros((2, peers, copies), dtype=np.bool_)
        self._vectors = np.zeros((2, peers, copies, vector), dtype=np.float32)

    def put(self, peer: int, tick: int, present_E: BoolArray, rows: NDArray[Any]) -> bool:
        """Keep a packet unless a newer one has taken its place; False if it is stale."""
        slot = tick & 1
        ticks = self._ticks[slot]
        if tick <= ticks[peer]:
            return False
        ticks[peer] = tick
        newest, bits = self._arrivals[slot]
        if tick > newest:
            self._arrivals[slot] = (tick, 1 << peer)
        elif tick == newest:
            self._arrivals[slot] = (tick, bits | 1 << peer)
        self._present[slot, peer] = present_E
        if len(rows) == len(present_E):
            self._vectors[slot, peer] = rows
        else:
            self._vectors[slot, peer, present_E] = rows
        return True

    def arrived(self, tick: int) -> int:
        """Bit k is set if the packet of peer k for this tick is here."""
        newest, bits = self._arrivals[tick & 1]
        if newest == tick:
            return bits
        ticks = self._ticks[tick & 1]
        return sum(1 << peer for peer, at in enumerate(ticks) if at == tick)

    def present(self, tick: int) -> BoolArray:
        """[K, E] which copies have a vector of this tick."""
        slot = tick & 1
        current = np.array(self._ticks[slot]) == tick
        return self._present[slot] & current[:, None]

    def vectors(self, tick: int) -> FloatArray:
        """[K, E, V] meaningful where `present` is set, numbers as they crossed the wire."""
        return self._vectors[tick & 1]
