"""Memory of a command of ours and of all that it has started, looked at while it runs.

    session of processes -> /proc -> PSS of all together, largest RSS of the learner

PSS counts a page that k processes share as 1/k in each, so it may be added up. The kernel itself
keeps a process's largest RSS.
"""

import os
import time
from pathlib import Path

from runtime.host.process_memory import pss_mb

_LEARNER = "murmuration: learner"
_PERIOD_S = 0.5
_SHARE_OF_TIME = 0.02
"""Looking must not slow down what it looks at."""
_KB_PER_MB = 1024


class MemoryWatch:
    """Looks at a session now and then; its figures are the largest that were seen.

    Args:
        session: id of the session, which is that of its first process.
    """

    def __init__(self, session: int) -> None:
        self._session = session
        self._next_s = 0.0
        self._processes = 0
        self._unread = 0
        self._pss_mb = 0.0
        self._learner_rss_mb = 0.0
        self._first_rss_mb = 0.0

    @property
    def figures(self) -> dict[str, float]:
        """By name: `processes`, `pss_mb` of all of them together at a time, `learner_rss_mb` of the
        learner, or of the first process where that is the learner as well. MB are MiB, as in
        runtime/. Without `pss_mb` if processes hid from us (runtime/net/limits.py), without
        `learner_rss_mb` if neither of the two was there.
        """
        if self._processes == 0:
            return {}
        found = {"processes": float(self._processes)}
        if not self._unread:
            found["pss_mb"] = self._pss_mb
        if rss_mb := self._learner_rss_mb or self._first_rss_mb:
            found["learner_rss_mb"] = rss_mb
        return found

    def look_now_and_then(self) -> None:
        """Once, unless the last time was just now or took long."""
        begun_s = time.monotonic()
        if begun_s >= self._next_s:
            self.look()
            ended_s = time.monotonic()
            self._next_s = ended_s + max(_PERIOD_S, (ended_s - begun_s) / _SHARE_OF_TIME)

    def look(self) -> None:
        """Once; the kernel walks all pages of all processes."""
        statuses = {pid: _status(pid) for pid in _members(self._session)}
        # One that has ended and waits for its parent has no memory any more.
        alive = {pid: status for pid, status in statuses.items() if "VmRSS" in status}
        sizes = {pid: pss_mb(pid) for pid in alive}
        self._processes = max(self._processes, len(alive))
        self._pss_mb = max(self._pss_mb, sum(size or 0.0 for size in sizes.values()))
        hidden = [pid for pid, size in sizes.items() if size is None and "VmRSS" in _status(pid)]
        self._unread = max(self._unread, len(hidden))
        for pid, status in alive.items():
            largest_mb = int(status["VmHWM"].split()[0]) / _KB_PER_MB
            if pid == self._session:
                self._first_rss_mb = max(self._first_rss_mb, largest_mb)
            if _read(pid, "cmdline").startswith(_LEARNER):
                self._learner_rss_mb = max(self._learner_rss_mb, largest_mb)


def _members(session: int) -> list[int]:
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.getsid(int(name)) == session:
                found.append(int(name))
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _status(pid: int) -> dict[str, str]:
    """What the kernel says of a process, by name; empty if it has gone."""
    lines = (line.partition(":") for line in _read(pid, "status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
