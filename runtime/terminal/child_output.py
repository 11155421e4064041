"""What children write to a terminal on which a live view draws.

    stdout and stderr of a child -> pipe -> ChildOutput.take_lines -> printed above the table

A line that goes past the view is painted over, and what is left of the old table stays on the
screen as ghost rows. So children that are started while a view draws get a pipe in the place of the
terminal. A stream that is no terminal (`2> errors.log`) stays what it is.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress

_STDOUT, _STDERR = 1, 2
_PIPE_BYTES = 1 << 20
_LONGEST_LINE = 1 << 14
"""Bytes; what has no end by then is shown in pieces."""


class ChildOutput:
    """The pipe in the place of the terminal, for processes started between `open` and `close`."""

    def __init__(self) -> None:
        self._reader = self._writer = -1
        self._rest = b""

    def open(self) -> None:
        """Begin; one at a time."""
        global _stand_in
        assert _stand_in is None, "two views on one terminal"
        self._reader, self._writer = os.pipe()
        # Nobody waits for the other: a launcher that is stopped must not stop its children.
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        with suppress(OSError):  # the limit for all pipes of a user; 64 KiB do as well
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        _stand_in = self._writer

    def take_lines(self, *, to_the_end: bool = False) -> list[str]:
        """Lines that have come since the last call, without control characters.

        Args:
            to_the_end: take a line without an end as well.
        """
        received = self._rest
        with suppress(BlockingIOError):
            # Not until the pipe is empty: a child that never stops must not keep the view.
            received += os.read(self._reader, _PIPE_BYTES)
        *lines, self._rest = received.split(b"\n")
        if self._rest and (to_the_end or len(self._rest) > _LONGEST_LINE):
            lines.append(self._rest)
            self._rest = b""
        return [_printable(line) for line in lines]

    def close(self) -> None:
        """End; what children write from now on is lost."""
        global _stand_in
        _stand_in = None
        os.close(self._reader)
        os.close(self._writer)


_stand_in: int | None = None
"""Descriptor that children write to; None while no view draws."""


@contextmanager
def beside_the_view() -> Generator[None]:
    """Within, a process that is started writes to the view's pipe instead of its terminal.

    The descriptors of this process are exchanged for that moment. What another thread writes
    meanwhile takes the same way and is not lost.

    Raises:
        OSError: no descriptor is left.
    """
    if _stand_in is None:
        yield
        return
    kept: dict[int, int] = {}
    try:
        for stream in (_STDOUT, _STDERR):
            if os.isatty(stream):
                kept[stream] = os.dup(stream)
        for stream in kept:
            os.dup2(_stand_in, stream)
        yield
    finally:
        for stream, terminal in kept.items():
            os.dup2(terminal, stream)
            os.close(terminal)


def _printable(line: bytes) -> str:
    """A line must not move the cursor: the view knows where it left it."""
    text = line.decode(errors="replace").rstrip("\r").expandtabs()
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
