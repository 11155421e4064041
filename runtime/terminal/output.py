"""stdout and stderr that a process can do without.

A full disk, /dev/full or a terminal that has gone costs the lines that it does not take, and never
the run. A reader of stdout that has gone (`… | head -3`) ends the process as Ctrl-C does. What an
encoding cannot say, such as the dash for "nothing" in ASCII, is written as what resembles it.
"""

import codecs
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any, TextIO

_ERRORS = "murmuration.resembling"
_RESEMBLING = {"–": "-", "—": "-", "…": "...", "×": "x", "−": "-", "→": "->"}


class _Descriptor(io.FileIO):
    """Takes whatever is written; what the kernel refuses is lost."""

    def __init__(self, descriptor: int, *, ends_with_reader: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._ends_with_reader = ends_with_reader
        self._is_torn = False
        """Whether the line that was written last lacks its end."""
        self.reader_has_gone = False

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        if self.reader_has_gone:
            return len(content)
        rest = memoryview(b"\n" + content.tobytes()) if self._is_torn else content
        try:
            while rest:
                taken = super().write(rest)
                if not taken:  # a pipe that is full, and must not be waited for
                    break
                rest = rest[taken:]
                self._is_torn = True
        except BrokenPipeError:
            self.reader_has_gone = True
            if self._ends_with_reader:
                signal.raise_signal(signal.SIGINT)
        except OSError:
            pass
        if not rest:
            self._is_torn = False
        return len(content)


def install(*, ends_with_reader: bool) -> None:
    """Have sys.stdout and sys.stderr lose what cannot be written; once, at the very start.

    Args:
        ends_with_reader: send this process a SIGINT when nobody reads its stdout any longer.
    """
    codecs.register_error(_ERRORS, _resembling)
    _occupy_closed_descriptors()
    sys.stdout = _tolerant(sys.stdout, 1, ends_with_reader=ends_with_reader)
    sys.stderr = _tolerant(sys.stderr, 2, ends_with_reader=False)


def reader_has_gone() -> bool:
    """Whether stdout was a pipe of `install`, and nobody reads it any longer."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Descriptor) and raw.reader_has_gone


def _occupy_closed_descriptors() -> None:
    """A file that took the number of a closed stdout would get what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _tolerant(stream: TextIO | None, descriptor: int, *, ends_with_reader: bool) -> TextIO:
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    raw = _Descriptor(descriptor, ends_with_reader=ends_with_reader)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stream is None else stream.encoding,
        errors=_ERRORS,
        line_buffering=descriptor == 2 or raw.isatty(),
    )


def _resembling(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    return "".join(_RESEMBLING.get(letter, "?") for letter in letters), error.end
