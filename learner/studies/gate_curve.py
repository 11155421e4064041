"""What a gate costs and what it is worth, of several policies side by side.

python -m runtime.evaluate --policy A … --json > free.json      (one for each policy and budget)
python -m runtime.gate_curve free.json priced.json --out gate.png

figures of evaluations -> a Markdown table, and return or win rate over bytes as a picture
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from configs.bounded import parse_json, read_text
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line
from learner.studies.figure_style import TEXT, canvas, colour, label_points, marker
from runtime.terminal.places import require_picture


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveOptions:
    """Hold evaluations against each other: what they reached, and how many bytes that took."""

    figures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files that `python -m runtime.evaluate … --json` has printed, of real processes."""

    labels: tuple[str, ...] = ()
    """A name for each; file names without their ending by default."""

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
    """One policy under one budget."""

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


def draw(points: Sequence[Point], figure: str, out: Path) -> None:
    """Write the picture: a point with its name for each evaluation, and 95 % of its error."""
    with canvas(out) as (axes,):
        for index, point in enumerate(points):
            axes.errorbar(
                point.edge_bytes,
                point.reached,
                yerr=1.96 * point.error,
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
    return f"{of} episodes for each point; bars: 95 % confidence"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(CurveOptions, argv, prog="python -m runtime.gate_curve")
        labels = options.labels or tuple(path.stem for path in options.figures)
        points = [
            read_point(path, label, options.figure)
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
