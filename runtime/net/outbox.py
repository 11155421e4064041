"""What has been sent and is not known to be safe: kept, and sent again, until it is acknowledged.

    put(episode, frame)  ->  Outbox  ->  due(now_s): frames to send, the oldest episode first
    acknowledge(episode) ->          ->  forgotten

A connection loses nothing while it stands, so a frame is due at once when its connection has been
lost, and otherwise only after a long wait that doubles each time: a learner that is deep in an
update answers no sooner for being asked twice. Memory is bounded: the oldest leave first, and are
counted.

No socket and no clock here: runtime/net/delivery.py is the shell.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_AT_ONCE = float("-inf")


@dataclass(slots=True)
class _Entry:
    frame: bytes
    due_s: float
    """Clock reading from which it is to be sent (again)."""
    wait_s: float
    """Seconds that the next sending grants before it is due once more."""


class Outbox:
    """Frames by the episode that they are about, one for each.

    Args:
        most_frames: held at most.
        most_bytes: held at most, in frames; the newest frame is held whatever its size.
        resend_s: seconds until a frame that was sent is due again; they double each time.
        resend_most_s: where the doubling ends.
    """

    def __init__(
        self,
        *,
        most_frames: int,
        most_bytes: int,
        resend_s: float = 10.0,
        resend_most_s: float = 60.0,
    ) -> None:
        self.size_bytes = 0
        """Bytes of all frames held."""
        self.dropped = 0
        """Frames given up, never acknowledged, because newer ones needed their place."""
        self._most_frames = most_frames
        self._most_bytes = most_bytes
        self._resend_s = resend_s
        self._resend_most_s = resend_most_s
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        """Frames held."""
        return len(self._entries)

    def put(self, episode: int, frame: bytes) -> int:
        """Hold a frame, due at once; returns how many older ones had to go for it."""
        self.acknowledge(episode)  # the newest word about an episode is the one that counts
        self._entries[episode] = _Entry(frame, _AT_ONCE, self._resend_s)
        self.size_bytes += len(frame)
        before = self.dropped
        while len(self._entries) > 1 and (
            len(self._entries) > self._most_frames or self.size_bytes > self._most_bytes
        ):
            self.acknowledge(next(iter(self._entries)))
            self.dropped += 1
        return self.dropped - before

    def due(self, now_s: float) -> Iterator[tuple[int, bytes]]:
        """Episodes and frames to send now, in the order in which they were put.

        Say `sent` of each before asking for the next; whoever stops asking has them due still.
        """
        for episode, entry in self._entries.items():
            if entry.due_s <= now_s:
                yield episode, entry.frame

    def sent(self, episode: int, now_s: float) -> None:
        """A frame has been handed to a connection that stands."""
        entry = self._entries[episode]
        entry.due_s = now_s + entry.wait_s
        entry.wait_s = min(2.0 * entry.wait_s, self._resend_most_s)

    def connection_lost(self) -> None:
        """Nobody knows what of it has arrived: everything is due."""
        for entry in self._entries.values():
            entry.due_s, entry.wait_s = _AT_ONCE, self._resend_s

    def acknowledge(self, episode: int) -> None:
        """Forget an episode; one that is not held is no mistake (acknowledged twice)."""
        entry = self._entries.pop(episode, None)
        if entry is not None:
            self.size_bytes -= len(entry.frame)
