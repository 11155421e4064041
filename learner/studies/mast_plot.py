"""The results of the study `mast` as pictures.

rows  -> what is reached over the size of the model      (figure 8, with size for sparsity)
cells -> evaluations during training over steps          (figures 13 to 15)
cells -> what each seed has reached in the end

Seven methods in one panel hide each other: each has a panel of its own, with the others in grey.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from configs.schema import EnvName
from learner.studies.analysis import FinishedCell
from learner.studies.figure_style import (
    BACKGROUND,
    TEXT,
    canvas,
    colour,
    draw_curve,
    label_steps,
    marker,
    standard_error,
)
from learner.studies.headline import headline_of, in_print, opponents_of, reached_of
from learner.studies.mast_methods import METHODS, REFERENCE
from learner.studies.mast_table import Row
from learner.studies.plot import Curve, Figure, mean_curve, read_evaluations

_SIZES = (0.01, 0.02, 0.03, 0.06, 0.11, 0.2, 0.5, 1.0)
"""Marks on the axis of sizes; those of the paper's sparsities among them."""
_NAMES: tuple[str, ...] = tuple(METHODS)
_ACROSS = 4
"""Panels in a row."""


def draw_sizes(rows: Sequence[Row], task: EnvName, out: Path) -> None:
    """Reached over size, both as shares of the dense method's; a line through each method's
    sparsities. Rows without these shares are left out.
    """
    opponents = opponents_of(task)
    known = [row for row in rows if row.size is not None and row.normalised]
    by_method = {base: _sizes_of(base, known) for base in METHODS if base != REFERENCE}
    methods = [base for base, own in by_method.items() if own] or [REFERENCE]
    with _panels(out, len(methods) * len(opponents), len(methods)) as panels:
        for number, axes in enumerate(panels):
            opponent, base = opponents[number // len(methods)], methods[number % len(methods)]
            for other in methods:
                own = [row for row in by_method.get(other, ()) if opponent in row.normalised]
                if other != base and own:
                    axes.plot(*_places(own, opponent), color=BACKGROUND, linewidth=1.0, zorder=1)
            own = [row for row in by_method.get(base, ()) if opponent in row.normalised]
            _draw_sizes_of(axes, own, opponent, _NAMES.index(base))
            axes.axhline(1.0, color=TEXT, linestyle=":", linewidth=1.0)
            axes.set_xscale("log")
            axes.set_title(f"{base}{f' against {opponent}' * bool(opponent)}", loc="left")
            axes.set_xticks(_SIZES, [f"{size:.0%}" for size in _SIZES])
            axes.minorticks_off()
            axes.set_xlim(*_limits(known))
            if number % min(len(methods), _ACROSS) == 0:
                axes.set_ylabel(f"{_figure(task)}, of dense")
        note = "dotted: dense. Bars: standard error over 2 seeds or more; hollow: one seed"
        panels[0].figure.suptitle(note, fontsize=8.0, color=TEXT)
        panels[0].figure.supxlabel("parameters in training, of dense", fontsize=9.0)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Of the sizes that are drawn: dense is the dotted line."""
    sizes = [row.size for row in rows if row.size and row.name != REFERENCE] or [1.0]
    return min(sizes) / 1.2, max(sizes) * 1.2


def _sizes_of(base: str, rows: Sequence[Row]) -> list[Row]:
    own = [row for row in rows if row.name.partition("@")[0] == base]
    return sorted(own, key=lambda row: row.size or 0.0)


def _places(rows: Sequence[Row], opponent: str) -> tuple[list[float], list[float]]:
    return [row.size or 0.0 for row in rows], [row.normalised[opponent].mean for row in rows]


def _draw_sizes_of(axes: Any, rows: Sequence[Row], opponent: str, index: int) -> None:
    sizes, reached = _places(rows, opponent)
    axes.plot(sizes, reached, color=colour(index), zorder=2)
    for row, size, mean in zip(rows, sizes, reached, strict=True):
        deviation, seeds = row.normalised[opponent].deviation, len(row.seeds)
        axes.errorbar(
            size,
            mean,
            yerr=None if deviation is None else deviation / seeds**0.5,
            fmt=marker(index),
            color=colour(index),
            markerfacecolor="white" if seeds == 1 else colour(index),
            capsize=3,
            zorder=3,
        )


def draw_curves(cells: Sequence[FinishedCell], task: EnvName, out: Path) -> None:
    """Each method of table 1 in a panel: the mean over its seeds with its standard error as a band,
    and each seed as a thin line.
    """
    grouped: dict[str, list[FinishedCell]] = {}
    for cell in cells:
        if cell.arm.partition("@")[0] in METHODS:
            grouped.setdefault(cell.arm, []).append(cell)
    found = {name: method_curve(own, task) for name, own in grouped.items()}
    curves = {name: curve for name, curve in found.items() if curve is not None}
    with _panels(out, max(len(curves), 1), _ACROSS) as panels:
        for index, (axes, name) in enumerate(zip(panels, curves, strict=False)):
            for other, curve in curves.items():
                if other != name:
                    axes.plot(curve.steps, curve.reached.mean(0), color=BACKGROUND, linewidth=0.8)
            own = curves[name]
            for run in own.reached[: len(own.reached) * (len(own.reached) > 1)]:
                axes.plot(own.steps, run, color=colour(index), linewidth=0.6, alpha=0.6)
            mean, error = own.reached.mean(0), standard_error(own.reached)
            draw_curve(axes, own.steps, mean, error, index)
            label_steps(axes)
            axes.set_title(f"{name} ({_seeds(len(own.reached))})", loc="left")
            if index % _ACROSS == 0:
                axes.set_ylabel(f"evaluation {_figure(task)}")
        panels[0].figure.supxlabel("environment steps", fontsize=9.0)
        note = "thick: mean, band: its standard error, thin: each seed, grey: the other methods"
        panels[0].figure.suptitle(note, fontsize=8.0, color=TEXT)


def draw_seeds(cells: Sequence[FinishedCell], task: EnvName, out: Path) -> None:
    """What each seed of each method has reached in the end, against each opponent."""
    reached: dict[str, dict[str, list[float]]] = {}
    for opponent in opponents_of(task):
        for cell in cells:
            if cell.arm.partition("@")[0] in METHODS:
                values = reached.setdefault(opponent, {}).setdefault(cell.arm, [])
                values.append(reached_of(cell.evaluation(opponent), task))
    draw_reached(reached, _figure(task), out)


def draw_reached(
    reached: Mapping[str, Mapping[str, Sequence[float]]], figure: str, out: Path
) -> None:
    """A panel for each opponent, in it a row for each method.

    Args:
        reached: by opponent and method, one figure for each seed.
    """
    number = max((len(methods) for methods in reached.values()), default=1)
    size = (4.2, 0.36 * number + 1.0)
    with canvas(out, columns=max(len(reached), 1), size=size, sharex=True) as panels:
        for axes, (opponent, methods) in zip(panels, reached.items(), strict=False):
            for row, (name, values) in enumerate(methods.items()):
                index = _NAMES.index(name.partition("@")[0])
                # One below the other where they are equal.
                heights = row + np.linspace(-0.2, 0.2, len(values)) * (len(values) > 1)
                axes.plot(values, heights, "o", color=colour(index), markersize=4, alpha=0.55)
                if len(values) > 1:
                    axes.errorbar(
                        np.mean(values),
                        row,
                        xerr=float(standard_error(values)),
                        fmt="|",
                        color=TEXT,
                        markersize=12,
                        capsize=3,
                        zorder=4,
                    )
            names = [f"{name} ({_seeds(len(values))})" for name, values in methods.items()]
            axes.set_yticks(range(len(names)), names)
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.set_title(f"against {opponent}" if opponent else "", loc="left")
            axes.set_xlabel(figure)
        note = "points: seeds; bar: their mean and its standard error"
        panels[0].figure.suptitle(note, fontsize=8.0, color=TEXT)


def method_curve(cells: Sequence[FinishedCell], task: EnvName) -> Curve | None:
    """The evaluations of a method's runs; None if there were none."""
    return mean_curve([read_evaluations(cell.run) for cell in cells], _plotted(task))


def _plotted(task: EnvName) -> Figure:
    return headline_of(task).replace("_", " ")


def _figure(task: EnvName) -> str:
    return in_print(task)


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


@contextmanager
def _panels(out: Path, number: int, across: int) -> Generator[list[Any]]:
    """So many panels with the same axes, no more than `across` and `_ACROSS` beside each other."""
    columns = min(number, across, _ACROSS)
    rows = -(-number // columns)
    with canvas(out, rows, columns, size=(2.7, 2.3), sharex=True, sharey=True) as panels:
        for axes in panels[:number]:
            axes.tick_params(labelbottom=True)  # the panel below may be one that is not there
        for axes in panels[number:]:
            axes.remove()
        yield panels[:number]
