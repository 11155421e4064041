"""A command that a study has started ends when it is asked to, or is killed."""

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

import pytest

from learner.studies import child
from learner.studies.child import Child, Stop

DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
# Python leaves a Ctrl-C alone that was ignored when it began, as it is in a background job.
LISTENS = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
SLEEPS = "print(flush=True); time.sleep(60)"


@contextmanager
def process_of(program: str) -> Generator["subprocess.Popen[bytes]"]:
    """A process, in a group of its own, that has come to its print."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def asked(process: "subprocess.Popen[bytes]", stop: Stop) -> Child:
    found = Child(process)
    found.leave(stop)
    return found


def test_a_child_is_asked_to_end_and_does_so() -> None:
    stop = Stop()
    stop.signals = 1
    with process_of(LISTENS + SLEEPS) as process:
        asked(process, stop)
        assert process.wait(30.0) == -signal.SIGINT


def test_a_child_that_does_not_leave_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    with process_of(DEAF + SLEEPS) as process:
        each = asked(process, stop)
        each.leave(stop)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        monkeypatch.setattr(child, "LEAVE_S", 0.0)
        each.leave(stop)
        assert process.wait(30.0) == -signal.SIGKILL


def test_a_second_ctrl_c_does_not_wait_for_the_checkpoint() -> None:
    stop = Stop()
    stop.signals = 1
    with process_of(DEAF + SLEEPS) as process:
        each = asked(process, stop)
        stop.signals = 2
        each.leave(stop)
        assert process.wait(30.0) == -signal.SIGKILL


def test_a_child_that_has_gone_is_neither_asked_nor_killed() -> None:
    stop = Stop()
    stop.signals = 3
    with process_of(LISTENS + "print(flush=True)") as process:
        process.wait(30.0)
        each = asked(process, stop)
        with suppress(ProcessLookupError):  # which a kill of nobody would raise
            each.leave(stop)
        assert each.poll() == 0


def test_the_end_of_the_minutes_asks_as_a_signal_does() -> None:
    assert not Stop(1.0).is_due
    assert Stop(1e-9).is_due
