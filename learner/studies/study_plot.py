"""Pictures of a study.

    measured -> curves.png      tests during training over steps, a panel for each task
    rows     -> points.png      what was reached in the end, with the paper's numbers as crosses
    rows     -> transfer.png    the same over the number of agents, where policies were moved
    rows     -> bytes.png       what was reached over bytes, where bytes were measured

Bands and bars are 95 % intervals over seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learner.studies.figure_style import (
    BACKGROUND,
    TEXT,
    canvas,
    colour,
    draw_curve,
    label_ends,
    label_steps,
    marker,
)
from learner.studies.figures import Measured, Row, in_paper
from learner.studies.intervals import Interval, student
from learner.studies.plot import mean_curve, read_evaluations
from learner.studies.study import Study
from learner.studies.tables import in_print

_ACROSS = 3
"""Panels in a row."""


def draw_all(
    study: Study,
    measured: Sequence[Measured],
    rows: Sequence[Row],
    headlines: Mapping[str, str],
    folder: Path,
) -> None:
    """Every picture for which there is something to show."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    _curves(measured, arms, headlines, folder / "curves.png")
    _points(study, rows, arms, headlines, folder / "points.png")
    moved = [row for row in rows if "@" in row.task]
    if moved:
        _transfer(measured, rows, arms, headlines, folder / "transfer.png")
    if "edge_bytes" in study.report and any("edge_bytes" in row.figures for row in rows):
        _bytes(rows, arms, headlines, folder / "bytes.png")


def _task_of(label: str) -> str:
    return label.partition("@")[0].partition(" vs ")[0]


def _curves(
    measured: Sequence[Measured], arms: Sequence[str], headlines: Mapping[str, str], out: Path
) -> None:
    runs: dict[str, dict[str, dict[int, Path]]] = {}
    for each in measured:
        by_arm = runs.setdefault(each.job.task, {}).setdefault(each.arm, {})
        by_arm[each.seed] = each.job.cell.policy().parent
    with canvas(out, *_grid(len(runs)), size=(4.6, 2.9)) as panels:
        for axes, (task, by_arm) in zip(panels, runs.items(), strict=False):
            figure, ends = headlines[task], list[tuple[str, float]]()
            name = "win rate" if figure == "win_rate" else figure
            for arm in arms:
                tests = [read_evaluations(run) for run in by_arm.get(arm, {}).values()]
                curve = mean_curve(tests, name)
                if curve is None:
                    continue
                mean, seeds = curve.reached.mean(0), len(curve.reached)
                width = np.zeros_like(mean)
                if seeds > 1:
                    width = student(seeds - 1) * curve.reached.std(0, ddof=1) / seeds**0.5
                draw_curve(axes, curve.steps, mean, width, arms.index(arm))
                ends.append((arm, float(mean[-1])))
            axes.set_title(task, loc="left", color=TEXT)
            axes.set_xlabel("environment steps")
            label_steps(axes)
            axes.set_ylabel(in_print(figure))
            if figure == "win_rate":
                axes.set_ylim(-0.03, 1.03)
            axes.figure.canvas.draw()
            label_ends(axes, ends)
        _remove(panels[len(runs) :])


def _points(
    study: Study,
    rows: Sequence[Row],
    arms: Sequence[str],
    headlines: Mapping[str, str],
    out: Path,
) -> None:
    tasks = list(dict.fromkeys(row.task for row in rows))
    size = (4.2, 0.3 * len(arms) + 1.0)
    with canvas(out, *_grid(len(tasks)), size=size) as panels:
        for axes, task in zip(panels, tasks, strict=False):
            own = {row.arm: row for row in rows if row.task == task}
            for place, arm in enumerate(arms):
                if arm in own and "headline" in own[arm].figures:
                    _bar(axes, own[arm].figures["headline"], place, arms.index(arm))
                figure = headlines[_task_of(task)]
                theirs, _ = in_paper(study.paper, figure, task, arm)
                if theirs is not None:
                    axes.plot(theirs, place, "x", color=TEXT, markersize=5)
            axes.set_yticks(range(len(arms)), arms)
            axes.set_ylim(len(arms) - 0.5, -0.5)
            axes.locator_params(axis="x", nbins=5)
            axes.grid(visible=False, axis="y")
            axes.set_title(f"{task}: {in_print(headlines[_task_of(task)])}", loc="left")
        _remove(panels[len(tasks) :])


def _bar(axes: Any, interval: Interval, place: float, index: int) -> None:
    half = interval.half
    axes.errorbar(
        interval.mean,
        place,
        xerr=None if half is None else half,
        fmt=marker(index),
        color=colour(index),
        markerfacecolor="white" if half is None else colour(index),
        capsize=3,
    )


def _transfer(
    measured: Sequence[Measured],
    rows: Sequence[Row],
    arms: Sequence[str],
    headlines: Mapping[str, str],
    out: Path,
) -> None:
    sizes = {each.task: each.evaluation.agents or each.job.config.num_agents for each in measured}
    tasks = list(dict.fromkeys(_task_of(row.task) for row in rows if "@" in row.task))
    with canvas(out, *_grid(len(tasks)), size=(4.6, 2.9)) as panels:
        for axes, task in zip(panels, tasks, strict=False):
            ends: list[tuple[str, float]] = []
            for arm in arms:
                own = [row for row in rows if _task_of(row.task) == task and row.arm == arm]
                own = [row for row in own if "headline" in row.figures]
                own = sorted(own, key=lambda row: sizes[row.task])
                if not own:
                    continue
                means = [row.figures["headline"] for row in own]
                index = arms.index(arm)
                axes.errorbar(
                    [sizes[row.task] for row in own],
                    [mean.mean for mean in means],
                    yerr=[mean.half or 0.0 for mean in means],
                    fmt=f"{marker(index)}-",
                    color=colour(index),
                    capsize=3,
                )
                ends.append((arm, means[-1].mean))
            axes.set_xticks(sorted({sizes[row.task] for row in rows if _task_of(row.task) == task}))
            axes.set_title(f"trained as {task}", loc="left")
            axes.set_xlabel("agents")
            axes.set_ylabel(in_print(headlines[task]))
            axes.figure.canvas.draw()
            label_ends(axes, ends)
        _remove(panels[len(tasks) :])


def _bytes(
    rows: Sequence[Row], arms: Sequence[str], headlines: Mapping[str, str], out: Path
) -> None:
    known = [row for row in rows if {"edge_bytes", "headline"} <= row.figures.keys()]
    tasks = list(dict.fromkeys(row.task for row in known))
    with canvas(out, *_grid(len(tasks)), size=(4.6, 3.2)) as panels:
        for axes, task in zip(panels, tasks, strict=False):
            own = sorted(
                (row for row in known if row.task == task),
                key=lambda row: row.figures["edge_bytes"].mean,
            )
            across = [row.figures["edge_bytes"] for row in own]
            reached = [row.figures["headline"] for row in own]
            axes.plot(
                [x.mean for x in across], [y.mean for y in reached], color=BACKGROUND, zorder=1
            )
            for row, x, y in zip(own, across, reached, strict=True):
                index = arms.index(row.arm)
                axes.errorbar(
                    x.mean,
                    y.mean,
                    xerr=x.half,
                    yerr=y.half,
                    fmt=marker(index),
                    color=colour(index),
                    capsize=3,
                    label=row.arm,
                )
            axes.legend()
            axes.set_title(task, loc="left")
            axes.set_xlabel(in_print("edge_bytes"))
            axes.set_ylabel(in_print(headlines[_task_of(task)]))
        _remove(panels[len(tasks) :])


def _grid(number: int) -> tuple[int, int]:
    columns = max(min(number, _ACROSS), 1)
    return max(-(-number // columns), 1), columns


def _remove(panels: Sequence[Any]) -> None:
    for axes in panels:
        axes.remove()
