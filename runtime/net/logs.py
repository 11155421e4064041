"""Where log lines go: a file per process, and WARNING and worse to the console.

    logger.info -> runs/<id>/logs/<role>-<identity>.log
    logger.warning -> the same, and stderr (agents: the file only, a hundred of them would shout)

A file comes into being with its first line. What cannot be opened or written costs the lines that
it does not take, which are counted; the caller never hears of it. The file is tried again for
every line.
Numbers are metrics, not log lines: runtime/record/run_log.py.
"""

import contextlib
import logging
import sys
from contextlib import suppress
from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _ConsoleHandler(logging.Handler):
    """Writes to whatever sys.stderr is at the moment: the live view redirects it while it draws.

    A line that cannot be written is lost, and the process goes on.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            print(self.format(record), file=sys.stderr)


class _FileHandler(logging.FileHandler):
    """Does without the lines that cannot be written; the standard one shouts for each of them, and
    raises where its file cannot be opened.
    """

    lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)  # opens the file with the first line, outside of its own guard
        except OSError:
            self.lost += 1

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exception(), OSError):
            self.lost += 1
        else:
            super().handleError(record)


def lines_lost() -> int:
    """Lines of this process's log file that could not be written."""
    handlers = logging.getLogger().handlers
    return sum(handler.lost for handler in handlers if isinstance(handler, _FileHandler))


def setup_logging(role: str, identity: int, directory: Path) -> None:
    """Send this process's log lines where they belong; once per process, at its very start."""
    with contextlib.suppress(OSError):  # each line tries to open its file
        directory.mkdir(parents=True, exist_ok=True)
    file = _FileHandler(directory / f"{role}-{identity}.log", encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(file)
    if role != "agent":
        console = _ConsoleHandler(logging.WARNING)
        console.setFormatter(logging.Formatter(f"{role}-{identity}: %(levelname)s: %(message)s"))
        root.addHandler(console)
