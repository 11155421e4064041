"""The protocol's results as pictures.

rows  -> what is reached over the size of the model      (figure 8, with size for sparsity)
cells -> evaluations during training over steps          (figures 13 to 15)
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvName
from runtime.cells import OPPONENTS, Cell
from runtime.methods import METHODS
from runtime.plot import read_evaluations
from runtime.protocol_table import Row

_GRID = 60
"""Points of a mean curve: evaluations of several runs do not fall on the same steps."""


def draw_sizes(rows: Sequence[Row], task: EnvName, out: Path) -> None:
    """Reached over size, both as shares of the dense method's; a line through each method's
    sparsities. Rows without these shares are left out.
    """
    with _canvas(out, len(OPPONENTS[task])) as panels:
        for axes, opponent in zip(panels, OPPONENTS[task], strict=True):
            for base in METHODS:
                own = [row for row in rows if row.name.partition("@")[0] == base]
                own = [row for row in own if row.size is not None and opponent in row.normalised]
                own.sort(key=lambda row: row.size or 0.0)
                if not own:
                    continue
                reached = [row.normalised[opponent] for row in own]
                axes.errorbar(
                    [row.size for row in own],
                    [spread.mean for spread in reached],
                    yerr=[spread.deviation or 0.0 for spread in reached],
                    fmt="o-",
                    markersize=4,
                    capsize=3,
                    label=base,
                )
            axes.set_xscale("log")
            axes.set_xlabel("parameters in training, of dense")
            axes.set_ylabel(f"{_figure(task)}{f' against {opponent}' * bool(opponent)}, of dense")
            axes.axhline(0.97, color="grey", linestyle=":", linewidth=1)
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8)


def draw_curves(cells: Sequence[Cell], task: EnvName, out: Path) -> None:
    """Mean over seeds of each method of table 1, and from the lowest to the highest a band."""
    grouped: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.method.name.partition("@")[0] in METHODS:
            grouped.setdefault(cell.method.name, []).append(cell)
    with _canvas(out, 1) as (axes,):
        for name, own in grouped.items():
            curve = mean_curve(own, task)
            if curve is None:
                continue
            axes.fill_between(curve.steps, curve.reached.min(0), curve.reached.max(0), alpha=0.15)
            axes.plot(curve.steps, curve.reached.mean(0), label=name)
        axes.set_xlabel("environment steps")
        axes.set_ylabel(f"evaluation {_figure(task)}")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)


class Curve(NamedTuple):
    """Evaluations of several runs, as if they had been at the same steps."""

    steps: NDArray[np.floating]
    """[P] that all runs have come to."""
    reached: NDArray[np.floating]
    """[R, P] by each run."""


def mean_curve(cells: Sequence[Cell], task: EnvName) -> Curve | None:
    """Along straight lines between the evaluations of a run; None if there were none."""
    curves = [read_evaluations(cell.policy().parent) for cell in cells]
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    steps_P = np.linspace(0, min(curve[-1].env_steps for curve in curves), _GRID)
    reached_RP = [
        np.interp(
            steps_P,
            [e.env_steps for e in curve],
            [e.win_rate if task == "battle" else e.return_mean for e in curve],
        )
        for curve in curves
    ]
    return Curve(steps_P, np.array(reached_RP))


def _figure(task: EnvName) -> str:
    return "win rate" if task == "battle" else "mean return"


@contextmanager
def _canvas(out: Path, panels: int) -> Generator[Any]:
    """Axes side by side, written to a file in the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pyplot: Any = plt  # matplotlib is typed in part only
    figure, axes = pyplot.subplots(
        1, panels, figsize=(7 * panels, 4), layout="constrained", squeeze=False
    )
    yield axes[0]
    figure.savefig(out, dpi=120)
    pyplot.close(figure)
