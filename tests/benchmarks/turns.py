"""Whose turn it is: loops that play a block of ticks, stand still at a tick's border, and go on.

    Referee ── play so many seconds ──▶ InTurn (in the process that begins the ticks)
            ◀── ticks, seconds ────────

Machines are shared, and differ by a factor between minutes. Two loops that alternate block by block
meet the same machine, so that the ratio of neighbouring blocks means something.

Ray's interpreter imports this too: standard library only.
"""

import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, Protocol

LEAST_TICKS = 2
"""Of a turn, however long they take."""


@dataclass(frozen=True, slots=True)
class Played:
    """What a loop did in its turn."""

    ticks: int
    wall_s: float


class Turns(Protocol):
    """Asked before every tick."""

    @property
    def total(self) -> Played:
        """Everything that was played."""
        ...

    def may_tick(self) -> bool:
        """Whether another tick begins; waits for its turn. False: it is over."""
        ...


class Alone:
    """One turn, without anybody beside."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ticks = 0
        self._begun_s = self._elapsed_s = 0.0

    @property
    def total(self) -> Played:
        return Played(self._ticks, self._elapsed_s)

    def may_tick(self) -> bool:
        now_s = time.monotonic()
        if not self._ticks:
            self._begun_s = now_s
        self._elapsed_s = now_s - self._begun_s
        if self._elapsed_s >= self._seconds and self._ticks >= LEAST_TICKS:
            return False
        self._ticks += 1
        return True


class InTurn:
    """Blocks of ticks, each when the referee says so."""

    def __init__(self, path: str) -> None:
        """Take part; `path` is the referee's socket."""
        self._line = Line.to(path)
        self._is_playing = self._is_over = False
        self._play_s, self._least = 0.0, LEAST_TICKS
        self._ticks = 0
        self._begun_s = 0.0
        self._total_ticks, self._total_s = 0, 0.0

    @property
    def total(self) -> Played:
        return Played(self._total_ticks, self._total_s)

    def may_tick(self) -> bool:
        if self._is_over:
            return False
        elapsed_s = time.monotonic() - self._begun_s
        if not self._is_playing or (elapsed_s >= self._play_s and self._ticks >= self._least):
            if self._is_playing:
                self._total_ticks += self._ticks
                self._total_s += elapsed_s
                self._line.say({"ticks": self._ticks, "wall_s": elapsed_s})
            said = self._line.hear()
            self._is_playing = said is not None
            if said is None:
                self._is_over = True
                self._line.close()
                return False
            self._play_s, self._least = said["play_s"], said["least_ticks"]
            self._ticks, self._begun_s = 0, time.monotonic()
        self._ticks += 1
        return True


def turns_of(seconds: float, path: str) -> Turns:
    """In turn with others where there is a referee, alone otherwise."""
    return InTurn(path) if path else Alone(seconds)


class Line:
    """JSON, line by line, over a Unix socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")

    @classmethod
    def to(cls, path: str) -> "Line":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return cls(connection)

    def fileno(self) -> int:
        return self._connection.fileno()

    def say(self, content: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(content).encode() + b"\n")

    def hear(self) -> dict[str, Any] | None:
        """What the other end says next; None if it has gone."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


class Door:
    """Where the referee awaits one process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._listener.settimeout(0.2)

    def try_accept(self) -> Line | None:
        """Whoever knocks within a moment."""
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return None
        connection.settimeout(None)
        return Line(connection)

    def close(self) -> None:
        self._listener.close()
        os.unlink(self.path)
