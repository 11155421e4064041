"""One of our commands as a process of its own, which ends when we ask it to, or when we end.

Any signal that asks for the end (runtime/terminal/stop_signals.py) and the end of the minutes let a
child write its checkpoint; a second signal, or a minute and a half, does not wait for it.
"""

import math
import os
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.terminal import stop_signals
from runtime.terminal.with_parent import python_with_us

LEAVE_S = 90.0
"""Seconds that a child has for its checkpoint before it is killed."""
LOST = -1000
"""In place of an exit code: the machine is gone on which a command ran."""


class Stop:
    """A signal that asks for the end or the end of the time, whichever comes first."""

    def __init__(self, minutes: float = 0.0) -> None:
        self.signals = 0
        self._until_s = time.monotonic() + 60.0 * minutes if minutes else math.inf

    @contextmanager
    def installed(self) -> Generator[None]:
        """Within, signals are counted."""
        with stop_signals.handled_by(self._count):
            yield

    def _count(self, *_: object) -> None:
        self.signals += 1

    @property
    def is_due(self) -> bool:
        return self.signals > 0 or time.monotonic() >= self._until_s


class Child:
    """A process that has been started."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._asked_s = math.inf
        self._signals = 0

    @property
    def session(self) -> int:
        """Id of the session of it and of all that it starts."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, once it has one."""
        return self._process.poll()

    def leave(self, stop: Stop) -> None:
        """Ask it once to end, and kill it when it is late or we are asked again."""
        if self.poll() is not None:
            return
        now_s = time.monotonic()
        if math.isinf(self._asked_s):
            self._asked_s, self._signals = now_s, stop.signals
            self._process.send_signal(signal.SIGINT)
        elif now_s >= self._asked_s + LEAVE_S or stop.signals > max(self._signals, 1):
            os.killpg(self._process.pid, signal.SIGKILL)


def start(
    module: str,
    arguments: Sequence[str],
    lock: int | None,
    output: Path,
    figures: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Run `python -m module`.

    Args:
        lock: descriptor to be inherited: the cell is taken until the child is gone, too. None:
            another process holds it.
        output: file to which it appends what it prints.
        figures: file for its stdout instead.
        environment: variables beside ours.
    """
    with output.open("ab") as complaints, (figures or output).open("ab") as printed:
        if figures is not None:
            printed.truncate(0)
        process = subprocess.Popen(
            # Should this process be killed, its child gets a Ctrl-C.
            python_with_us(signal.SIGINT, ["-m", module, *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=complaints,
            pass_fds=() if lock is None else (lock,),
            env={**os.environ, **(environment or {})},
            # A terminal's Ctrl-C is for us alone, who pass it on once.
            start_new_session=True,
        )
    return Child(process)
