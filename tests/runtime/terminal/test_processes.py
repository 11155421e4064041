"""Starting processes: nobody waits for a child that dies or stops before it has read its setup."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.net.inherited import Inherited
from runtime.terminal import processes

pytestmark = pytest.mark.process

LONG = 1 << 20
"""Bytes of a setup that no pipe takes at once."""

SIGNAL_AT_BIRTH = """
import os, signal, sys, threading
from multiprocessing import resource_tracker
from pathlib import Path
from runtime.terminal import processes
from tests.runtime.terminal.test_processes import count

def children():
    tasks = Path("/proc/self/task").iterdir()
    return {{pid for task in tasks for pid in (task / "children").read_text().split()}}

resource_tracker.ensure_running()
others = children()
def watch():
    while not (born := children() - others):
        pass
    os.kill(int(born.pop()), {number})
watcher = threading.Thread(target=watch)
watcher.start()
child = processes.spawn(count, bytes({size}), "child")
watcher.join()
print("started", flush=True)
if {number} == signal.SIGSTOP:
    child.kill()
child.join()
print(child.exitcode)
"""


def count(setup: bytes) -> None:
    """A child: ends with 0 if it has got all of its setup."""
    raise SystemExit(0 if len(setup) == LONG else 1)


@pytest.mark.parametrize(
    ("number", "ends_with"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGSTOP, -signal.SIGKILL),
        (signal.SIGINT, 0),
        (signal.SIGHUP, 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_child_that_gets_a_signal_at_birth_keeps_nobody_waiting(
    number: signal.Signals, ends_with: int
) -> None:
    """SIGKILL and SIGSTOP reach it; what a terminal sends to everybody is the command's matter."""
    program = SIGNAL_AT_BIRTH.format(number=int(number), size=LONG)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split() == ["started", str(ends_with)], done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_long_setup_arrives_whole_and_leaves_no_descriptor(method: str) -> None:
    context = multiprocessing.get_context(method)
    processes.start_process(context, count, bytes(LONG), "first").join()  # starts python's helpers
    before = set(os.listdir("/proc/self/fd"))
    child = processes.start_process(context, count, bytes(LONG), "child")
    child.join()
    assert child.exitcode == 0
    child.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def tell_signals(setup: Path) -> None:
    """A child: writes down which signals it ignores."""
    names = [n.name for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    setup.write_text(" ".join([*names, f"blocked={len(blocked)}"]))


def test_a_child_leaves_to_the_command_what_a_terminal_sends(tmp_path: Path) -> None:
    told = tmp_path / "signals"
    child = processes.spawn(tell_signals, told, "child")
    child.join()
    words = told.read_text().split()
    assert {"SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM", "blocked=0"} <= {*words}
    assert "SIGTERM" not in words


def read_inherited(setup: dict[str, Inherited]) -> None:
    """A child: ends with 0 if what it was handed is what its setup says."""
    said = {name: os.pread(file.descriptor, 100, 0).decode() for name, file in setup.items()}
    raise SystemExit(0 if said == {name: f"I am {name}" for name in setup} else 1)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_an_open_file_in_a_setup_reaches_the_child(method: str) -> None:
    context = multiprocessing.get_context(method)
    files: dict[str, Inherited] = {}
    for name in ("one", "two"):
        files[name] = Inherited(os.memfd_create(name))
        os.write(files[name].descriptor, f"I am {name}".encode())
    try:
        child = processes.start_process(context, read_inherited, files, "child")
        child.join()
        assert child.exitcode == 0
        assert all(os.fstat(file.descriptor).st_size for file in files.values()), "ours stay open"
    finally:
        for file in files.values():
            os.close(file.descriptor)
