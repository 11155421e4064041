"""When a deployed agent ticks: at the multiples of 1 / rate on the wall clock.

    tick = floor(unix time × rate)

Hosts whose clocks agree to within a tick (NTP) number the same moment alike without a word.
"""

from dataclasses import dataclass

from runtime.net import ticks

_SET_BACK_S = 1.0
"""A clock that lags behind its own past by more than this was put back, not slewed."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick that has come."""

    number: int
    """Modulo 2^32, as on the wire."""
    missed: int
    """Ticks that went by unseen since the last one."""
    was_put_back: bool
    """The clock shows less than before: numbers begin anew."""


class TickClock:
    """Counts the ticks of a wall clock; readings come in as arguments."""

    def __init__(self, rate_hz: float, wall_s: float) -> None:
        """Start counting; the first tick is the next one."""
        self._rate_hz = rate_hz
        self._last = self._at(wall_s)

    def seconds_left(self, wall_s: float) -> float:
        """Until the next tick; 0.0 if it is due."""
        return max((self._last + 1) / self._rate_hz - wall_s, 0.0)

    def take(self, wall_s: float) -> Tick | None:
        """The newest tick that is due, if one is."""
        now = self._at(wall_s)
        was_put_back = now < self._last - _SET_BACK_S * self._rate_hz
        if now <= self._last and not was_put_back:
            return None
        missed = 0 if was_put_back else now - self._last - 1
        self._last = now
        return Tick(now % ticks.MODULUS, missed, was_put_back)

    def _at(self, wall_s: float) -> int:
        # A poll that ends a hair early must not wait for a whole tick more.
        return int(wall_s * self._rate_hz + 1e-6)
