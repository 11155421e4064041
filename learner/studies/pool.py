"""Where trainings run: as processes of this machine, or as tasks of a Ray cluster.

PoolOptions -> open_pool -> Pool.start -> Work: poll, leave
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

from configs.cpus import usable_cpus
from configs.load import ConfigError
from learner.studies import child
from learner.studies.child import Stop
from learner.studies.plan import Job
from learner.studies.ray_pool import RayPool


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolOptions:
    """Options of studies and sweeps."""

    pool: Literal["here", "ray"] = "here"
    """Where trainings run: on this machine, or on a Ray cluster whose machines share the folder
    --out (docs/clusters.md; pip install -e ".[ray]")."""

    ray_address: str = "auto"
    """ADDRESS:PORT of the Ray cluster; auto takes RAY_ADDRESS, or the one on this machine."""

    ray_resources: tuple[str, ...] = ("CPU=1",)
    """With --pool ray, what each training asks Ray for, by Ray's names: CPU=4 GPU=0.5
    memory=2e9."""

    def require_pool(self) -> None:
        """Check what was asked for, as far as it can be without a cluster.

        Raises:
            ValueError: as `resources`; or an option of Ray's where Ray is not asked.
        """
        self.resources()
        for name in ("ray_address", "ray_resources"):
            if self.pool != "ray" and getattr(self, name) != _USUAL[name]:
                raise ValueError(f"{name.replace('_', '-')} belongs to --pool ray")

    def resources(self) -> dict[str, float]:
        """By name.

        Raises:
            ValueError: not name=number, not above 0, or not as finely or coarsely divided as Ray
                does it.
        """
        found: dict[str, float] = {}
        for word in self.ray_resources:
            name, _, number = word.partition("=")
            try:
                found[name] = float(number)
            except ValueError:
                found[name] = 0.0
            if not name or not 0.0 < found[name] < 1e15:
                raise ValueError(f"ray-resources: {word} is not of the form name=number above 0")
            if name == "GPU" and 1.0 < found[name] != int(found[name]):
                raise ValueError(f"ray-resources: {word}: more than one GPU are whole ones")
            if round(found[name], 4) != found[name]:
                raise ValueError(f"ray-resources: {word}: Ray counts no finer than 0.0001")
            if name == "object_store_memory":
                raise ValueError(f"ray-resources: {word}: trainings put nothing there")
        return found


_USUAL = {field.name: field.default for field in fields(PoolOptions)}


class Work(Protocol):
    """A command that has been started."""

    @property
    def session(self) -> int:
        """Id of the session of it and of all that it starts, on this machine."""
        ...

    def poll(self) -> int | None:
        """Its exit code, once it has one."""
        ...

    def leave(self, stop: Stop) -> None:
        """Ask it once to end, and kill it when it is late or we are asked again."""
        ...


class Pool(Protocol):
    @property
    def at_once(self) -> int:
        """Trainings for which there is room."""
        ...

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        lock: int,
        output: Path,
        figures: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Work:
        """Run `python -m module` (see learner.studies.child.start)."""
        ...


class Here:
    """Processes of this machine."""

    start = staticmethod(child.start)

    def __init__(self, at_once: int = 1) -> None:
        self.at_once = at_once


@contextmanager
def open_pool(options: PoolOptions, jobs: Sequence[Job]) -> Generator[Pool]:
    """What was asked for, as long as the `with` block lasts.

    Raises:
        SetupError: there is no such Ray cluster, or nothing in it has such resources.
        ConfigError: memory is to be looked at, which goes on this machine only.
    """
    if options.pool == "here":
        are_serial = all(job.config.runtime.serial for job in jobs)
        yield Here(usable_cpus() if are_serial else 1)
        return
    if any(job.memory for job in jobs):
        raise ConfigError(
            "--pool ray: this study looks at the memory of its trainings, which it can on this "
            "machine only: leave out --pool"
        )
    pool = RayPool(options.ray_address, options.resources())
    try:
        yield pool
    finally:
        pool.close()
