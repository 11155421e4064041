"""On what a benchmark ran: a figure without its machine says nothing.

machine(), source() -> plain dictionaries for the JSON
"""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from configs.cpus import usable_cpus

ROOT = Path(__file__).parents[2]
"""Of the repository."""

_VERSIONS = ("torch", "numpy", "pyzmq", "msgpack", "uvloop", "magent2", "ray")


def machine() -> dict[str, object]:
    """Processor, cores that this process may use, memory, kernel, python and libraries."""
    return {
        "cpu_model": _cpu_model(),
        "cores": usable_cpus(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": _gpu(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version for name in _VERSIONS if (version := _version(name))},
        "libzmq": _libzmq(),
    }


def source() -> dict[str, object]:
    """Commit of the working tree, and whether it has changes that no commit knows."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return {"commit": commit, "dirty": None if commit is None else bool(_git("status", "-s"))}


def busy_s() -> float:
    """Seconds that all processes of the machine have had a core, or the host has kept one."""
    user, nice, system, _, _, irq, softirq, steal = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def load_average() -> list[float]:
    """Runnable and waiting processes over 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model", "Processor")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpu() -> str:
    """As the driver names it; empty without one. No torch: it takes seconds to import."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _libzmq() -> str:
    import zmq  # not needed by who only asks for the commit

    return zmq.zmq_version()


def _git(*arguments: str) -> str | None:
    """What git prints; None without git, or outside of a repository."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
