"""One command for all measurements.

python -m tests.benchmarks                          all of them, at most twenty minutes
python -m tests.benchmarks --quick                  at most three
python -m tests.benchmarks lockstep --repeat 3      some of them
python -m tests.benchmarks --list
python -m tests.benchmarks --render benchmarks.json > tables.md
"""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from tests.benchmarks import ray_actors
from tests.benchmarks.lockstep import HALF
from tests.benchmarks.machine import ROOT, load_average, machine, source
from tests.benchmarks.measuring import Measuring
from tests.benchmarks.plan import ABOUT, OF_THEIR_OWN, QUICK, STANDALONE, STANDARD, plan
from tests.benchmarks.record import RecordError, Session, read
from tests.benchmarks.report import render, show


@dataclass(frozen=True, kw_only=True)
class Options:
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """What to measure; nothing means everything (--list)."""

    list: bool = False
    """Say what there is, and how long it takes."""

    quick: bool = False
    """Small sizes, at most three minutes; without it standard ones, at most twenty."""

    out: str = "benchmarks.json"
    """File for the figures, written after every turn."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the learner computes."""

    repeat: Annotated[
        int, tyro.conf.arg(help="Repetitions of everything; tables show medians.")
    ] = 1

    resume: bool = False
    """Go on with the file: what it holds is not measured again."""

    minutes: float = float("inf")
    """Begin nothing that would not be over by then; --resume does the rest."""

    policy: str = HALF
    """Battle's policy where gates are learned: a file, untrained, or half (half of the edges)."""

    ray_python: str = ""
    """Interpreter that has ray and numpy, if this one has not."""

    render: str = ""
    """Print the tables of a file as markdown, and measure nothing."""


_PIPE_WIDTH = 150
"""Columns of tables that no terminal cuts off."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 if everything was measured, 1 if something failed, 3 if turns are left."""
    options = tyro.cli(Options, args=argv, prog="python -m tests.benchmarks")
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    try:
        if options.render:
            print(render(read(Path(options.render))))
            return 0
        scripts = [name for name in options.names if name in STANDALONE]
        named = [name for name in options.names if name not in STANDALONE]
        turns = plan(
            named,
            QUICK if options.quick else STANDARD,
            repeat=options.repeat,
            device=options.device,
            policy=options.policy,
            has_ray=bool(options.ray_python) or ray_actors.is_installed(),
        )
        session = _session(options)
    except (RecordError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.list:
        turns = plan(tuple(ABOUT), QUICK if options.quick else STANDARD, repeat=options.repeat)
        for name, about in {**ABOUT, **STANDALONE, **OF_THEIR_OWN}.items():
            minutes = sum(turn.expected_s for turn in turns if turn.benchmark == name) / 60
            console.print(f"{name:15} {about}" + (f" ({minutes:.1f} min)" if minutes else ""))
        return 0
    for script in scripts:
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{script}"], cwd=ROOT, check=True)
    if scripts and not named:
        return 0
    measuring = Measuring(session, Path(options.out), console, options.ray_python or sys.executable)
    done = measuring.run(turns, options.minutes)
    show(session, console)
    if not done:
        return 3
    return 1 if any(row.error for row in session.rows) else 0


def _session(options: Options) -> Session:
    """A new one, or the one that is to be continued.

    Raises:
        RecordError: the file to go on with cannot be read.
        ValueError: it is of another machine or commit.
    """
    path = Path(options.out)
    fresh = Session(
        begun=datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=machine(),
        source=source(),
        options=dataclasses.asdict(options) | {"minutes": None},
        load_before=load_average(),
    )
    if not options.resume or not path.exists():
        return fresh
    session = read(path)
    for name in ("machine", "source"):
        before, now = getattr(session, name), getattr(fresh, name)
        if before != now:
            raise ValueError(f"{path} was measured on another {name}: {before}, this is {now}")
    return session


if __name__ == "__main__":
    sys.exit(main())
