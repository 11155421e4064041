"""Performance profiles: which share of all runs reaches at least so much (Agarwal et al., 2021).

    headline of each task, arm and seed -> normalised by the task -> share above tau, bands, picture

A task's scores are normalised by the lowest and the highest of all its runs, as MAGPO's protocol
has it, unless the options say its bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dacite
import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from learner.studies.analysis import Finished, FinishedCell
from learner.studies.figure_style import canvas, draw_curve, label_ends
from learner.studies.headline import headline_of
from learner.studies.intervals import profiles
from learner.studies.plot import read_evaluations

_POINTS = 101


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileOptions:
    """Of the step."""

    bounds: dict[str, tuple[float, float]] | None = None
    """By task: what counts as 0 and as 1."""


def study(study: Finished) -> str:
    """Draw `profiles.png`; Markdown that shows it.

    Raises:
        UserError: an option is none, or rliable is not installed.
    """
    try:
        options = dacite.from_dict(
            ProfileOptions, dict(study.options), dacite.Config(cast=[tuple], strict=True)
        )
    except dacite.DaciteError as error:
        raise UserError(f"options of profiles: {error}") from error
    scores = normalised_scores(scores_of(study.cells), options.bounds or {})
    if not scores:
        return ""
    taus = np.linspace(0.0, 1.0, _POINTS)
    with canvas(study.folder / "profiles.png", 1, 1, size=(4.6, 3.2)) as panels:
        ends: list[tuple[str, float]] = []
        for number, (arm, (share, low, high)) in enumerate(profiles(scores, taus).items()):
            draw_curve(panels[0], taus, share, np.maximum(high - share, share - low), number)
            ends.append((arm, float(share[-1])))
        panels[0].set_xlabel("normalised figure")
        panels[0].set_ylabel("share of runs at or above")
        label_ends(panels[0], ends)
    return "\n![Performance profiles](profiles.png)\n"


def scores_of(cells: tuple[FinishedCell, ...]) -> dict[str, dict[str, dict[int, float]]]:
    """Arm -> task -> seed -> the headline in the last test of the training."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for cell in cells:
        tests = read_evaluations(cell.run)
        if tests:
            name = headline_of(cell.env)
            figure = "win rate" if name == "win_rate" else name
            found.setdefault(cell.arm, {}).setdefault(cell.task, {})[cell.seed] = tests[-1].reached(
                figure
            )
    return found


def normalised_scores(
    scores: Mapping[str, Mapping[str, Mapping[int, float]]],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, NDArray[np.float64]]:
    """[R, M] by arm: a row for each seed, a column for each task; only arms and seeds that have
    every task.
    """
    tasks = sorted({task for by_task in scores.values() for task in by_task})
    limits: dict[str, tuple[float, float]] = {}
    for task in tasks:
        values = [x for by_task in scores.values() for x in by_task.get(task, {}).values()]
        limits[task] = bounds.get(task, (min(values), max(values)))
    found: dict[str, NDArray[np.float64]] = {}
    for arm, by_task in scores.items():
        if any(task not in by_task for task in tasks):
            continue
        seeds = [
            seed for seed in sorted(by_task[tasks[0]]) if all(seed in by_task[t] for t in tasks)
        ]
        if seeds:
            found[arm] = np.array(
                [[_between(by_task[task][seed], *limits[task]) for task in tasks] for seed in seeds]
            )
    return found


def _between(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 1.0
