"""One host of a run on Ray: an actor that has a bundle's resources and runs the node there.

    Host (actor, on the Ray node) -> place: address, ports -> serve: python -m runtime.node --join …

The node is the same as on a host that a person has prepared, in a process of its own: only the
person's part is done here, and the folder with the keys is gone when it ends.
"""

import importlib
import os
import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.deployment.bundle import place_bundle
from runtime.deployment.hosts import Host as Place
from runtime.terminal.scratch import Scratch
from runtime.terminal.with_parent import python_with_us

BUNDLE, RUNS = "{bundle}", "{runs}"
"""In a command: what only the Ray node knows."""
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
"""Below the ports that kernels give away, and above those of Ray's own workers."""
_TRIES = 1000
_MOST_BYTES = 1 << 20
"""Of a log that comes back: its end."""
_LAST_LINES = 20
_LOOK_S = 1.0
_HOME = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a node has ended."""

    exit_code: int
    last_line: str
    files: Mapping[str, bytes]
    """Its logs and its summary, by path."""


class Host:
    """Runs in a process of Ray's, on the machine that was asked for."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __repr__(self) -> str:  # Ray's dashboard and logs call the actor so
        return self._title

    def gpus(self) -> list[str]:
        """Ids of the GPUs that the bundle has."""
        return [str(gpu) for gpu in _ray().get_gpu_ids()]

    def place(self, num_ports: int, taken: Sequence[range]) -> tuple[str, int]:
        """Address of this machine, and the first of so many free ports in a row.

        Raises:
            RuntimeError: there are none.
        """
        address = str(_ray().util.get_node_ip_address())
        return address, free_ports(address, num_ports, taken)

    def serve(self, files: Mapping[str, bytes], arguments: Sequence[str]) -> Ended:
        """Run a node to its end.

        Args:
            files: of the host's bundle.
            arguments: of the node, with BUNDLE and RUNS where these folders are meant.
        """
        scratch = Scratch()
        try:
            bundle, runs = scratch.path / "bundle", scratch.path / "runs"
            place_bundle(bundle, files)
            words = [word.format(bundle=bundle, runs=runs) for word in arguments]
            code, last_line = _run(words)
            return Ended(code, last_line, _ends_of_files(runs))
        finally:
            scratch.close()


def _ray() -> Any:
    """Ray, in which we run."""
    return importlib.import_module("ray")


def free_ports(address: str, num_ports: int, taken: Sequence[range]) -> int:
    """The first of so many ports in a row that nobody listens on.

    Raises:
        RuntimeError: there are none.
    """
    # By chance: another run may be looking for ports of this machine at the same moment.
    for _ in range(_TRIES):
        first = _FIRST_PORT + secrets.randbelow(_LAST_PORT - num_ports - _FIRST_PORT)
        mine = range(first, first + num_ports)
        if any(mine.start < other.stop and other.start < mine.stop for other in taken):
            continue
        place = Place("", address, first, ())
        if not any(map(place.is_taken, mine)):
            return first
    raise RuntimeError(f"{address}: no {num_ports} free ports in a row")


def _run(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code and last line of `python -m runtime.node`; what it says goes to the actor's log."""
    paths = [str(_HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    raylet = os.getppid()
    with subprocess.Popen(
        python_with_us(signal.SIGTERM, ["-m", "runtime.node", *arguments]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:
        threading.Thread(target=_end_with_raylet, args=(raylet, process), daemon=True).start()
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    return process.returncode, next(filter(None, reversed(lines)), "")


def _end_with_raylet(raylet: int, process: "subprocess.Popen[str]") -> None:
    """An actor may outlive its raylet, where orphans go to another process than the first one."""
    while process.poll() is None:
        if os.getppid() != raylet:
            process.terminate()
            return
        time.sleep(_LOOK_S)


def _ends_of_files(runs: Path) -> dict[str, bytes]:
    """Logs and summary of the node, the latest part of each."""
    found: dict[str, bytes] = {}
    for path in sorted([*runs.glob("*/logs/*"), *runs.glob("*/summary.json")]):
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _MOST_BYTES, 0))
            found[str(Path(*path.relative_to(runs).parts[1:]))] = file.read()
    return found
