"""A study at a scale as cells, and the commands that fill them.

    Study, Request -> tasks × arms × seeds -> Job: cell, arguments of runtime.launch, what is wanted

What `runtime.launch` would refuse becomes a Refusal: a row that says why, beside those that run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import configs
from configs.algorithms.described import traits_of
from configs.effects import effective
from configs.errors import UserError
from configs.load import ConfigError, load_run_config
from configs.schema import RunConfig, TrackerName
from envs import registry
from learner.studies.cells import Cell, Evaluation, Wanted, folder_name
from learner.studies.headline import opponents_of
from learner.studies.study import Arm, Options, Scale, ScaleName, Study, Task, function_of

_PRESETS = Path(configs.__file__).parent
_T = TypeVar("_T")
DECIDED = ("seed", "env", "env.name", "resume", "steps")
"""Options of runtime.launch that a study itself decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Which part of a study is asked for, and where."""

    scale: ScaleName
    out: Path
    tasks: tuple[str, ...] = ()
    """Empty takes those of the scale; so with the others."""
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    steps: int = 0
    episodes: int = 0
    base: tuple[str, ...] = ()
    """Options of runtime.launch below those of the study, as a command line has them."""
    words: tuple[str, ...] = ()
    """Further ones above all others."""
    track: TrackerName = "none"


class Job(NamedTuple):
    """A cell, and what it is to become."""

    task: str
    arm: str
    seed: int
    cell: Cell
    arguments: tuple[str, ...]
    """Of runtime.launch, for a beginning."""
    config: RunConfig
    wanted: Wanted
    memory: bool = False
    """Whether the memory of its training is looked at."""

    @property
    def label(self) -> str:
        return f"{self.task}, {self.arm}, seed {self.seed}"

    def evaluate(self, evaluation: Evaluation) -> tuple[str, ...]:
        """Arguments of runtime.evaluate."""
        env = self.config.env
        agents = evaluation.agents or self.config.num_agents
        policy = self.cell.policy(best=evaluation.best)
        words = ("--policy", f"{policy}", "--env", env.name, "--agents", f"{agents}")
        words += ("--episodes", f"{self.wanted.episodes}", "--json")
        words += ("--env.options", env.options) if env.options else ()
        words += ("--opponent", evaluation.opponent) if evaluation.opponent else ()
        words += ("--sampled",) if self.config.evaluation.sampled else ()
        return (*words, "--simulate") if self.wanted.simulate else words


class Refusal(NamedTuple):
    """An arm that cannot run on a task."""

    task: str
    arm: str
    why: str


class Plan(NamedTuple):
    jobs: tuple[Job, ...]
    refusals: tuple[Refusal, ...]


def plan(study: Study, request: Request) -> Plan:
    """All cells, a seed of every task and arm before the next seed, so that early results compare.

    Raises:
        ConfigError: the study has no such scale, task or arm, or a cell was begun with other
            options.
    """
    scale = scale_of(study, request)
    tasks = _chosen("task", request.tasks or scale.tasks, study.tasks)
    jobs: list[Job] = []
    refusals: list[Refusal] = []
    for task_name, task in tasks.items():
        for arm_name, words, arm in _arms(study, scale, task, request):
            try:
                jobs += _jobs(study, scale, request, task_name, task, arm_name, words, arm)
            except (UserError, ValueError) as error:
                refusals.append(Refusal(task_name, arm_name, " ".join(str(error).split())))
    for job in jobs:
        job.cell.require(job.config)
    order = {seed: number for number, seed in enumerate(scale.seeds)}
    return Plan(tuple(sorted(jobs, key=lambda job: order[job.seed])), tuple(refusals))


def whole(study: Study, request: Request) -> Request:
    """The same with all of the scale's tasks, arms and seeds beside those that are asked for: a
    table of a part does not replace that of all.
    """
    scale = scale_of(study, replace(request, seeds=()))
    arms = scale.arms or tuple(study.arms)
    return replace(
        request,
        tasks=_both(scale.tasks or tuple(study.tasks), request.tasks),
        arms=_both(arms, request.arms),
        seeds=_both(scale.seeds, request.seeds),
    )


def _both(first: tuple[_T, ...], second: tuple[_T, ...]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def scale_of(study: Study, request: Request) -> Scale:
    """The scale, with what the request says otherwise.

    Raises:
        ConfigError: the study has it not.
    """
    scale = study.scales.get(request.scale)
    if scale is None:
        known = ", ".join(study.scales)
        raise ConfigError(f"{study.name} has no scale {request.scale}: choose from {known}")
    return replace(
        scale,
        seeds=request.seeds or scale.seeds,
        steps=request.steps or scale.steps,
        episodes=request.episodes or scale.episodes,
    )


def evaluations_of(task: Task, *, best: bool = False) -> tuple[Evaluation, ...]:
    """At the trained size first."""
    opponents = task.opponents or opponents_of(task.env)
    sizes = (None, *task.transfer)
    return tuple(Evaluation(size, opponent, best) for size in sizes for opponent in opponents)


def _arms(
    study: Study, scale: Scale, task: Task, request: Request
) -> Iterator[tuple[str, tuple[str, ...], Arm]]:
    """Name, words in front, and the arm itself."""
    names = request.arms or scale.arms or tuple(study.arms)
    if not study.methods:
        for name, arm in _chosen("arm", names, study.arms).items():
            yield name, (), arm
        return
    resolve = function_of(study.methods)
    for name in names:
        yield name, resolve(task.env, name, scale.steps or 0), study.arms.get(name, Arm())


def _jobs(
    study: Study,
    scale: Scale,
    request: Request,
    task_name: str,
    task: Task,
    arm_name: str,
    words: tuple[str, ...],
    arm: Arm,
) -> Iterator[Job]:
    agents = {"agents": task.agents} if task.agents else {}
    options = {**study.options, **agents, **scale.options, **task.options}
    options |= scale.by_task.get(task_name, {}) | arm.options | scale.by_arm.get(arm_name, {})
    steps = request.steps or options.pop("steps", scale.steps)
    if own := [name for name in options if name.replace("_", "-") in DECIDED]:
        raise ConfigError(f"{', '.join(own)}: a study says so elsewhere")
    is_serial = scale.serial or arm.central
    arguments = (*request.base, *words, "--env", task.env, *flags(options))
    arguments += ("--steps", f"{steps}") if steps else ()
    # Two such cells at once would want all cores each.
    arguments += ("--serial", "--learner.threads", "1") if is_serial else ()
    arguments += ("--track", request.track) if request.track != "none" else ()
    arguments += request.words
    config = effective(load_run_config(arguments, population=registry.population_of))
    # What a guide alone has learnt no agent acts by: its figures are of tests during training.
    evaluates = scale.episodes > 0 and not traits_of(config.learner).centralised
    wanted = Wanted(
        steps=config.steps,
        evaluations=evaluations_of(task, best=scale.policy == "best") if evaluates else (),
        episodes=scale.episodes,
        simulate=scale.simulate or arm.central,
    )
    if wanted.simulate and wanted.evaluations and config.evaluation.sampled:
        raise ConfigError(
            "a simulated evaluation plays the likeliest actions: leave out the scale's simulate or "
            "evaluation.sampled"
        )
    folder = request.out / "cells" / folder_name(config)
    for seed in scale.seeds:
        yield Job(
            task_name,
            arm_name,
            seed,
            Cell(folder / f"seed-{seed}"),
            (*arguments, "--seed", f"{seed}"),
            replace(config, seed=seed),
            wanted,
            study.memory,
        )


def flags(options: Options) -> tuple[str, ...]:
    """Options as a command line has them; `config` is looked for among our presets first."""
    words: list[str] = []
    for name, value in options.items():
        group, dot, last = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{group}{dot}{'' if value else 'no-'}{last}")
            continue
        several = cast("list[Any]", value) if isinstance(value, list) else [value]
        words += [f"--{group}{dot}{last}", *(f"{one}" for one in several)]
        if name == "config" and (preset := _PRESETS / words[-1]).is_file():
            words[-1] = f"{preset}"
    return tuple(words)


def _chosen(what: str, names: tuple[str, ...], known: Mapping[str, _T]) -> dict[str, _T]:
    """Those of the names, or all.

    Raises:
        ConfigError: there is no such one.
    """
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no {what} {name}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else dict(known)
