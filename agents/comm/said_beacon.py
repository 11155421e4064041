"""What an agent has said of itself: its beacon goes out when it is news.

    z of this step -> take -> due (is it a step of the beacon_period? has an entry moved by more
    than beacon_delta? must it be said again?) -> rows of the copies in which it goes out

Neighbours score with what was said last, and `learner.comm.beacons` unrolls the same rule. The
other side is agents/comm/peer_beacons.py.

Dimension key: E = copies, Z = beacon.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import PolicySpec
from agents.rounding import beacon_from_wire, beacon_to_wire
from configs.arrays import BoolArray, FloatArray
from configs.schema import BeaconDtype
from runtime.net import ticks

REPEAT_TICKS = 4
"""In real time, ticks after which a beacon that has not changed is said again: who has come late
or lost one hears it then. A neighbour that has missed two of them counts as gone."""


class SaidBeacon:
    """An agent's beacon in E copies: as it is, and as neighbours know it."""

    def __init__(
        self, spec: PolicySpec, copies: int, *, repeat_ticks: int, says_who: bool = False
    ) -> None:
        """Nothing is said yet.

        Args:
            repeat_ticks: ticks after which everything is said again; 0 is never.
            says_who: a packet lists all copies in which the agent takes part, as its neighbours'
                PeerBeacons expect.
        """
        self._dtype: BeaconDtype = spec.beacon_dtype
        self._delta = np.float32(spec.beacon_delta)
        self._period = spec.beacon_period
        self._repeat_ticks = repeat_ticks
        self._says_who = says_who
        self.values: FloatArray = np.zeros((copies, spec.beacon), dtype=np.float32)
        """[E, Z] of this step, as it would cross the wire."""
        self._rows: NDArray[Any] = beacon_to_wire(self.values, self._dtype)
        self._said_EZ, self._said_rows = self.values, self._rows
        self._unsaid_E: BoolArray = np.ones(copies, dtype=np.bool_)
        """Where somebody may know nothing of us."""
        self._nothing_unsaid = False
        self._listed_E: BoolArray = np.zeros(copies, dtype=np.bool_)
        """Where we take part, by what was said last."""
        self._said_at: int | None = None

    @property
    def said_EZ(self) -> FloatArray:
        """[E, Z] as neighbours know it."""
        return self._said_EZ

    def begin(self, first_E: BoolArray) -> None:
        """Begin episodes in these copies: everybody knows a beacon of zeros."""
        self._said_EZ, self._said_rows = self._said_EZ.copy(), self._said_rows.copy()
        self._said_EZ[first_E] = 0.0
        self._said_rows[first_E] = 0
        if self._says_who:
            self._unsaid_E |= first_E  # who is not in step needs to hear that we are there
        else:
            self._unsaid_E &= ~first_E
        self._nothing_unsaid = not self._unsaid_E.any()

    def take(self, z_EZ: FloatArray) -> None:
        """A step has a new beacon."""
        self._rows = beacon_to_wire(z_EZ, self._dtype)
        self.values = beacon_from_wire(self._rows)

    def repeat(self) -> None:
        """Say everything with the next step, whatever has been said."""
        self._unsaid_E[:] = True
        self._nothing_unsaid = False

    def renumber(self) -> None:
        self._said_at = None

    def due(
        self, tick: int, active_E: BoolArray, steps_E: NDArray[np.integer[Any]]
    ) -> tuple[BoolArray, NDArray[Any]] | None:
        """[E] copies in which a beacon goes out at this tick, and its rows; None: no packet does.

        Args:
            active_E: copies in which the agent takes part.
            steps_E: of the copies' episodes.
        """
        if (
            self._nothing_unsaid
            and not self._repeat_ticks
            and not self._says_who
            and self._rows.tobytes() == self._said_rows.tobytes()
        ):
            return None  # what was said is what there is to say
        change_EZ = self.values - self._said_EZ
        np.abs(change_EZ, change_EZ)
        news_E = np.maximum.reduce(change_EZ, axis=1) > self._delta
        if self._period > 1 and self._said_at is not None:  # who is new waits for no step
            news_E &= steps_E % self._period == 0
        num_news = np.count_nonzero(news_E)
        if num_news == len(news_E):
            self._said_EZ, self._said_rows = self.values, self._rows
        elif num_news:
            self._said_EZ = np.where(news_E[:, None], self.values, self._said_EZ)
            self._said_rows = np.where(news_E[:, None], self._rows, self._said_rows)
        news_E |= self._unsaid_E
        if self._must_repeat(tick):
            news_E[:] = True
        news_E &= active_E
        if self._says_who and (news_E.any() or not np.array_equal(active_E, self._listed_E)):
            self._listed_E = news_E = active_E
        elif not np.count_nonzero(news_E):
            return None
        self._said_at = tick
        self._unsaid_E &= ~news_E
        self._nothing_unsaid = not self._unsaid_E.any()
        return news_E, self._said_rows if news_E.all() else self._said_rows[news_E]

    def _must_repeat(self, tick: int) -> bool:
        if not self._repeat_ticks:
            return False
        return self._said_at is None or ticks.ahead(tick, self._said_at) >= self._repeat_ticks
