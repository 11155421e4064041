"""Memory of real processes, whose size is known."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

import pytest

from learner.studies import memory_watch
from learner.studies.memory_watch import MemoryWatch

# What it says it has, it has written to; each line that it is sent takes it a step further.
PARENT = """
import subprocess, sys
kept = bytearray(b"x") * (64 << 20)
child = subprocess.Popen([sys.executable, "-c", '''
import setproctitle
setproctitle.setproctitle("murmuration: learner")
kept = bytearray(b"x") * (32 << 20)
print(flush=True)
input()
'''], stdin=subprocess.PIPE)
input()
del kept
print(flush=True)
input()
child.communicate(b"end")
print(flush=True)
input()
"""


@contextmanager
def session() -> Generator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        answer(process.stdout)
        try:
            yield process
        finally:
            process.kill()


def answer(stdout: IO[bytes] | None) -> None:
    assert stdout is not None
    assert stdout.readline() == b"\n"


def go_on(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    answer(process.stdout)


def test_all_processes_of_a_session_count_together_and_the_largest_figures_stay() -> None:
    with session() as process:
        watch = MemoryWatch(process.pid)
        assert watch.figures == {}, "no look yet"
        watch.look()
        first = watch.figures
        assert first["processes"] == 2.0
        assert first["pss_mb"] > 96.0
        assert 32.0 < first["learner_rss_mb"] < 64.0, "the child is the learner"
        go_on(process)
        watch.look()
        assert watch.figures["pss_mb"] >= first["pss_mb"]
        assert MemoryWatch(os.getsid(0)).figures == {}


def test_without_a_learner_of_its_own_the_first_process_is_the_learner_and_keeps_its_peak() -> None:
    with session() as process:
        go_on(process)
        go_on(process)  # the child has gone, 64 MB are given back
        watch = MemoryWatch(process.pid)
        watch.look()
        assert watch.figures["processes"] == 1.0
        assert watch.figures["learner_rss_mb"] > 64.0 > watch.figures["pss_mb"]


def test_where_the_first_process_has_gone_and_no_learner_is_left_nothing_stands_for_it() -> None:
    command = ["sh", "-c", "sleep 60 >/dev/null & echo $!"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        left = int(process.stdout.readline())
        process.wait()
    try:
        watch = MemoryWatch(process.pid)
        watch.look()
        assert watch.figures.keys() == {"processes", "pss_mb"}
    finally:
        os.kill(left, signal.SIGKILL)


def test_a_sum_that_lacks_a_process_is_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    with session() as process:

        def hidden(pid: int) -> float | None:
            return None if pid == process.pid else 1.0

        monkeypatch.setattr(memory_watch, "pss_mb", hidden)
        watch = MemoryWatch(process.pid)
        watch.look()
        assert watch.figures.keys() == {"processes", "learner_rss_mb"}


def test_a_look_that_follows_at_once_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    clock_s = [0.0]

    def look(_: MemoryWatch) -> None:
        looks.append(clock_s[0])
        clock_s[0] += 0.1  # a hundred processes take as long

    monkeypatch.setattr(MemoryWatch, "look", look)
    monkeypatch.setattr(memory_watch.time, "monotonic", lambda: clock_s[0])
    watch = MemoryWatch(os.getpid())
    for now_s in (1.0, 1.2, 6.0, 6.2, 11.1, 11.3):
        clock_s[0] = now_s
        watch.look_now_and_then()
    assert looks == [1.0, 6.2, 11.3], "a fiftieth of the time at most"
