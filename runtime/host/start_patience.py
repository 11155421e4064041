"""How long a start may take: as long as somebody keeps coming, and not for ever.

    agents that have started or are up, time -> StartPatience -> over or not, how fast they came

A thousand agents take half a minute on a quiet machine and several minutes on a busy one. While
they come, waiting is right; when nobody comes any more, something is wrong.
"""

LONGEST = 5.0
"""A start may take so many times its patience in all, however steadily it crawls."""


class StartPatience:
    """Counts from the last progress."""

    def __init__(self, patience_s: float, begun_s: float) -> None:
        """A start begins.

        Args:
            patience_s: without progress.
            begun_s: clock reading.
        """
        self._patience_s = patience_s
        self._begun_s = self._moved_s = begun_s
        self._progress: int | None = None
        """None before the first look, which is no progress."""

    def look(self, progress: int, now_s: float) -> None:
        """Take note of a count that grows as the start goes on."""
        if self._progress is None:
            self._progress = progress
        elif progress > self._progress:
            self._progress, self._moved_s = progress, now_s

    def forgive(self, now_s: float) -> None:
        """We could not look until now: a standstill so far proves nothing."""
        self._moved_s = now_s

    def is_over(self, now_s: float) -> bool:
        return (
            now_s - self._moved_s >= self._patience_s
            or now_s - self._begun_s >= LONGEST * self._patience_s
        )

    def words(self, started: int, now_s: float) -> str:
        """How it went, for a message.

        Args:
            started: agents that have started by now.
        """
        stood_s, came_s = now_s - self._moved_s, self._moved_s - self._begun_s
        if not started:
            return f"none has started in {now_s - self._begun_s:.0f} s"
        rate = f"{started / max(came_s, 0.1):.2g} a second started in the first {came_s:.0f} s"
        if stood_s >= self._patience_s:
            return f"{rate}, and none has moved on for {stood_s:.0f} s"
        return f"{rate}, which is too slow"
