"""Run a study: train what is missing, evaluate it, write tables and pictures beside the paper's.

    python -m learner.studies.run --list
    python -m learner.studies.run sops-fig3 --scale small --jobs 2
    python -m learner.studies.run sops-fig3 --scale small --arms sops none --seeds 0 --list

    configs/studies/NAME.yaml -> cells -> runtime.launch -> runtime.evaluate -> tables, pictures

What is done is skipped, what was interrupted goes on, several calls share the work. docs/studies.md
says more.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from configs.errors import UserError
from configs.load import ConfigError, exit_with_error, parse_command_line
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_EPISODES, MAX_SEED, MAX_STEPS, TrackerName
from learner.studies.child import Stop
from learner.studies.plan import DECIDED, Plan, Request, plan, scale_of, whole
from learner.studies.pool import PoolOptions, open_pool
from learner.studies.report import report, standings
from learner.studies.scheduler import Scheduler
from learner.studies.study import ScaleName, Study, function_of, names, read_study
from runtime.terminal.places import require_folder

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyOptions(PoolOptions):
    """Run a study of configs/studies/, or go on with it."""

    study: Annotated[str, tyro.conf.Positional] = ""
    """Its name, or a .yaml file; left out, --list names all."""

    scale: ScaleName = "smoke"
    """smoke: seconds for each training; small: for a few cores; paper: as much as the paper."""

    out: Path = Path("results/studies")
    """Folder of trainings and results, which studies share."""

    tasks: tuple[str, ...] = ()
    """Scenarios; all of the scale's by default."""

    arms: tuple[str, ...] = ()
    """What is compared; all of the scale's by default."""

    seeds: Annotated[tuple[int, ...], between(0, MAX_SEED)] = ()
    """Seeds of the trainings; the scale's by default."""

    steps: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps of a training; 0 takes the scale's."""

    episodes: Annotated[int, between(0, MAX_EPISODES)] = 0
    """Greedy episodes of each final evaluation, the same ones for all; 0 takes the scale's."""

    jobs: Annotated[int, between(0, 1024)] = 0
    """Trainings at once. 0 takes one for each core where each is one process, and else one; as many
    as have room on a Ray cluster."""

    minutes: Annotated[float, within(0.0, 1e6)] = 0.0
    """Stop cleanly after so many minutes; 0 works everything off."""

    options: tuple[str, ...] = ()
    """Further options of runtime.launch for all trainings: device=cpu env-copies=8."""

    track: TrackerName = "none"
    """Follow the trainings with wandb or trackio as well (docs/studies.md)."""

    list: bool = False
    """Say what is done, half done and missing, and begin nothing."""

    def __post_init__(self) -> None:
        check_ranges(self)
        self.require_pool()
        if not self.study and not self.list:
            raise ValueError("name a study, or give --list")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each once, got {' '.join(map(str, self.seeds))}")
        require_pairs("options", self.options)

    @property
    def request(self) -> Request:
        return Request(
            scale=self.scale,
            out=self.out,
            tasks=self.tasks,
            arms=self.arms,
            seeds=self.seeds,
            steps=self.steps,
            episodes=self.episodes,
            words=words_of(self.options),
            track=self.track,
        )


def require_pairs(option: str, words: Sequence[str]) -> None:
    """Check that words are name=value, and no option that a study decides.

    Raises:
        ValueError: names them.
    """
    if wrong := [word for word in words if "=" not in word.lstrip("=")]:
        raise ValueError(f"{option}: {', '.join(wrong)} is not of the form name=value")
    given = [word.partition("=")[0] for word in words]
    if own := [name for name in given if name in (*DECIDED, "config")]:
        raise ValueError(f"{option}: {', '.join(own)} is what a study itself decides")


def words_of(options: Sequence[str]) -> tuple[str, ...]:
    """name=value as a command line has it."""
    pairs = (word.partition("=") for word in options)
    return tuple(word for name, _, value in pairs for word in (f"--{name}", value))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if something failed, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(StudyOptions, argv, prog="python -m learner.studies.run")
        if not options.study:
            print("\n".join(f"{name:<18} {read_study(name).title}" for name in names()))
            return 0
        study = read_study(options.study)
        planned = plan(study, options.request)
        if options.list:
            print("\n".join(standings(study, planned)))
            return 0
    except (UserError, ValueError) as error:
        exit_with_error(error)
    folder = options.out / f"{study.name}-{options.scale}"
    stop = Stop(options.minutes)
    return work(study, options.request, planned, folder, options.jobs, stop, options)


def work(
    study: Study,
    request: Request,
    planned: Plan,
    folder: Path,
    at_once: int,
    stop: Stop,
    pool_options: PoolOptions,
) -> int:
    """Bring cells to their end, and report; the exit code.

    Args:
        folder: of tables and pictures.
        at_once: cells; 0 decides by how they run.
        pool_options: where they run.
    """
    try:
        require_folder(folder, "--out")
    except ConfigError as error:
        exit_with_error(error)
    for each in planned.refusals:
        print(f"{each.task}, {each.arm}: cannot run: {each.why}", flush=True)
    with ExitStack() as stack:
        try:
            pool = stack.enter_context(open_pool(pool_options, planned.jobs))
        except UserError as error:
            exit_with_error(error)
        scheduler = Scheduler(
            stop,
            at_once or pool.at_once,
            flags=request.words,
            environment={f"{name}_RUN_GROUP": study.name for name in ("WANDB", "TRACKIO")},
            pool=pool,
        )
        with stop.installed():
            try:
                before = scale_of(study, request).before
                for step in study.before:
                    function_of(step.run)(planned.jobs, {**step.options, **before}, stop)
            except (UserError, ValueError) as error:
                exit_with_error(error)
            scheduler.work_off(planned.jobs)
    failures = scheduler.failures + len(planned.refusals)
    try:
        all_of_it = plan(study, whole(study, request))
        # From here on a signal ends the process: what is done lies on disk.
        report(study, request, all_of_it, folder, analyses=not stop.is_due)
        if planned.jobs:
            print(standings(study, all_of_it)[-1], flush=True)
    except (UserError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        failures += 1
    return _INTERRUPTED if stop.signals else int(failures > 0)


if __name__ == "__main__":
    run_command(main)
