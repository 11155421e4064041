"""Memory of a command of ours and of all that it has started, looked at while it runs.

    process group -> /proc -> PSS of all together, largest RSS of the learner

PSS counts a page that k processes share as 1/k in each, so it may be added up. The kernel itself
keeps a process's largest RSS.
"""

import os
from pathlib import Path

from runtime.host.process_memory import pss_mb

_LEARNER = "murmuration: learner"
_KB_PER_MB = 1024


class MemoryWatch:
    """Looks at a process group now and then; its figures are the largest that were seen."""

    def __init__(self, group: int) -> None:
        """Watch.

        Args:
            group: id of the process group, which is that of its first process.
        """
        self._group = group
        self.processes = 0
        self.pss_mb = 0.0
        """Of all processes of the group together."""
        self.learner_rss_mb = 0.0
        """Of the learner's process, or of the first one where that is the learner as well."""

    def look(self) -> None:
        """Once; it takes a few milliseconds for a hundred processes."""
        members = [pid for pid in _processes() if _group_of(pid) == self._group]
        self.processes = max(self.processes, len(members))
        self.pss_mb = max(self.pss_mb, sum(pss_mb(pid) or 0.0 for pid in members))
        learners = [pid for pid in members if _title(pid).startswith(_LEARNER)] or [self._group]
        self.learner_rss_mb = max(self.learner_rss_mb, *map(_largest_rss_mb, learners))


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _title(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ")


def _largest_rss_mb(pid: int) -> float:
    lines = _read(pid, "status").splitlines()
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return max(sizes, default=0) / _KB_PER_MB


def _read(pid: int, name: str) -> str:
    """Empty if the process has gone meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
