"""What an agent knows of its out-neighbours: of each the beacon heard last.

    Beacon -> put (arrives, perhaps ahead of our step) -> settle (a step may use it) -> values

A neighbour says nothing while its beacon stays what it was (`network.beacon_delta`), so silence
means unchanged, and what was heard last holds until the episode ends. At an episode's first step
everybody knows of everybody a beacon of zeros.

Dimension key: E = copies, K = out-neighbours, Z = beacon.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.rounding import beacon_from_wire
from configs.arrays import BoolArray, FloatArray
from runtime.net import ticks

_NEVER = -1
_MOST_WAITING = 1024
"""Packets kept for the next step, so that no neighbour can fill our memory."""


class PeerBeacons:
    """The beacons of K neighbours in E copies, as of the step that is played."""

    def __init__(self, peers: int, copies: int, beacon: int, *, says_who: bool = False) -> None:
        """Know nothing: before its first episode begins, nobody can be judged.

        Args:
            says_who: a packet speaks for all copies, and its sender takes no part in those that it
                does not list. In real time nobody else could say so; in lock-step the world does,
                and a packet lists the copies that have news.
        """
        self._says_who = says_who
        self.values: FloatArray = np.zeros((copies, peers, beacon), dtype=np.float32)
        """[E, K, Z]"""
        self.known: BoolArray = np.zeros((copies, peers), dtype=np.bool_)
        """[E, K] whether anything is known of a neighbour."""
        self.all_known = False
        self._ticks_EK = np.full((copies, peers), _NEVER, dtype=np.int64)
        """Of the beacons that `values` holds."""
        self._newest = [_NEVER] * peers
        """By neighbour the tick of the packet that came last."""
        self._used = [_NEVER] * peers
        """And of the newest that a step has used."""
        self._arrivals = [(_NEVER, 0), (_NEVER, 0)]
        """By parity of ticks the newest tick and the bits of those who have sent it."""
        self._waiting: list[tuple[int, int, BoolArray, NDArray[Any]]] = []
        """Tick, neighbour, copies and rows of what no step has used yet."""
        self._in_order = True
        self._now: int | None = None
        self._begun: list[int | None] = [None] * copies
        self._latest_begin: int | None = None

    def advance(self, tick: int, first_E: BoolArray | None) -> None:
        """A step has come; where it is an episode's first, what was known is of another episode."""
        self._now = tick
        if first_E is None:
            return
        self.values[first_E] = 0.0
        self._ticks_EK[first_E] = _NEVER
        self.known[first_E] = True
        self.all_known = bool(self.known.all())
        for copy in np.flatnonzero(first_E).tolist():
            self._begun[copy] = tick
        self._latest_begin = tick

    def renumber(self) -> None:
        """Forget everything: the ticks that follow are numbered anew."""
        peers = len(self._newest)
        self.known[:] = False
        self.all_known = False
        self._ticks_EK[:] = _NEVER
        self._newest, self._used = [_NEVER] * peers, [_NEVER] * peers
        self._arrivals = [(_NEVER, 0), (_NEVER, 0)]
        self._waiting.clear()
        self._now = self._latest_begin = None
        self._begun = [None] * len(self._begun)

    def put(self, peer: int, tick: int, present_E: BoolArray, rows: NDArray[Any]) -> bool:
        """Keep a packet for the step that may use it; False if a newer one has come."""
        newest = self._newest[peer]
        overtaken = newest != _NEVER and ticks.ahead(tick, newest) <= 0
        # A peer whose clock was ahead, and has been put right, is believed again.
        if overtaken and (self._now is None or ticks.ahead(newest, self._now) <= 1):
            if not self._is_missing(peer, tick):
                return False
            self._in_order = False
        else:
            self._newest[peer] = tick
        if len(self._waiting) >= _MOST_WAITING:
            return False
        at, bits = self._arrivals[tick & 1]
        if at == tick:
            self._arrivals[tick & 1] = (tick, bits | 1 << peer)
        elif at == _NEVER or ticks.ahead(tick, at) > 0:
            self._arrivals[tick & 1] = (tick, 1 << peer)
        self._waiting.append((tick, peer, present_E, rows))
        return True

    def _is_missing(self, peer: int, tick: int) -> bool:
        """Whether a packet that was overtaken is still of use."""
        used = self._used[peer]
        return (used == _NEVER or ticks.ahead(tick, used) > 0) and all(
            (at, who) != (tick, peer) for at, who, _, _ in self._waiting
        )

    def arrived(self, tick: int) -> int:
        """Bit k is set if the packet of neighbour k for this tick is here."""
        at, bits = self._arrivals[tick & 1]
        return bits if at == tick else 0

    def settle(self, tick: int, lost_EK: BoolArray | None = None) -> int:
        """Take over what was sent until this tick, but for what link loss takes.

        Returns the number of vectors of this very tick that were lost.
        """
        if not self._in_order:
            self._waiting.sort(key=lambda packet: ticks.ahead(packet[0], tick))
            self._in_order = True
        lost = 0
        later: list[tuple[int, int, BoolArray, NDArray[Any]]] = []
        for packet in self._waiting:
            sent_at, peer, present_E, rows = packet
            if sent_at != tick and ticks.ahead(sent_at, tick) > 0:
                later.append(packet)
                continue
            self._used[peer] = sent_at
            taken_E = present_E
            if self._latest_begin is not None and ticks.ahead(sent_at, self._latest_begin) < 0:
                taken_E = taken_E & self._has_begun(sent_at)
            if lost_EK is not None:
                if sent_at == tick:
                    lost += int(np.count_nonzero(taken_E & lost_EK[:, peer]))
                taken_E = taken_E & ~lost_EK[:, peer]
            if taken_E is present_E and len(rows) == len(present_E):
                self.values[:, peer] = beacon_from_wire(rows)
                self._ticks_EK[:, peer] = sent_at
            else:
                values = beacon_from_wire(rows[taken_E[present_E]])
                self.values[taken_E, peer] = values
                self._ticks_EK[taken_E, peer] = sent_at
            if not self.all_known:
                self.known[taken_E, peer] = True
                self.all_known = bool(self.known.all())
            if self._says_who and len(rows) < len(present_E):
                self._ticks_EK[self._has_begun(sent_at) & ~present_E, peer] = _NEVER
        self._waiting = later
        return lost

    def heard_since(self, tick: int) -> BoolArray:
        """[E, K] whose beacon was sent at this tick or later, in the episode that is played."""
        half = ticks.MODULUS // 2
        behind_EK = (self._ticks_EK - tick + half) % ticks.MODULUS - half
        return (behind_EK >= 0) & (self._ticks_EK != _NEVER)

    def _has_begun(self, tick: int) -> BoolArray:
        """[E] copies whose episode had begun by then."""
        return np.array([begun is None or ticks.ahead(tick, begun) >= 0 for begun in self._begun])
