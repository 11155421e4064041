"""A Ray cluster of several raylets on this one machine, for tests.

    with RayCluster.start(3) as cluster: cluster.address … cluster.add() … kill(raylet_of(pid))

Raylets are the children of a process of its own, this very file: what Ray leaves behind in a
process that has had a cluster (threads, handlers, warnings) stays there.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import pytest

from tests.process.runs import wait_for

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason='there is no Ray (pip install -e ".[ray]")'
)

OBJECT_STORE_BYTES = 80 << 20
IMPATIENT = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}
"""Ray by itself takes half a minute to call a node dead."""


class RayCluster:
    """Raylets with a CPU each, the first one with a GPU by its own account."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.address = self._read()

    @classmethod
    @contextlib.contextmanager
    def start(cls, raylets: int) -> Generator["RayCluster"]:
        """So many raylets; none of them, and no file, is left when the `with` block is."""
        folder = Path(tempfile.mkdtemp(prefix="ray-"))  # the paths of its sockets have to be short
        (folder / "ray").mkdir()
        complaints = folder / "complaints.txt"
        with complaints.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(raylets), str(folder)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
                # Else `auto` would find this cluster by a file that outlives it. It lies in ray/.
                env={**os.environ, "RAY_TMPDIR": str(folder)},
            )
        try:
            yield cls(process, folder)
            _say(process, "end")
            assert process.wait(60.0) == 0, complaints.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                cast("IO[str]", pipe).close()
            for pid in _processes_of(folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)

    def add(self) -> None:
        """One more raylet."""
        _say(self._process, "add")
        assert self._read() == "added"

    def raylets(self) -> list[int]:
        """Pids of those that live."""
        return [pid for pid in _processes_of(self._folder) if _name(pid) == "raylet"]

    def hosts(self) -> dict[int, int]:
        """Pid of each node of ours that an actor has started, by that of its raylet."""
        found: dict[int, int] = {}
        for raylet in self.raylets():
            nodes = [pid for worker in _children(raylet) for pid in _children(worker)]
            found.update((raylet, pid) for pid in nodes if _name(pid) == "murmuration: node")
        return found

    def _read(self) -> str:
        line = cast("IO[str]", self._process.stdout).readline()
        assert line, (self._folder / "complaints.txt").read_text()
        return line.strip()


def _say(process: "subprocess.Popen[str]", word: str) -> None:
    stdin = cast("IO[str]", process.stdin)
    stdin.write(f"{word}\n")
    stdin.flush()


def _processes_of(folder: Path) -> list[int]:
    """Everything that has the cluster's folder on its command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        lists = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for path in lists for child in path.read_text().split()]
    return []


def _name(pid: int) -> str:
    """How a process calls itself."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        title = words[0].decode(errors="replace")
        return title if title.startswith("murmuration") else Path(title).name
    return ""


def wait_until_dead(pid: int) -> None:
    wait_for(f"the end of {pid}", lambda: not Path(f"/proc/{pid}/cmdline").exists(), 30.0)


def _serve(raylets: int, folder: str) -> None:
    """Have a cluster, until our input ends."""
    cluster: Any = import_module("ray.cluster_utils").Cluster()
    small: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": OBJECT_STORE_BYTES,
        "temp_dir": folder,
    }
    said = sys.stdout
    sys.stdout = sys.stderr  # Ray's own words are for the file of complaints
    # Ray counts GPUs, and asks for none.
    cluster.add_node(**small, num_gpus=1, include_dashboard=False, _system_config=IMPATIENT)
    for _ in range(raylets - 1):
        cluster.add_node(**small)
    print(cluster.address, file=said, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        cluster.add_node(**small)
        print("added", file=said, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
