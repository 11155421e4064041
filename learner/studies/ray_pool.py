"""Trainings as tasks of a Ray cluster, all of whose nodes have the folder of results.

    RayPool.start -> task on a Ray node -> python -m module …, a process of its own -> exit code

The cell is locked here, and its files are written there: what is in the folder is all that anybody
knows, as on one machine. A Ctrl-C cancels the task, which lets its process write a checkpoint.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from learner.studies.child import LEAVE_S, LOST, Stop, start
from runtime.net.errors import SetupError
from runtime.ray.cluster import connect, one_line

_LOOK_S = 0.2
_SEEN_WITHIN_S = 10.0
"""Seconds that a shared folder may take to show a file that another machine has just made."""
_CANCELLED = 130
_LEAVES_S = 30.0
"""Seconds that a training has to save and leave if Ray has lost sight of it on a machine that goes
on: until then it has the lock of its folder, and nobody else could resume it."""


class RayPool:
    """A Ray cluster."""

    def __init__(self, address: str, resources: Mapping[str, float]) -> None:
        """Join it.

        Args:
            resources: of each training, by Ray's names.

        Raises:
            SetupError: there is none, or no node of it has them.
        """
        self._cluster = connect(address, "--pool ray")
        self._ray = self._cluster.ray
        self._resources = dict(resources)
        room = self._room()
        if not room:
            asked = ", ".join(f"{number:g} {name}" for name, number in resources.items())
            words = self._cluster.words()
            self.close()
            raise SetupError(
                f"--pool ray: no Ray node has {asked} for a training: Ray has {words}; ask for "
                "less with --ray-resources"
            )
        self.at_once = room

    def _room(self) -> int:
        """Trainings that fit the nodes, if nobody else is there."""
        return sum(
            min(
                math.floor(node["Resources"].get(name, 0.0) / number)
                for name, number in self._resources.items()
            )
            for node in self._ray.nodes()
            if node["Alive"]
        )

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        lock: int,
        output: Path,
        figures: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "RayWork":
        """Run `python -m module` on a Ray node; `lock` stays with us."""
        del lock
        output.touch()
        others = {k: v for k, v in self._resources.items() if k not in ("CPU", "GPU", "memory")}
        # A cell is known by its two folders: relay-8-sops-1f3a9c20/seed-1.
        name = f"{'/'.join(output.parent.parts[-2:])} {module}"
        task = self._ray.remote(run_here).options(
            name=name,
            num_cpus=self._resources.get("CPU", 0.0),
            num_gpus=self._resources.get("GPU", 0.0),
            memory=self._resources.get("memory"),
            resources=others,
            max_retries=0,  # a training that was lost goes on from its checkpoint, with other words
        )
        files = [None if path is None else str(path.absolute()) for path in (output, figures)]
        call = task.remote(module, list(arguments), os.getcwd(), *files, dict(environment or {}))
        return RayWork(self._ray, call, output)

    def close(self) -> None:
        self._ray.shutdown()


class RayWork:
    """A task."""

    session = 0

    def __init__(
        self, ray: Any, call: Any, output: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ray, self._call, self._output, self._clock = ray, call, output, clock
        self._code: int | None = None
        self._over_s = 0.0
        """When the code may be told."""
        self._asked_s = math.inf
        self._signals = 0

    def poll(self) -> int | None:
        if self._code is None and self._ray.wait([self._call], timeout=0)[0]:
            self._code = self._result()
            self._over_s = self._clock() + (_LEAVES_S if self._code == LOST else 0.0)
        return self._code if self._clock() >= self._over_s else None

    def _result(self) -> int:
        errors = self._ray.exceptions
        try:
            return int(self._ray.get(self._call))
        except errors.TaskCancelledError:
            return _CANCELLED
        except errors.RayTaskError as error:
            why, code = one_line(error), 1
        except errors.RayError as error:
            why, code = one_line(error), LOST
        with self._output.open("a", encoding="utf-8") as output:
            output.write(f"error: {why}\n")
        return code

    def leave(self, stop: Stop) -> None:
        self._over_s = 0.0  # nobody is about to resume it
        if self.poll() is not None or self._code is not None:
            return
        now_s = self._clock()
        if math.isinf(self._asked_s):
            self._asked_s, self._signals = now_s, stop.signals
            self._ray.cancel(self._call)
        elif now_s >= self._asked_s + 2 * LEAVE_S or stop.signals > max(self._signals, 1):
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(self._call, force=True)


def run_here(
    module: str,
    arguments: Sequence[str],
    folder: str,
    output: str,
    figures: str | None,
    environment: Mapping[str, str],
) -> int:
    """The task, on its Ray node: run the command, and let it end in good order when we are to.

    Raises:
        FileNotFoundError: this machine does not have the folder of results.
    """
    _require(Path(output))
    _require(Path(folder))
    os.chdir(folder)
    raylet, stop = os.getppid(), Stop()
    process = start(
        module, arguments, None, Path(output), Path(figures) if figures else None, environment
    )
    while True:
        try:
            if (code := process.poll()) is not None:
                return code
            time.sleep(_LOOK_S)
            if os.getppid() != raylet:  # nobody asks for what comes of it
                stop.signals = max(stop.signals, 1)
            if stop.is_due:
                process.leave(stop)
        except KeyboardInterrupt:  # how Ray cancels, at any moment
            stop.signals += 1


def _require(path: Path) -> None:
    until_s = time.monotonic() + _SEEN_WITHIN_S
    while not path.exists():
        if time.monotonic() > until_s:
            raise FileNotFoundError(
                f"Ray node {os.uname().nodename} has no {path}: give --out a folder that all Ray "
                "nodes share, and start the study from such a folder"
            )
        time.sleep(_LOOK_S)
