"""Packets of the K peers on one side where nobody waits: the newest that are not too old.

A step uses from every peer the newest packet that is at most `max_age` ticks older than the step.
What is not there by then is a closed edge. Peers are not in step: one that is a tick ahead has sent
its next packet already, and the one before it must still be here. Hence a ring of ticks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray
from runtime.net import ticks

_NEVER = -1


class Freshest:
    """The vectors [K, E, V] of K peers in E copies, for the last ticks; a sibling of `Inbox`.

    Dimension key: K = peers, E = copies, V = numbers in a vector, R = ticks in the ring.
    """

    def __init__(self, peers: int, copies: int, vector: int, max_age: int) -> None:
        """Keep what a step may use: packets of the `max_age` ticks before it."""
        self._max_age = max_age
        # The ages that count, the tick that is being played, and the one that a peer is ahead; a
        # power of two, so that the ring stays whole where tick numbers wrap.
        self._ring = 1 << (max_age + 1).bit_length()
        self._ticks = [[_NEVER] * peers for _ in range(self._ring)]
        self._now: int | None = None
        self._begun_E: list[int | None] = [None] * copies
        self._present = np.zeros((self._ring, peers, copies), dtype=np.bool_)
        self._vectors = np.zeros((self._ring, peers, copies, vector), dtype=np.float32)

    def advance(self, tick: int, first_E: BoolArray) -> None:
        """A step has come; where it is an episode's first, nothing older counts any more."""
        self._now = tick
        for copy, is_first in enumerate(first_E.tolist()):
            begun = self._begun_E[copy]
            if is_first:
                self._begun_E[copy] = tick
            elif begun is not None and ticks.ahead(tick, begun) > self._max_age:
                self._begun_E[copy] = None  # all that is kept is younger

    def renumber(self) -> None:
        """Forget everything: the ticks that follow are numbered anew."""
        self._now = None
        self._begun_E = [None] * len(self._begun_E)
        self._ticks = [[_NEVER] * len(row) for row in self._ticks]

    def put(self, peer: int, tick: int, present_E: BoolArray, rows: NDArray[Any]) -> bool:
        """Keep a packet unless a newer one has taken its place; False if it is stale."""
        slot = tick % self._ring
        held = self._ticks[slot][peer]
        # A peer whose clock was ahead, and has been put right, is believed again.
        is_plausible = self._now is None or ticks.ahead(held, self._now) <= 1
        if held != _NEVER and is_plausible and ticks.ahead(tick, held) <= 0:
            return False
        self._ticks[slot][peer] = tick
        self._present[slot, peer] = present_E
        self._vectors[slot, peer, present_E] = rows
        return True

    def arrived(self, tick: int) -> int:
        """Bit k is set if the packet of peer k for this very tick is here."""
        held = self._ticks[tick % self._ring]
        return sum(1 << peer for peer, at in enumerate(held) if at == tick)

    def present(self, tick: int) -> BoolArray:
        """[K, E] which copies have a vector of this tick, or of one not too long before."""
        found_KE = np.zeros(self._present.shape[1:], dtype=np.bool_)
        for age in range(self._max_age):
            found_KE |= self._of((tick - age) % ticks.MODULUS)
        return found_KE

    def vectors(self, tick: int) -> FloatArray:
        """[K, E, V] the newest of these, meaningful where `present` is set."""
        if self._max_age == 1:
            return self._vectors[tick % self._ring]
        newest_KEV = np.zeros(self._vectors.shape[1:], dtype=np.float32)
        for age in reversed(range(self._max_age)):
            at = (tick - age) % ticks.MODULUS
            there_KE = self._of(at)
            if there_KE.any():
                newest_KEV[there_KE] = self._vectors[at % self._ring][there_KE]
        return newest_KEV

    def tokens(self, tick: int, own_EV: FloatArray) -> FloatArray:
        """[E, 1 + K, V] the same behind the own vector."""
        return np.concatenate((own_EV[:, None], self.vectors(tick).transpose(1, 0, 2)), axis=1)

    def _of(self, tick: int) -> BoolArray:
        """[K, E] copies with a packet of exactly this tick, if their episode had begun by then."""
        slot = tick % self._ring
        here_K = np.array([at == tick for at in self._ticks[slot]])
        begun_E = np.array(
            [first is None or ticks.ahead(tick, first) >= 0 for first in self._begun_E]
        )
        return self._present[slot] & here_K[:, None] & begun_E
