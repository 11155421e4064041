"""Messages of the K peers on one side, by tick: freshness is enforced by step numbers.

In lock-step a peer is at most one tick ahead, so two ticks are ever of interest and two slots hold
them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray

_NEVER = -1


class Inbox:
    """The newest vectors [K, E, V] of K peers in E copies, for two neighbouring ticks.

    Ticks and arrivals are plain integers: this runs once for every packet, in a hundred processes
    whose caches are cold each time, where a numpy scalar costs more than the bookkeeping.

    Dimension key: K = peers, E = copies, V = numbers in a vector, T = tokens (own vector first).
    """

    def __init__(self, peers: int, copies: int, vector: int) -> None:
        self._ticks = [[_NEVER] * peers, [_NEVER] * peers]
        self._arrivals = [(_NEVER, 0, 0), (_NEVER, 0, 0)]
        """By slot the newest tick, the bits of those who have sent it, and the bits of those whose
        packet was for all copies."""
        self._present = np.zeros((2, peers, copies), dtype=np.bool_)
        self._tokens = np.zeros((2, copies, 1 + peers, vector), dtype=np.float32)
        """Attention reads own vector and peers' in one array: the first place is kept free."""

    def put(self, peer: int, tick: int, present_E: BoolArray, rows: NDArray[Any]) -> bool:
        """Keep a packet unless a newer one has taken its place; False if it is stale."""
        slot = tick & 1
        ticks = self._ticks[slot]
        if tick <= ticks[peer]:
            return False
        ticks[peer] = tick
        newest, bits, whole = self._arrivals[slot]
        if tick > newest:
            bits = whole = 0
        if len(rows) == len(present_E):
            self._tokens[slot, :, 1 + peer] = rows
            whole |= 1 << peer
        else:
            self._tokens[slot, present_E, 1 + peer] = rows
        if tick >= newest:
            self._arrivals[slot] = (tick, bits | 1 << peer, whole)
        self._present[slot, peer] = present_E
        return True

    def arrived(self, tick: int) -> int:
        """Bit k is set if the packet of peer k for this tick is here."""
        newest, bits, _ = self._arrivals[tick & 1]
        if newest <= tick:
            return bits if newest == tick else 0
        ticks = self._ticks[tick & 1]
        return sum(1 << peer for peer, at in enumerate(ticks) if at == tick)

    def arrived_whole(self, tick: int) -> int:
        """Bit k is set if that packet has a vector for every copy."""
        newest, _, whole = self._arrivals[tick & 1]
        return whole if newest == tick else 0

    def present(self, tick: int) -> BoolArray:
        """[K, E] which copies have a vector of this tick."""
        slot = tick & 1
        current = np.array(self._ticks[slot]) == tick
        return self._present[slot] & current[:, None]

    def vectors(self, tick: int) -> FloatArray:
        """[K, E, V] meaningful where `present` is set, numbers as they crossed the wire."""
        return self._tokens[tick & 1, :, 1:].transpose(1, 0, 2)

    def tokens(self, tick: int, own_EV: FloatArray) -> FloatArray:
        """[E, T, V] the same behind the own vector."""
        tokens_ETV = self._tokens[tick & 1]
        tokens_ETV[:, 0] = own_EV
        return tokens_ETV
