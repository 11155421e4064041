"""What running processes cost, by /proc: cpu time of their threads, and memory.

The main thread is the one that runs Python; the others of an agent are ZeroMQ's.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.host.process_memory import pss_mb

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_NS = 1e-9
_MOST_MEASURED = 16
"""Processes whose memory is read: the kernel walks all their pages for it."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of cpu since a process began, or summed over several."""

    main_s: float = 0.0
    other_threads_s: float = 0.0

    def __add__(self, other: "CpuTime") -> "CpuTime":
        return CpuTime(self.main_s + other.main_s, self.other_threads_s + other.other_threads_s)

    def __sub__(self, other: "CpuTime") -> "CpuTime":
        return CpuTime(self.main_s - other.main_s, self.other_threads_s - other.other_threads_s)

    @property
    def total_s(self) -> float:
        return self.main_s + self.other_threads_s


def cpu_time(pid: int) -> CpuTime:
    """Of a process; nothing if it has gone."""
    total = CpuTime()
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return total
    for thread in threads:
        seconds = _thread_s(Path(f"/proc/{pid}/task/{thread}"))
        total += CpuTime(seconds, 0.0) if int(thread) == pid else CpuTime(0.0, seconds)
    return total


def descendants(pid: int) -> dict[int, str]:
    """Pids and command lines of all processes below one, as far as they are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended while we looked
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = list(children.get(pid, ()))
    while waiting:
        child = waiting.pop()
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            found[child] = line.replace(b"\0", b" ").decode(errors="replace").strip()
            waiting += children.get(child, ())
    return found


def _thread_s(task: Path) -> float:
    """To the nanosecond where the kernel keeps scheduler statistics, else to a hundredth."""
    try:
        return int((task / "schedstat").read_text().split()[0]) * _NS
    except (OSError, IndexError):
        pass
    try:
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S  # utime, stime


def mean_pss_mb(pids: Iterable[int]) -> float | None:
    """Mean proportional set size in MiB of some of the processes; None if none is left."""
    pids = list(pids)
    chosen = pids[:: max(1, -(-len(pids) // _MOST_MEASURED))]
    sizes = [size for pid in chosen if (size := pss_mb(pid)) is not None]
    return sum(sizes) / len(sizes) if sizes else None
