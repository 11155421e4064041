"""Which cells are worked on, in which order, and what one that fails does to the others."""

import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.load import dump_run_config
from configs.run_files import METRICS, RESOLVED
from learner.studies import scheduler
from learner.studies.cells import Cell, State
from learner.studies.child import LOST, Stop
from learner.studies.plan import Job, Request, plan
from learner.studies.pool import Here
from learner.studies.scheduler import Scheduler
from tests.learner.studies.test_cells import begin
from tests.learner.studies.test_plan import STUDY


class Commands:
    """In place of processes: what is started takes two looks, and does what its command would."""

    def __init__(self, jobs: Sequence[Job], session: int) -> None:
        self.jobs = {job.cell: job for job in jobs}
        self.session = session
        self.started: list[str] = []
        self.at_once = self.most_at_once = 0
        self.failing: set[str] = set()
        self.losing: list[str] = []
        self.asked = 0

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        lock: int,
        output: Path,
        figures: Path | None = None,
        environment: Any = None,
    ) -> "Running":
        job = self.jobs[Cell(output.parent)]
        self.started.append(f"{module.rpartition('.')[2]} {job.label}")
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        with output.open("a") as lines:
            lines.write("error: no room\n")
        return Running(self, job, figures)


class Running:
    def __init__(self, commands: Commands, job: Job, figures: Path | None) -> None:
        self._commands, self._job, self._figures = commands, job, figures
        self._looks = 2

    @property
    def session(self) -> int:
        return self._commands.session

    def poll(self) -> int | None:
        self._looks -= 1
        if self._looks:
            return None
        self._commands.at_once -= 1
        if self._job.arm in self._commands.failing:
            return 1
        if self._job.arm in self._commands.losing:
            self._commands.losing.remove(self._job.arm)
            return LOST
        if self._figures is not None:
            self._figures.write_text('{"evaluation_episodes": 4, "return_mean": 1.0}')
        elif self._job.cell.run() is None:
            run = begin(self._job.cell, self._job.wanted.steps)
            (run / RESOLVED).write_text(dump_run_config(self._job.config))
        return 0

    def leave(self, stop: Stop) -> None:
        self._commands.asked += 1


@pytest.fixture
def jobs(tmp_path: Path) -> tuple[Job, ...]:
    asked = Request(scale="smoke", out=tmp_path, tasks=("relay-6",), seeds=(0,))
    return plan(STUDY, asked).jobs


@pytest.fixture
def session() -> Generator[int]:
    """Id of a session of its own. That of these tests may have lost its first process, or be 0 in
    a container.
    """
    waits = [sys.executable, "-c", "input()"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process.pid


@pytest.fixture
def commands(jobs: tuple[Job, ...], session: int, monkeypatch: pytest.MonkeyPatch) -> Commands:
    found = Commands(jobs, session)
    monkeypatch.setattr(Here, "start", staticmethod(found.start))
    monkeypatch.setattr(scheduler, "_LOOK_S", 0.0)
    return found


def states(jobs: Sequence[Job]) -> list[State]:
    return [job.cell.standing(job.wanted).state for job in jobs]


def test_each_cell_is_trained_and_then_evaluated(jobs: tuple[Job, ...], commands: Commands) -> None:
    said: list[str] = []
    Scheduler(Stop(), say=said.append).work_off(jobs)
    assert states(jobs) == [State.DONE] * 3
    assert commands.started[:4] == [
        *("launch relay-6, sops, seed 0", "evaluate relay-6, sops, seed 0"),
        *("launch relay-6, none, seed 0", "evaluate relay-6, none, seed 0"),
    ]
    assert said[0] == "[1/3] relay-6, sops, seed 0: begins, 400 steps"
    assert said[1] == "[1/3] relay-6, sops, seed 0: done"
    commands.started.clear()
    Scheduler(Stop()).work_off(jobs)
    assert commands.started == [], "what is done is skipped"


def test_a_training_whose_machine_is_lost_goes_on_elsewhere(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    commands.losing = [jobs[0].arm] * 2
    said: list[str] = []
    Scheduler(Stop(), say=said.append).work_off(jobs[:1])
    assert [started.split()[0] for started in commands.started] == [*["launch"] * 3, "evaluate"]
    assert states(jobs[:1]) == [State.DONE]
    assert sum("the machine is lost" in line for line in said) == 2


def test_a_training_that_loses_one_machine_after_the_other_has_failed(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    commands.losing = [jobs[0].arm] * 9
    worker = Scheduler(Stop(), say=lambda _: None)
    worker.work_off(jobs[:1])
    assert worker.failures == 1
    assert len(commands.started) == 4
    assert "no room" in jobs[0].cell.failure


def test_so_many_go_on_at_once_as_are_allowed_to(jobs: tuple[Job, ...], commands: Commands) -> None:
    Scheduler(Stop(), 2, say=lambda _: None).work_off(jobs)
    assert commands.most_at_once == 2
    assert states(jobs) == [State.DONE] * 3


def test_memory_is_looked_at_while_a_training_goes_on_where_it_is_asked_for(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    watched = jobs[0]._replace(memory=True)
    Scheduler(Stop(), say=lambda _: None).work_off([watched, jobs[1]])
    assert commands.started[1] == "evaluate relay-6, sops, seed 0"
    assert watched.cell.memory()["processes"] >= 1.0
    assert watched.cell.memory()["learner_rss_mb"] > 0.0
    assert jobs[1].cell.memory() == {}


def test_two_arms_that_are_the_same_training_share_it(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    twin = jobs[0]._replace(arm="twin")
    said: list[str] = []
    Scheduler(Stop(), 2, say=said.append).work_off([jobs[0], twin])
    assert [name for name in commands.started if name.startswith("launch")] == [
        "launch relay-6, sops, seed 0"
    ]
    assert not any("somebody else" in line for line in said)


def test_a_cell_that_fails_is_a_line_and_the_others_go_on(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    commands.failing = {"sops"}
    said: list[str] = []
    worker = Scheduler(Stop(), say=said.append)
    worker.work_off(jobs)
    assert worker.failures == 1
    assert states(jobs) == [State.MISSING, State.DONE, State.DONE]
    why = f"training failed with exit code 1: no room (see {jobs[0].cell.output})"
    assert f"[1/3] relay-6, sops, seed 0: {why}" in said
    assert jobs[0].cell.failure == why
    commands.failing = set()
    Scheduler(Stop(), say=said.append).work_off(jobs)
    assert (states(jobs)[0], jobs[0].cell.failure) == (State.DONE, "")


def test_a_cell_that_somebody_has_is_passed_over(jobs: tuple[Job, ...], commands: Commands) -> None:
    said: list[str] = []
    with jobs[0].cell.locked():
        Scheduler(Stop(), say=said.append).work_off(jobs)
    assert states(jobs) == [State.MISSING, State.DONE, State.DONE]
    assert said[0] == "[1/3] relay-6, sops, seed 0: somebody else is at it"


def test_a_cell_that_somebody_has_begun_otherwise_meanwhile_is_refused(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    learner = replace(jobs[0].config.learner, gamma=0.1)
    other = replace(jobs[0].config, learner=learner)
    (begin(jobs[0].cell, 100) / RESOLVED).write_text(dump_run_config(other))
    worker = Scheduler(Stop(), say=lambda _: None)
    worker.work_off(jobs)
    assert worker.failures == 1
    assert "was begun with other learner.gamma" in jobs[0].cell.failure
    assert states(jobs)[1:] == [State.DONE, State.DONE]


def test_a_stop_asks_those_at_work_and_begins_no_more(
    jobs: tuple[Job, ...], commands: Commands
) -> None:
    stop = Stop()

    def say(line: str) -> None:
        stop.signals += "begins" in line

    worker = Scheduler(stop, say=say)
    worker.work_off(jobs)
    assert commands.started == ["launch relay-6, sops, seed 0"]
    assert commands.asked == 2, "it is for the child to know that it was asked before"
    assert worker.failures == 0


def test_now_and_then_it_says_how_far_all_is(
    jobs: tuple[Job, ...], commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "SAY_S", 0.0)
    said: list[str] = []
    Scheduler(Stop(), say=said.append).work_off(jobs[:2])
    assert "[1/2] relay-6, sops, seed 0: 0 of 400 steps" in said
    assert "all: 1 at work, 1 waiting" in said, "nothing is known yet of how fast it is"
    assert "[2/2] relay-6, none, seed 0: in its final evaluations" in said
    assert said[-2].startswith("all: 1 at work, 0 waiting, about 0 min of training left")


def test_what_is_evaluated_says_nothing_about_how_fast_trainings_are(
    jobs: tuple[Job, ...], commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's log may be a few steps ahead of its last checkpoint."""
    monkeypatch.setattr(scheduler, "SAY_S", 0.0)
    folder = begin(jobs[0].cell, 400)
    (folder / RESOLVED).write_text(dump_run_config(jobs[0].config))
    (folder / METRICS).write_text('{"t_s": 1.0, "env_steps": 410}\n')
    said: list[str] = []
    Scheduler(Stop(), say=said.append).work_off(jobs[:2])
    assert said[:2] == [
        "[1/2] relay-6, sops, seed 0: in its final evaluations",
        "all: 1 at work, 1 waiting",
    ]
    assert commands.started[0].startswith("evaluate")
