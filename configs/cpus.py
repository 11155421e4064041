"""How many processors this process may use, which is often fewer than the machine has.

affinity (taskset, cpuset)   ─┐
cgroup quota (docker --cpus) ─┴─> usable_cpus -> what 0 and auto stand for: threads of the
                                  learner, shards of the world, pinning of the agents
"""

import os
from pathlib import Path, PurePosixPath

_MOUNTS = Path("/proc/self/mountinfo")
_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Processors that the affinity and the cgroups of this process leave it, at least one.

    A quota is rounded down: a thread more than it pays for makes all of them wait for the next
    period.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return allowed if quota is None else max(min(allowed, int(quota)), 1)


def cpu_quota(mounts: Path = _MOUNTS, cgroups: Path = _CGROUPS) -> float | None:
    """The tightest CPU quota from our cgroup up to the root, in processors; None: there is none.

    Reads cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us` over `cpu.cfs_period_us`); with both
    mounted, whichever is tighter.
    """
    try:
        memberships = cgroups.read_text().splitlines()
        mounted = mounts.read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in memberships:
        number, controllers, path = line.split(":", 2)
        is_v2 = number == "0" and not controllers
        if not is_v2 and "cpu" not in controllers.split(","):
            continue
        for point in mounted:
            folders = _folders(point, path, is_v2=is_v2)
            found += [quota for folder in folders if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _folders(mount: str, path: str, *, is_v2: bool) -> list[Path]:
    """Our cgroup's folder under this mount and those above it; none if it mounts another kind.

    A container sees its own cgroup as the mount's root while /proc may name it as the host does.
    """
    fields, _, rest = mount.partition(" - ")
    kind, _, options = (rest.split() + [""] * 3)[:3]
    if kind != ("cgroup2" if is_v2 else "cgroup"):
        return []
    if not is_v2 and "cpu" not in options.split(","):
        return []
    root, point = fields.split()[3:5]
    own = PurePosixPath(path)
    is_inside = own.is_relative_to(root) and ".." not in own.parts
    inside = own.relative_to(root) if is_inside else PurePosixPath()
    top = Path(point)
    folder = top / inside
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]


def _quota_of(folder: Path) -> float | None:
    """Processors that this cgroup may use; None if it does not say."""
    if (quota := _ratio((_text(folder / "cpu.max") + " ").split(" ")[:2])) is not None:
        return quota
    return _ratio([_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")])


def _ratio(numbers: list[str]) -> float | None:
    quota_us, period_us = numbers
    if not quota_us.isdigit() or not period_us.isdigit() or int(period_us) == 0:  # "max", "-1", ""
        return None
    return int(quota_us) / int(period_us)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
