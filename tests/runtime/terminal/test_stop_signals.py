"""Which signals end a command, and which it leaves alone."""

import os
import signal
import subprocess
import sys
from types import FrameType

import pytest

from runtime.terminal import stop_signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGXCPU"])
def test_a_signal_that_would_end_the_process_is_handled_and_then_as_before(name: str) -> None:
    number, seen = signal.Signals[name], list[int]()
    before = signal.getsignal(number)

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        seen.append(number)

    with stop_signals.handled_by(note):
        os.kill(os.getpid(), number)
    assert seen == [number]
    assert signal.getsignal(number) == before


def test_within_another_handler_the_innermost_counts() -> None:
    seen: list[str] = []

    def outer(number: int, frame: FrameType | None) -> None:
        seen.append("outer")

    def inner(number: int, frame: FrameType | None) -> None:
        seen.append("inner")

    with stop_signals.handled_by(outer):
        with stop_signals.handled_by(inner):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    assert seen == ["inner", "outer"]


def test_a_hangup_that_is_inherited_as_ignored_stays_ignored() -> None:
    program = (
        "import os, signal; from runtime.terminal import stop_signals\n"
        "with stop_signals.handled_by(lambda number, _: print(signal.Signals(number).name)):\n"
        "    os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGTERM)"
    )
    command = ["nohup", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["SIGTERM"]
