"""A terminal for tests: what a person would see of a program that redraws its output.

    command -> pseudo-terminal -> Screen -> rows of text

It knows the control sequences that rich writes to a terminal without colours, and refuses others.
"""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import IO

ROWS, COLUMNS = 50, 150

_SEQUENCE = re.compile(r"\x1b\[(\??)(\d*)([A-Za-z])")


class Screen:
    """Rows of a terminal that is tall enough never to scroll."""

    def __init__(self) -> None:
        self._rows = [[" "] * COLUMNS for _ in range(20 * ROWS)]
        self._row = self._column = 0

    @property
    def rows(self) -> list[str]:
        """From the top to the last that has text."""
        text = "\n".join("".join(row).rstrip() for row in self._rows)
        return text.rstrip("\n").split("\n")

    def write(self, text: str) -> None:
        at = 0
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            if found is not None:
                self._obey(*found.groups())
                at = found.end()
                continue
            self._put(text[at])
            at += 1

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self._column = 0
        elif letter == "\n":
            self._row += 1
        else:
            assert letter.isprintable(), f"{letter!r} is not known here"
            if self._column == COLUMNS:
                self._row, self._column = self._row + 1, 0
            self._rows[self._row][self._column] = letter
            self._column += 1

    def _obey(self, private: str, number: str, what: str) -> None:
        match private, what:
            case "", "A":
                self._row -= int(number or 1)
            case "", "K" if number == "2":
                self._rows[self._row] = [" "] * COLUMNS
            case ("", "m") | ("?", "h" | "l"):  # colours, the cursor's visibility
                pass
            case _:
                raise AssertionError(f"sequence {private}{number}{what} is not known here")


def run_in_terminal(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    stderr: IO[bytes] | None = None,
) -> tuple[int, list[str]]:
    """Run a command to its end; exit code, and the rows of its terminal.

    Args:
        stderr: a file for it (`2> file`); by default it goes to the terminal as well.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if stderr is None else stderr,
    )
    os.close(theirs)
    received = b""
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                received += os.read(ours, 1 << 16)
            except OSError:  # Linux: nobody has the other end any longer
                break
        code = process.wait(max(deadline - time.monotonic(), 1.0))
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    screen = Screen()
    screen.write(received.decode())
    return code, screen.rows
