"""Processors by affinity and by quota, in a tree of cgroups made by hand and in the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import cpus
from configs.cpus import cpu_quota, usable_cpus
from configs.schema import EnvConfig, LearnerConfig
from envs.shards import num_shards
from learner.hardware import num_threads


class Tree:
    """What the kernel would say of mounts and of our place in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounts = folder / "mountinfo"
        self.cgroups = folder / "cgroup"
        self.mounts.write_text("22 1 0:20 / /proc rw,relatime - proc proc rw\n")
        self.cgroups.write_text("")

    def mount(self, point: str, *, kind: str, options: str = "", root: str = "/") -> Path:
        top = self.folder / point
        top.mkdir(parents=True, exist_ok=True)
        line = f"30 22 0:30 {root} {top} rw,relatime shared:1 - {kind} {kind} rw{options}\n"
        self.mounts.write_text(self.mounts.read_text() + line)
        return top

    def join(self, line: str) -> None:
        self.cgroups.write_text(self.cgroups.read_text() + line + "\n")

    @property
    def quota(self) -> float | None:
        return cpu_quota(self.mounts, self.cgroups)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_v2_the_tightest_quota_on_the_way_up_counts(tree: Tree) -> None:
    top = tree.mount("unified", kind="cgroup2")
    tree.join("0::/slice/box")
    write(top / "slice" / "box", cpu__max="400000 100000")
    assert tree.quota == 4.0
    write(top / "slice", cpu__max="150000 100000")
    assert tree.quota == 1.5
    write(top / "slice", cpu__max="max 100000")
    assert tree.quota == 4.0


def test_v1_quota_over_period_counts_and_minus_one_is_none(tree: Tree) -> None:
    cpu = tree.mount("cpu", kind="cgroup", options=",cpu,cpuacct")
    memory = tree.mount("memory", kind="cgroup", options=",memory")
    tree.join("3:cpu,cpuacct:/box")
    tree.join("2:memory:/box")
    write(memory / "box", cpu__cfs_quota_us="1", cpu__cfs_period_us="1")  # not where it counts
    write(cpu / "box", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert tree.quota is None
    write(cpu / "box", cpu__cfs_quota_us="50000", cpu__cfs_period_us="25000")
    assert tree.quota == 2.0


def test_a_container_sees_its_cgroup_at_the_root_of_the_mount(tree: Tree) -> None:
    top = tree.mount("inside", kind="cgroup2", root="/docker/abc")
    tree.join("0::/docker/abc")
    write(top, cpu__max="200000 100000")
    assert tree.quota == 2.0
    (tree.folder / "other").mkdir()
    other = Tree(tree.folder / "other")
    top = other.mount("namespaced", kind="cgroup2")
    other.join("0::/../elsewhere")
    write(top, cpu__max="300000 100000")
    assert other.quota == 3.0


def test_without_cgroups_there_is_no_quota(tree: Tree, tmp_path: Path) -> None:
    assert tree.quota is None
    assert cpu_quota(tmp_path / "nothing", tmp_path / "here") is None


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(64, None, 64), (64, 2.5, 2), (1, 8.0, 1), (64, 0.5, 1), (3, 3.0, 3)],
)
def test_a_quota_is_rounded_down_to_one_at_least(
    affinity: int, quota: float | None, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allowed(_: int) -> set[int]:
        return set(range(affinity))

    monkeypatch.setattr(os, "sched_getaffinity", allowed)
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    assert usable_cpus() == usable
    expected = max(usable // 4, 1)
    assert num_shards(EnvConfig(name="battle", copies=32)) == min(expected, 32)


def test_affinity_counts_and_not_the_machine() -> None:
    (core, *_) = sorted(os.sched_getaffinity(0))
    code = (
        "import os\n"
        f"os.sched_setaffinity(0, {{{core}}})\n"
        "from configs.cpus import usable_cpus\n"
        "print(usable_cpus())\n"
    )
    run = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60)
    assert run.stdout == "1\n", run.stderr


@pytest.mark.parametrize(("threads", "ranks", "expected"), [(0, 1, 2), (0, 4, 1), (6, 2, 3)])
def test_the_learner_has_half_of_the_cores_that_it_may_use_and_not_of_the_machine(
    threads: int, ranks: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allowed(_: int) -> set[int]:
        return {0, 1, 2, 3}

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", allowed)
    assert num_threads(LearnerConfig(threads=threads, ranks=ranks)) == expected
