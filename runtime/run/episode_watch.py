"""A watch over training episodes that come to nothing: the world plays, and nothing is learnt.

    episodes played, episodes the learner has joined, updates it owes  ->  look  ->  a line, or None

An episode can be used if every agent has taken part in it. Where one does not, and nobody has said
that it is gone, a run would otherwise go on to its end without an update.
"""

PATIENCE_S = 30.0
_SAY_PERIOD_S = 60.0
_ENOUGH = 4
"""Episodes that must have been wasted: single ones are lost with each agent that dies."""


class EpisodeWatch:
    """Compares what is played with what is learnt from."""

    def __init__(self) -> None:
        self._joined = self._played = self._dropped = -1
        self._since_s = 0.0
        self._say_at_s = float("-inf")

    def look(
        self, now_s: float, *, played: int, joined: int, dropped: int, owed: float
    ) -> str | None:
        """Say so when nothing that was played for half a minute could be used, once a minute.

        Args:
            played: training episodes that have ended.
            joined: those that the learner has taken in.
            dropped: those of which it could make nothing.
            owed: updates that it has still to do; while it is busy it takes nothing in.
        """
        if joined != self._joined:
            self._joined, self._played, self._dropped = joined, played, dropped
        wasted = played - self._played
        is_busy = owed >= 1.0 and dropped == self._dropped
        if wasted < _ENOUGH or is_busy:
            self._since_s = now_s
            return None
        if now_s - self._since_s < PATIENCE_S or now_s < self._say_at_s:
            return None
        self._say_at_s = now_s + _SAY_PERIOD_S
        return (
            f"nothing is learnt: none of the last {wasted} training episodes could be used "
            f"({dropped - self._dropped} dropped by the learner so far); an agent may be missing "
            "that counts as up: see the logs of the node and of the learner"
        )
