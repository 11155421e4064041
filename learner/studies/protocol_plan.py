"""What the protocol is asked for, as cells and the commands that fill them.

ProtocolOptions -> methods × seeds -> Job: cell, arguments of runtime.launch, configuration
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

from configs.load import load_run_config
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_EPISODES, MAX_SEED, MAX_STEPS, EnvName, RunConfig
from learner.studies.cells import Cell
from learner.studies.methods import METHODS, Method, ablations, resolve

_OURS = ("seed", "steps", "env", "env.name", "config", "resume", "policy")
"""Options of runtime.launch that differ by cell, or are options of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolOptions:
    """Work off the comparison of sparse methods, or go on with it."""

    task: EnvName
    """battle (20 agents) or relay (16)."""

    methods: tuple[str, ...] = METHODS
    """Rows of the table; NAME@SPARSITY trains one at another sparsity than the presets' 0.9."""

    ablations: bool = False
    """Tables 6 to 10 of the paper as well; a few thousand steps and one seed are a smoke test."""

    seeds: Annotated[tuple[int, ...], between(0, MAX_SEED)] = (0, 1, 2)
    """Seeds of the trainings."""

    steps: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps of a training; 0 takes the presets'."""

    episodes: Annotated[int, between(1, MAX_EPISODES)] = 100
    """Greedy episodes of each evaluation, the same ones for all."""

    out: Path = Path("results/mast")
    """Folder of runs and results; a folder for each task within."""

    minutes: Annotated[float, within(0.0, 1e6)] = 0.0
    """Stop cleanly after so many minutes; 0 works everything off."""

    options: tuple[str, ...] = ()
    """Further options of runtime.launch for all trainings, a value each: device=cpu env-copies=8.
    Sizes of tiny stay those of its preset, whatever is said of sparsity."""

    list: bool = False
    """Say what is done, half done and missing, and begin nothing."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.seeds or not self.methods:
            raise ValueError("methods and seeds: name at least one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each once, got {' '.join(map(str, self.seeds))}")
        if wrong := [word for word in self.options if "=" not in word.lstrip("=")]:
            raise ValueError(f"options: {', '.join(wrong)} is not of the form name=value")
        names = [word.partition("=")[0] for word in self.options]
        if own := [name for name in names if name in _OURS]:
            raise ValueError(f"options: {', '.join(own)} is what the protocol itself decides")

    @property
    def flags(self) -> tuple[str, ...]:
        """`options` as a command line has them."""
        pairs = (word.partition("=") for word in self.options)
        return tuple(flag for name, _, value in pairs for flag in (f"--{name}", value))

    @property
    def folder(self) -> Path:
        return self.out / self.task


class Job(NamedTuple):
    """A cell and what it is to become."""

    cell: Cell
    arguments: tuple[str, ...]
    """Of runtime.launch, for a beginning."""
    config: RunConfig


def plan(options: ProtocolOptions) -> list[Job]:
    """All cells, a seed of every method before the next seed, so that early results compare.

    Raises:
        ConfigError: an unknown method, options that runtime.launch would refuse, or a cell that was
            begun with others.
    """
    methods = [resolve(options.task, name, options.steps) for name in options.methods]
    if options.ablations:
        methods += ablations(options.task, options.steps)
    # MAST is a row of table 1 and of every ablation.
    by_name = {method.name: method for method in methods}
    jobs = [job for method in by_name.values() for job in jobs_of(options, method, options.seeds)]
    for job in jobs:
        job.cell.require(job.config)
    return sorted(jobs, key=lambda job: options.seeds.index(job.cell.seed))


def jobs_of(options: ProtocolOptions, method: Method, seeds: Iterable[int]) -> list[Job]:
    """The cells of a method, looked at by nobody yet.

    Raises:
        ConfigError: options that runtime.launch would refuse.
    """
    arguments = (*method.options, *options.flags)
    config = load_run_config(arguments)
    return [
        Job(
            Cell(method, seed, options.folder / method.name / f"seed-{seed}"),
            (*arguments, "--seed", f"{seed}"),
            replace(config, seed=seed),
        )
        for seed in seeds
    ]
