"""A command ends with the process that has started it, and hears the signals that are for it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.terminal.with_parent import python_with_us
from tests.process.runs import wait_for

pytestmark = pytest.mark.process

WAITS = (
    "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "print(flush=True); time.sleep(60)"
)


def test_a_command_gets_its_signal_when_its_parent_is_killed() -> None:
    parent = (
        "import signal, subprocess, time; from runtime.terminal.with_parent import python_with_us;"
        f"words = python_with_us(signal.SIGINT, ['-c', {WAITS!r}]);"
        "child = subprocess.Popen(words, stdout=subprocess.PIPE);"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    wait_for("the end of the child", lambda: not Path(f"/proc/{child}/cmdline").exists(), 20.0)


def test_a_signal_that_its_parent_has_blocked_is_heard() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process = subprocess.Popen(
            python_with_us(signal.SIGTERM, ["-c", WAITS]), stdout=subprocess.PIPE
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20.0) == -signal.SIGINT
