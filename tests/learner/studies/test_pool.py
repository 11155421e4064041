"""Where trainings run, as a person asks for it; tests/process/test_ray.py has Ray run some."""

import dataclasses
from pathlib import Path

import pytest

from configs.load import ConfigError
from learner.studies import ray_pool
from learner.studies.child import LOST, Stop
from learner.studies.plan import Request, plan
from learner.studies.pool import Here, PoolOptions, open_pool
from runtime.net.errors import SetupError
from tests.learner.studies.test_plan import STUDY
from tests.process.ray_cluster import needs_ray


def test_resources_go_by_the_names_that_ray_has() -> None:
    options = PoolOptions(ray_resources=("CPU=4", "GPU=0.5", "a100=1"))
    assert options.resources() == {"CPU": 4.0, "GPU": 0.5, "a100": 1.0}


@pytest.mark.parametrize("word", ["CPU", "CPU=", "CPU=many", "=1", "GPU=0", "GPU=-1", "GPU=nan"])
def test_what_is_no_resource_is_named(word: str) -> None:
    with pytest.raises(ValueError, match=f"ray-resources: {word} is not of the form"):
        PoolOptions(ray_resources=(word,)).resources()


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("GPU=1.5", "more than one GPU are whole ones"),
        ("CPU=0.00001", "Ray counts no finer than"),
        ("object_store_memory=1e9", "trainings put nothing there"),
    ],
)
def test_what_ray_would_not_take_is_refused_with_the_reason(word: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"ray-resources: {word}: {why}"):
        PoolOptions(ray_resources=(word,)).resources()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (PoolOptions(ray_address="10.0.0.1:6379"), "ray-address"),
        (PoolOptions(ray_resources=("CPU=2",)), "ray-resources"),
    ],
)
def test_options_of_ray_belong_to_ray(options: PoolOptions, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} belongs to --pool ray"):
        options.require_pool()
    dataclasses.replace(options, pool="ray").require_pool()


def test_by_default_trainings_run_here_one_for_each_core(tmp_path: Path) -> None:
    jobs = plan(STUDY, Request(scale="smoke", out=tmp_path)).jobs
    with open_pool(PoolOptions(), jobs) as pool:
        assert isinstance(pool, Here)
        assert pool.at_once >= 1


@needs_ray
def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    jobs = plan(STUDY, Request(scale="smoke", out=tmp_path)).jobs
    with (
        pytest.raises(SetupError, match="--ray-address nowhere"),
        open_pool(PoolOptions(pool="ray", ray_address="nowhere"), jobs),
    ):
        pass


def test_memory_is_looked_at_here_only(tmp_path: Path) -> None:
    (job, *_) = plan(STUDY, Request(scale="smoke", out=tmp_path)).jobs
    with (
        pytest.raises(ConfigError, match="memory of its trainings"),
        open_pool(PoolOptions(pool="ray"), [job._replace(memory=True)]),
    ):
        pass


class AskedAtOnce:
    """A command of which a cancel comes to know while it looks whether that has ended."""

    def __init__(self) -> None:
        self.looks = 0
        self.was_asked = False

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks == 1:
            raise KeyboardInterrupt
        return 130 if self.was_asked else None

    def leave(self, stop: Stop) -> None:
        self.was_asked = stop.signals == 1


def test_a_task_that_is_cancelled_at_any_moment_sees_its_command_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = AskedAtOnce()

    def start(*_: object) -> AskedAtOnce:
        return command

    monkeypatch.setattr(ray_pool, "start", start)
    monkeypatch.chdir(tmp_path)
    assert ray_pool.run_here("runtime.launch", (), f"{tmp_path}", f"{tmp_path}", None, {}) == 130
    assert command.was_asked


class LostSight:
    """Ray, of which a node has died: what RayWork needs of it."""

    class exceptions:  # as Ray's module is called
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

        class TaskCancelledError(RayError): ...

    def wait(self, calls: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return calls, []

    def get(self, call: str) -> int:
        raise self.exceptions.RayError(f"the worker of {call} died")


def test_what_ray_has_lost_sight_of_may_save_before_somebody_resumes_it(tmp_path: Path) -> None:
    now_s = 100.0
    work = ray_pool.RayWork(LostSight(), "it", tmp_path / "output.txt", lambda: now_s)
    assert work.poll() is None
    assert (tmp_path / "output.txt").read_text() == "error: the worker of it died\n"
    now_s += 29.0
    assert work.poll() is None
    now_s += 2.0
    assert work.poll() == LOST


def test_where_all_is_to_end_nobody_waits_for_what_ray_has_lost_sight_of(tmp_path: Path) -> None:
    work = ray_pool.RayWork(LostSight(), "it", tmp_path / "output.txt", lambda: 100.0)
    assert work.poll() is None
    work.leave(Stop())
    assert work.poll() == LOST
