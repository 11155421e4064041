"""How much memory a process really costs: its proportional set size.

PSS counts a page that k processes share as 1/k in each, so it may be added up over processes that
come from one forkserver; RSS may not.
"""

from pathlib import Path

_KB_PER_MB = 1024


def pss_mb(pid: int) -> float | None:
    """PSS in MiB; None if the process has gone, or has keys and we are not privileged
    (runtime/net/limits.py). The kernel walks its pages: not for hot loops.

    Raises:
        OSError: no descriptor is left to look with.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    kilobytes = next((line.split()[1] for line in rollup.splitlines() if line[:4] == "Pss:"), None)
    return None if kilobytes is None else int(kilobytes) / _KB_PER_MB
