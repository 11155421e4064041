"""What every command does around its work.

    guard() -> the heavy imports -> run_command(main) -> exit code

A module that is a command calls `guard` at its very top, if it is `__main__`, and `run_command` at
its end. The script `murmuration` does so for its subcommands (runtime/command_line.py).

Any signal that asks for the end ends a command with one line and 130
(runtime/terminal/stop_signals.py), and output that cannot be written does not end it
(runtime/terminal/output.py).
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from runtime.terminal import output, stop_signals

INTERRUPTED = 130
"""Exit code of a command that was told to end."""


def guard() -> None:
    """Until `run_command`, a Ctrl-C ends the process at once and without a traceback.

    Nothing has been started or made by then. Nor does SIGTERM wait if we are a container's first
    process, to which the kernel gives no signal that it does not handle.
    """
    signal.signal(signal.SIGINT, _leave)
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _leave)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Call a command's `main` and end the process with its exit code.

    Within `main` every signal that asks for the end is a KeyboardInterrupt, unless `main` deals
    with it.
    """
    output.install(ends_with_reader=True)
    numbers = stop_signals.heeded()
    try:
        with stop_signals.handled_by(_interrupt):
            code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
        if not output.reader_has_gone():
            print("interrupted", file=sys.stderr)
    finally:
        # All is said and written: what comes now comes too late.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
