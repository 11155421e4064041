"""Steps of a study after its trainings: functions that make tables and pictures of the policies.

    analysis:
      - run: learner.studies.diagnostics.tables:study     def study(study: Finished) -> str
        options: {episodes: 20}

A step writes its files into the study's folder and returns Markdown for table.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from learner.studies.cells import Cell, Evaluation, State
from learner.studies.plan import Job
from learner.studies.study import Numbers, Scale, Study, function_of


@dataclass(frozen=True, slots=True)
class FinishedCell:
    """A policy that has been trained, and where it comes from."""

    task: str
    arm: str
    seed: int
    config: RunConfig
    transfer: tuple[int, ...]
    """Sizes at which it is looked at as well."""
    cell: Cell

    @property
    def env(self) -> str:
        return self.config.env.name

    @property
    def agents(self) -> int:
        """As it was trained."""
        return self.config.num_agents

    @property
    def policy(self) -> Path:
        return self.cell.policy()

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.policy.parent

    def evaluation(self, opponent: str = "", agents: int | None = None) -> dict[str, Any]:
        """What runtime.evaluate has printed of it."""
        return self.cell.evaluation(Evaluation(agents, opponent))


@dataclass(frozen=True, slots=True)
class Finished:
    """A study whose cells are done, as far as they are."""

    name: str
    scale: str
    folder: Path
    """For files; it exists."""
    cells: tuple[FinishedCell, ...]
    """Empty where the study has no tasks."""
    options: Mapping[str, Any]
    """Of the step."""
    paper: Numbers


def analyse(study: Study, scale: Scale, at: str, folder: Path, jobs: tuple[Job, ...]) -> list[str]:
    """Run all steps; their Markdown.

    Raises:
        UserError, ValueError: a step cannot do its work; one line.
    """
    cells = tuple(
        FinishedCell(
            job.task,
            job.arm,
            job.seed,
            job.config,
            study.tasks[job.task].transfer,
            job.cell,
        )
        for job in jobs
        if job.cell.standing(job.wanted).state is State.DONE
    )
    if study.tasks and not cells:
        return []
    texts: list[str] = []
    for step in study.analysis:
        options = {**step.options, **scale.analysis}
        finished = Finished(study.name, at, folder, cells, options, study.paper)
        texts.append(function_of(step.run)(finished))
    return texts
