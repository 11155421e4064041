"""Two commits side by side: has the hot path become slower?

    python -m tests.benchmarks.commits OLD NEW
    python -m tests.benchmarks.commits main HEAD --cases update-20 lockstep-100 --pairs 9

    OLD, NEW -> a worktree each -> case of OLD, case of NEW, case of NEW, case of OLD, … -> ratios

Each measurement is one case of `lockstep` or `learner_update` in an interpreter of its own that
imports everything from the worktree of its commit. The two are measured in turn, and who begins
alternates, so that a drift of the machine hits both alike. The verdict is the median of the ratios
of neighbours: single figures of a shared machine scatter by a tenth.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from tests.benchmarks.case import CaseError, IsDataclass, run_case
from tests.benchmarks.lockstep import LockstepCase
from tests.benchmarks.machine import ROOT, load_average
from tests.benchmarks.update_case import KEPT_MEMORY, UpdateCase


@dataclass(frozen=True, slots=True)
class Comparison:
    """One case, and the figure by which commits are compared; smaller is better."""

    module: str
    case: IsDataclass
    figure: str


def _lockstep(agents: int, copies: int) -> Comparison:
    case = LockstepCase(env="battle", agents=agents, copies=copies, seconds=5.0)
    return Comparison("tests.benchmarks.lockstep", case, "cpu_us_per_agent_step")


def _update(
    agents: int, batch: int, window: int, updates: int, *, as_trained: bool = False
) -> Comparison:
    case = UpdateCase(
        agents=agents, batch=batch, window=window, updates=updates, as_trained=as_trained
    )
    return Comparison("tests.benchmarks.learner_update", case, "update_s")


CASES: dict[str, Comparison] = {
    "lockstep-20": _lockstep(20, 1),
    "lockstep-20x32": _lockstep(20, 32),
    "lockstep-100": _lockstep(100, 1),
    "lockstep-100x32": _lockstep(100, 32),
    "update-20": _update(20, 8, 24, 30),
    "update-20-trained": _update(20, 8, 24, 30, as_trained=True),
    "update-100": _update(100, 8, 200, 1),
}
"""Battle with agents as processes (agents x copies; cpu of an agent-step), and updates: bare
ones, and one as the preset takes it in mid-training, with teacher and price."""


@dataclass(frozen=True, kw_only=True)
class Options:
    old: tyro.conf.Positional[str]
    """Commit to compare with: a hash, a branch or a tag."""

    new: tyro.conf.Positional[str] = "HEAD"
    """Commit that is judged."""

    cases: tuple[str, ...] = tuple(CASES)
    """What to measure."""

    pairs: Annotated[int, tyro.conf.arg(help="Measurements of each commit and case.")] = 5

    tolerance: float = 0.05
    """Median slow-down that is still accepted; beyond it the exit status is 1."""


@dataclass(slots=True)
class Laps:
    """Figures of one case, pair by pair."""

    figure: str
    old: list[float] = field(default_factory=list[float])
    new: list[float] = field(default_factory=list[float])

    @property
    def ratios(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """(pairs,) new / old: above 1 the new commit is slower."""
        return np.array(self.new) / np.array(self.old)

    @property
    def ratio(self) -> float:
        return float(np.median(self.ratios))


def compare(
    old: Path, new: Path, cases: Sequence[str], pairs: int, console: Console
) -> dict[str, Laps]:
    """Measure the cases in both checkouts, in turn.

    A case that the old one cannot run, because it is younger, is left out with a line.

    Raises:
        CaseError: the new one cannot run a case, or the old one cannot any more.
    """
    laps = {name: Laps(CASES[name].figure) for name in cases}
    for pair in range(pairs):
        for name in tuple(laps):
            lap = laps[name]
            # Who comes second finds a warmer machine: it is not always the same one.
            for is_new in (False, True) if pair % 2 == 0 else (True, False):
                try:
                    figure = _measure(CASES[name], new if is_new else old)
                except CaseError as error:
                    if is_new or pair > 0:
                        raise
                    reason = str(error).splitlines()[-1]
                    console.print(f"{name} is left out, the old commit cannot run it: {reason}")
                    del laps[name]
                    break
                (lap.new if is_new else lap.old).append(figure)
            if name in laps:
                console.print(
                    f"[{pair + 1}/{pairs}] {name}: {lap.old[-1]:.4g} -> "
                    f"{lap.new[-1]:.4g} {lap.figure}, load {load_average()[0]}",
                    highlight=False,
                    markup=False,
                )
    return laps


def _measure(comparison: Comparison, checkout: Path) -> float:
    environment = {"PYTHONPATH": os.fspath(checkout), **KEPT_MEMORY}
    figures = run_case(
        comparison.module,
        comparison.case,
        timeout_s=300.0,
        environment=environment,
        folder=checkout,
    )
    figure = figures[comparison.figure]
    if figure is None:
        raise CaseError(f"{comparison.module} knows no {comparison.figure}")
    return figure


@contextlib.contextmanager
def checkout(commit: str) -> Generator[Path]:
    """A worktree of a commit, which is removed afterwards.

    Raises:
        ValueError: git knows no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="commit-") as folder:
        path = Path(folder) / "tree"
        try:
            _git("worktree", "add", "--detach", os.fspath(path), commit)
        except subprocess.CalledProcessError as error:
            raise ValueError(f"no commit {commit}: {error.stderr.strip()}") from error
        try:
            yield path
        finally:
            _git("worktree", "remove", "--force", os.fspath(path))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)


def table_of(laps: dict[str, Laps]) -> Table:
    table = Table("case", "figure", "old", "new", "new / old", "spread")
    for name, lap in laps.items():
        table.add_row(
            name,
            lap.figure,
            f"{np.median(lap.old):.4g}",
            f"{np.median(lap.new):.4g}",
            f"{lap.ratio:.3f}",
            f"{lap.ratios.min():.3f} to {lap.ratios.max():.3f}",
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 if no case is slower than is accepted, 1 if one is, 2 for bad input."""
    options = tyro.cli(Options, args=argv, prog="python -m tests.benchmarks.commits")
    console = Console(width=None if sys.stdout.isatty() else 120)
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown or options.pairs < 1:
        what = f"no case {', '.join(unknown)}" if unknown else "--pairs must be at least 1"
        print(f"error: {what}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    try:
        with checkout(options.old) as old, checkout(options.new) as new:
            laps = compare(old, new, options.cases, options.pairs, console)
    except (CaseError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(table_of(laps))
    slower = [name for name, lap in laps.items() if lap.ratio > 1.0 + options.tolerance]
    if slower:
        print(f"slower by more than {options.tolerance:.0%}: {', '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
