"""Steps that must go on, whatever goes wrong in one of them.

An exception that leaves a callback is logged by the event loop and forgotten, and one that leaves a
task ends the task in silence. Either would lose what else there was to do: a death nobody hears of,
a restart that never comes. So every callback and every step of a turn is an attempt: what is wrong
with it is said, and it is tried again in the next turn. A fault that lasts is no accident, and ends
the process.
"""

import logging
from collections.abc import Callable
from typing import ParamSpec

logger = logging.getLogger(__name__)

LASTING_S = 30.0
_SAY_PERIOD_S = 5.0

_P = ParamSpec("_P")


class Faults:
    """Exceptions in the steps of one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count_at_turn = 0
        self._since_s: float | None = None
        self._say_at_s = float("-inf")
        self._last = ""
        self.count = 0

    def attempt(self, step: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Call `step`; an exception is counted and said, and the caller goes on."""
        try:
            step(*args, **kwargs)
        except Exception as error:
            self.count += 1
            self._last = f"{type(error).__name__}: {error}"
            now_s = self._clock()
            if now_s >= self._say_at_s:
                self._say_at_s = now_s + _SAY_PERIOD_S
                logger.exception("a step has failed, number %d", self.count)

    def end_turn(self) -> str | None:
        """Once per turn: what has gone wrong in every turn for LASTING_S, if anything has."""
        now_s = self._clock()
        if self.count == self._count_at_turn:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        self._count_at_turn = self.count
        is_lasting = self._since_s is not None and now_s - self._since_s >= LASTING_S
        return self._last if is_lasting else None
