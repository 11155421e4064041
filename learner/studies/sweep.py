"""A study of your own, from the command line: options × seeds, with tables, intervals and pictures.

    python -m learner.studies.sweep --out results/price --seeds 0 1 2 \\
        --vary gate.price=0,0.0005,0.001 comm=sops,none -- --env relay --agents 8 --steps 2000

    every combination of the values is an arm; what stands behind -- is runtime.launch's, for all

The machinery is that of learner/studies/run.py: what is done is skipped, what was interrupted goes
on.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

from configs.errors import UserError
from configs.load import ConfigError, exit_with_error, load_run_config, parse_command_line, value_of
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_AGENTS, MAX_EPISODES, MAX_SEED, TrackerName
from envs import registry
from learner.studies.child import Stop
from learner.studies.plan import Request, plan
from learner.studies.pool import PoolOptions
from learner.studies.report import standings
from learner.studies.run import require_pairs, work
from learner.studies.study import Arm, Options, Scale, Study, Task

_REPORT = ("headline", "auc", "return", "out_degree", "edge_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions(PoolOptions):
    """Train every combination of some options' values with several seeds, and compare them."""

    vary: tuple[str, ...] = ()
    """Options of runtime.launch and their values: gate.price=0,0.001 comm=sops,none. Where a value
    has a comma itself, | stands between the values: 'comm.options=k=2|k=3'."""

    seeds: Annotated[tuple[int, ...], between(0, MAX_SEED)] = (0, 1, 2)
    """Seeds of the trainings."""

    out: Path = Path("results/sweep")
    """Folder of trainings, tables and pictures."""

    episodes: Annotated[int, between(1, MAX_EPISODES)] = 20
    """Greedy episodes of each final evaluation."""

    transfer: Annotated[tuple[int, ...], between(2, MAX_AGENTS)] = ()
    """Numbers of agents at which the policies are evaluated as well."""

    simulate: bool = False
    """Final evaluations in one process: faster, and no bytes are measured."""

    report: tuple[str, ...] = _REPORT
    """Figures of the table: headline, which is the environment's own, or names of its metrics."""

    jobs: Annotated[int, between(0, 1024)] = 0
    """Trainings at once. 0 takes one for each core where each is one process, and else one; as many
    as have room on a Ray cluster."""

    minutes: Annotated[float, within(0.0, 1e6)] = 0.0
    """Stop cleanly after so many minutes; 0 works everything off."""

    track: TrackerName = "none"
    """Follow the trainings with wandb or trackio as well (docs/studies.md)."""

    list: bool = False
    """Say what is done, half done and missing, and begin nothing."""

    def __post_init__(self) -> None:
        check_ranges(self)
        self.require_pool()
        if not self.vary:
            raise ValueError("vary: name at least one option and its values")
        if not self.seeds:
            raise ValueError("seeds: name at least one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each once, got {' '.join(map(str, self.seeds))}")
        require_pairs("vary", self.vary)


def study_of(options: SweepOptions, words: Sequence[str]) -> Study:
    """The sweep as a study.

    Args:
        words: of runtime.launch, for all arms.

    Raises:
        ConfigError: they name what a sweep decides itself, or runtime.launch refuses them.
    """
    for own in ("--seed", "--resume"):
        if value_of(words, own) is not None:
            raise ConfigError(f"{own} behind --: a sweep decides it itself (--seeds)")
    base = load_run_config(words, population=registry.population_of)
    task = Task(env=base.env.name, transfer=options.transfer)
    return Study(
        name="sweep",
        title=f"{', '.join(name for name, _ in _varied(options.vary))} on {base.env.name}",
        tasks={base.env.name: task},
        arms=arms_of(options.vary),
        report=options.report,
        scales={
            "small": Scale(
                seeds=options.seeds,
                episodes=options.episodes,
                simulate=options.simulate,
                serial=base.runtime.serial,
            )
        },
    )


def arms_of(vary: Sequence[str]) -> dict[str, Arm]:
    """All combinations, named by what is varied.

    arms_of(["gate.price=0,1", "comm=sops,none"]) has four: "gate.price=0 comm=sops", …
    """
    varied = _varied(vary)
    arms: dict[str, Arm] = {}
    for values in product(*(values for _, values in varied)):
        chosen: Options = {name: value for (name, _), value in zip(varied, values, strict=True)}
        arms[" ".join(f"{name}={value}" for name, value in chosen.items())] = Arm(options=chosen)
    return arms


def _varied(vary: Sequence[str]) -> list[tuple[str, list[str]]]:
    pairs = (word.partition("=") for word in vary)
    return [(name, text.split("|" if "|" in text else ",")) for name, _, text in pairs]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if something failed, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    at = argv.index("--") if "--" in argv else len(argv)
    own, words = argv[:at], argv[at + 1 :]
    try:
        options = parse_command_line(SweepOptions, own, prog="python -m learner.studies.sweep")
        study = study_of(options, words)
        request = Request(scale="small", out=options.out, base=tuple(words), track=options.track)
        planned = plan(study, request)
        if options.list:
            print("\n".join(standings(study, planned)))
            return 0
    except (UserError, ValueError) as error:
        exit_with_error(error)
    stop = Stop(options.minutes)
    return work(study, request, planned, options.out, options.jobs, stop, options)


if __name__ == "__main__":
    run_command(main)
