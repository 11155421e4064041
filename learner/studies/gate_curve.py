"""What a gate costs and what it is worth, of several policies side by side.

python -m runtime.evaluate --policy A … --json > free.json      (one for each policy and budget)
python -m runtime.gate_curve free.json priced.json --out gate.png
python -m runtime.gate_curve prices/0 prices/0.001 … --out prices.png      (a folder for each price)

figures of evaluations -> a Markdown table, and return or win rate over bytes as a picture

A folder is one point of a curve: an evaluation of each seed. What is uncertain of it is how seeds
differ, and of a single file how its episodes do.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from configs.bounded import parse_json, read_text
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line
from learner.studies.figure_style import TEXT, canvas, colour, label_points, marker
from learner.studies.intervals import over_seeds
from runtime.terminal.places import require_picture


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveOptions:
    """Hold evaluations against each other: what they reached, and how many bytes that took."""

    figures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files that `python -m runtime.evaluate … --json` has printed, of real processes; or folders
    of such files, one for each seed: means and 95 % intervals, joined by a line in this order."""

    labels: tuple[str, ...] = ()
    """A name for each; file names without their ending by default, and names of folders."""

    figure: Literal["return", "win rate"] = "return"
    """What was reached."""

    out: Path | None = None
    """Picture to write; the ending decides the format."""

    def __post_init__(self) -> None:
        if not self.figures:
            raise ValueError("figures: name at least one file")
        if self.labels and len(self.labels) != len(self.figures):
            raise ValueError(f"labels: {len(self.labels)} names for {len(self.figures)} files")


class Point(NamedTuple):
    """One policy under one budget, or the policies of several seeds."""

    label: str
    episodes: int
    copies: int
    """Environment copies that a packet served at once: bytes compare at equal numbers only."""
    reached: float
    error: float
    """Standard error of what was reached."""
    open_share: float
    out_degree: float
    edge_bytes: float
    """Messages, beacons and their framing, per agent and step."""
    seeds: int = 0
    """0: a single evaluation."""
    half: float | None = None
    """Of the 95 % interval of what was reached; None: it comes from one seed, and has none."""
    bytes_half: float | None = None
    """The same of the bytes."""

    @property
    def bar(self) -> float:
        """Half of what is drawn."""
        return (self.half or 0.0) if self.seeds else 1.96 * self.error


def read_points(path: Path, label: str, figure: str) -> Point:
    """Read an evaluation, or those in a folder.

    Raises:
        ValueError: they are not figures of evaluations by real processes, or not comparable.
    """
    if not path.is_dir():
        return read_point(path, label, figure)
    files = sorted(path.glob("*.json"))
    if not files:
        raise ValueError(f"{path}: holds no .json file; a folder has an evaluation for each seed")
    return pooled(label, [read_point(file, label, figure) for file in files])


def pooled(label: str, points: Sequence[Point]) -> Point:
    """Several seeds as one point.

    Raises:
        ValueError: packets served different numbers of copies.
    """
    copies = sorted({point.copies for point in points})
    if len(copies) > 1:
        raise ValueError(
            f"{label}: evaluations with {copies[0]} and with {copies[-1]} environment copies have "
            "bytes that do not compare: evaluate all with the same --env-copies"
        )
    reached = over_seeds([point.reached for point in points])
    edge_bytes = over_seeds([point.edge_bytes for point in points])
    assert reached is not None
    assert edge_bytes is not None
    return Point(
        label=label,
        episodes=sum(point.episodes for point in points),
        copies=copies[0],
        reached=reached.mean,
        error=0.0,
        open_share=float(np.mean([point.open_share for point in points])),
        out_degree=float(np.mean([point.out_degree for point in points])),
        edge_bytes=edge_bytes.mean,
        seeds=len(points),
        half=reached.half,
        bytes_half=edge_bytes.half,
    )


def read_point(path: Path, label: str, figure: str) -> Point:
    """Read an evaluation.

    Raises:
        ValueError: not the figures of an evaluation by real processes.
    """
    try:
        figures: dict[str, Any] = parse_json(read_text(path))
        episodes = int(figures["evaluation_episodes"])
        if figure == "return":
            reached, error = figures["return_mean"], figures["return_error"]
        else:
            reached = figures["win_rate"]
            error = (reached * (1.0 - reached) / episodes) ** 0.5
        return Point(
            label=label,
            episodes=episodes,
            copies=int(figures["env_copies"]),
            reached=float(reached),
            error=float(error or 0.0),
            open_share=float(figures["open_share"]),
            out_degree=float(figures["out_degree_mean"]),
            edge_bytes=float(figures["edge_bytes_per_agent_step"]),
        )
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path}: not what `python -m runtime.evaluate … --json` prints of real processes "
            f"({type(error).__name__}: {error})"
        ) from error


def table(points: Sequence[Point], figure: str) -> str:
    """The points as Markdown."""
    if any(point.seeds for point in points):
        return _table_of_seeds(points, figure)
    rows = [
        f"| | E | {figure} | ± | edges open | out-degree | edge bytes per agent-step |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {p.label} | {p.copies} | {p.reached:.3f} | {p.error:.3f} | {p.open_share:.1%} "
        f"| {p.out_degree:.2f} | {p.edge_bytes:.0f} |"
        for p in points
    ]
    return "\n".join(rows)


def _table_of_seeds(points: Sequence[Point], figure: str) -> str:
    rows = [
        f"| | E | seeds | {figure} | 95 % | edges open | out-degree | edge bytes per agent-step "
        "| 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for p in points:
        half = "-" if p.seeds and p.half is None else f"± {p.bar:.3f}"
        bytes_half = "-" if p.bytes_half is None else f"± {p.bytes_half:.0f}"
        rows.append(
            f"| {p.label} | {p.copies} | {p.seeds or 1} | {p.reached:.3f} | {half} "
            f"| {p.open_share:.1%} | {p.out_degree:.2f} | {p.edge_bytes:.0f} | {bytes_half} |"
        )
    return "\n".join(rows)


def draw(points: Sequence[Point], figure: str, out: Path) -> None:
    """Write the picture: a point with its name for each evaluation, and 95 % of its error; points
    of several seeds are a curve.
    """
    with canvas(out) as (axes,):
        curve = [(point.edge_bytes, point.reached) for point in points if point.seeds]
        if len(curve) > 1:
            axes.plot(*zip(*curve, strict=True), color=TEXT, linewidth=0.8, alpha=0.5, zorder=1)
        for index, point in enumerate(points):
            axes.errorbar(
                point.edge_bytes,
                point.reached,
                yerr=point.bar,
                xerr=point.bytes_half,
                fmt=marker(index),
                color=colour(index),
                capsize=3,
            )
        axes.set_xlabel("edge bytes per agent-step (messages, beacons, framing)")
        axes.set_ylabel(figure)
        axes.set_title(_population(points), loc="left", color=TEXT)
        axes.set_xlim(0.0, 1.08 * max(point.edge_bytes for point in points))
        axes.margins(y=0.12)
        axes.figure.canvas.draw()  # names are placed where the points have come to stand
        label_points(axes, [(point.label, point.edge_bytes, point.reached) for point in points])


def _population(points: Sequence[Point]) -> str:
    numbers = sorted({point.episodes for point in points})
    of = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    seeds = sorted({point.seeds for point in points} - {0})
    of_seeds = f" of {'/'.join(map(str, seeds))} seeds" if seeds else ""
    return f"{of} episodes{of_seeds} for each point; bars: 95 % confidence"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(CurveOptions, argv, prog="python -m runtime.gate_curve")
        labels = options.labels or tuple(
            path.name if path.is_dir() else path.stem for path in options.figures
        )
        points = [
            read_points(path, label, options.figure)
            for path, label in zip(options.figures, labels, strict=True)
        ]
        if options.out is not None:
            require_picture(options.out)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    print(table(points, options.figure))
    if options.out is not None:
        draw(points, options.figure, options.out)
    return 0
