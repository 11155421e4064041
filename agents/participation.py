"""Which copies of a step an agent takes part in, by the flags of an observation.

flags [E] -> Participants.of -> Participation
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from runtime.net import wire

MOST_REMEMBERED = 256
"""Patterns of which an agent remembers what they stand for: with few copies they recur."""


@dataclass(frozen=True, slots=True, eq=False)
class Participation:
    """What an agent does in each of E copies."""

    alive_E: BoolArray
    num_alive: int
    living: tuple[int, ...]
    """Copies in which it is alive, in order."""
    active_E: BoolArray
    """Takes part: is alive, or relays after its death."""
    all_active: bool
    any_active: bool
    rests_E: BoolArray
    """Nothing happens there: its episode is over, and no other has begun."""
    explores_E: BoolArray
    any_explores: bool
    is_last: bool
    """A rollout of fixed length ends with this step."""


class Participants:
    """Reads flags, and remembers those that it has seen."""

    def __init__(self, copies: int, *, relays: bool) -> None:
        """
        Args:
            relays: the dead go on taking part until their episode ends.
        """
        self._copies = copies
        self._relays = relays
        self._known: dict[bytes, Participation] = {}

    def of(self, flags: NDArray[np.uint8]) -> Participation | None:
        """Who takes part by these flags; None if there are not as many as copies."""
        key = flags.tobytes()
        participation = self._known.get(key)
        if participation is None:
            if len(flags) != self._copies:
                return None
            participation = self._read(flags)
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = participation
        return participation

    def _read(self, flags: NDArray[np.uint8]) -> Participation:
        alive_E = (flags & wire.ALIVE) != 0
        explores_E = (flags & wire.EXPLORE) != 0
        rests_E = (flags & wire.REST) != 0
        active_E = ~rests_E if self._relays else alive_E
        return Participation(
            alive_E=alive_E,
            num_alive=int(alive_E.sum()),
            living=tuple(np.flatnonzero(alive_E).tolist()),
            active_E=active_E,
            all_active=bool(active_E.all()),
            any_active=bool(active_E.any()),
            rests_E=rests_E,
            explores_E=explores_E,
            any_explores=bool(explores_E.any()),
            is_last=bool((flags & wire.LAST).any()),
        )
