"""Learning curves of runs as a picture.

python -m runtime.plot runs/A runs/B runs/C --labels learned learned closed --out curves.png

episodes.jsonl -> whole evaluations, each at the training step when it fell due -> mean and spread
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from configs.errors import UserError
from configs.load import (
    exit_with_error,
    parse_command_line,
    read_resolved,
)
from configs.run_files import EPISODES
from envs import registry
from learner.studies.figure_style import (
    TEXT,
    canvas,
    draw_curve,
    label_ends,
    label_steps,
    marker,
    standard_error,
)
from runtime.record.json_lines import current_lives, read_records
from runtime.terminal.places import require_picture

Figure = str
"""return, win rate, or a metric of the environment's own."""

_GRID = 60
"""Points of a mean curve: evaluations of several runs do not fall on the same steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotOptions:
    """Plot mean evaluation returns or win rates of one or more runs over environment steps."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders."""

    labels: tuple[str, ...] = ()
    """A name for each run; folder names by default. Runs of the same name are seeds: one line."""

    figure: Figure = "return"
    """What to plot: return, win rate, or a figure of the environment's own."""

    out: Path = Path("curves.png")
    """Picture to write; the ending decides the format."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs: name at least one run folder")
        if self.labels and len(self.labels) != len(self.runs):
            raise ValueError(f"labels: {len(self.labels)} names for {len(self.runs)} runs")
        for run in self.runs:
            if not (run / EPISODES).exists():
                raise ValueError(f"runs: {run} has no {EPISODES}")


class Evaluation(NamedTuple):
    """One whole evaluation."""

    env_steps: int
    """Training steps when it fell due."""
    episodes: int
    return_mean: float
    return_std: float
    win_rate: float
    metrics: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """Mean and standard deviation of the environment's own figures."""

    def reached(self, figure: Figure) -> float:
        return self._mean_and_spread(figure)[0]

    def error(self, figure: Figure) -> float:
        """Standard error over the episodes."""
        return self._mean_and_spread(figure)[1] / self.episodes**0.5

    def _mean_and_spread(self, figure: Figure) -> tuple[float, float]:
        match figure:
            case "return":
                return self.return_mean, self.return_std
            case "win rate":
                return self.win_rate, _deviation(self.win_rate)
            case _ if figure in self.metrics:
                return self.metrics[figure]
            case _:
                known = ", ".join(("return", "win rate", *self.metrics))
                raise ValueError(f"figure: there is no {figure!r} in these runs, choose {known}")


def _deviation(win_rate: float) -> float:
    return (win_rate * (1.0 - win_rate)) ** 0.5


def read_evaluations(run: Path, size: int | None = None) -> list[Evaluation]:
    """Whole evaluations of a run in the order in which they began; one that was cut off is none.

    Args:
        size: episodes of an evaluation; taken from the run's configuration if None.

    Raises:
        ConfigError: the log or the configuration is damaged.
    """
    episodes = read_records(run / EPISODES)
    if size is None:
        size = read_resolved(run)[0].evaluation.episodes
    found: list[Evaluation] = []
    # A run that was continued has begun an evaluation anew.
    for life in current_lives(episodes):
        batches: dict[int, list[Any]] = {}
        for number, episode in enumerate(episode for episode in life if episode["evaluation"]):
            # Runs of older versions do not say which evaluation an episode is part of.
            key = episode.get("evaluated_at", -1 - number // size)
            batches.setdefault(key, []).append(episode)
        found += [_evaluation(batch) for batch in batches.values() if len(batch) >= size]
    return found


def return_of_training(run: Path, episodes: int = 100) -> float | None:
    """Mean return of the last episodes that were trained on, or None before the first.

    Raises:
        ConfigError: the log is damaged.
    """
    last = [e["episode_return"] for e in read_records(run / EPISODES) if not e["evaluation"]]
    return float(np.mean(last[-episodes:])) if last else None


def _evaluation(batch: Sequence[Any]) -> Evaluation:
    returns = np.array([episode["episode_return"] for episode in batch])
    return Evaluation(
        env_steps=batch[0].get("evaluated_at", batch[0]["env_steps"]),
        episodes=len(batch),
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
        win_rate=float(np.mean([episode["won"] for episode in batch])),
        metrics={
            name: (float(np.mean(values)), float(np.std(values)))
            for name in batch[0].get("metrics", {})
            if (values := [episode["metrics"][name] for episode in batch])
        },
    )


class Curve(NamedTuple):
    """Evaluations of several runs, as if they had been at the same steps."""

    steps: NDArray[np.floating]
    """[P] that all runs have come to."""
    reached: NDArray[np.floating]
    """[R, P] by each run."""


def mean_curve(runs: Sequence[Sequence[Evaluation]], figure: Figure) -> Curve | None:
    """Along straight lines between the evaluations of a run; None if there were none."""
    known = [run for run in runs if run]
    if not known:
        return None
    steps_P = np.linspace(0, min(run[-1].env_steps for run in known), _GRID)
    reached_RP = [
        np.interp(steps_P, [each.env_steps for each in run], [each.reached(figure) for each in run])
        for run in known
    ]
    return Curve(steps_P, np.array(reached_RP))


def plot(options: PlotOptions) -> None:
    """Write the picture."""
    labels = options.labels or tuple(run.name for run in options.runs)
    lines: dict[str, list[list[Evaluation]]] = {}
    for label, run in zip(labels, options.runs, strict=True):
        lines.setdefault(label, []).append(read_evaluations(run))
    with canvas(options.out) as (axes,):
        ends: list[tuple[str, float]] = []
        for index, (label, runs) in enumerate(lines.items()):
            if len(runs) > 1:
                label = f"{label} ({len(runs)} runs)"
            last = _draw(axes, runs, options.figure, index)
            if last is not None:
                ends.append((label, last))
        axes.set_xlabel("environment steps")
        label_steps(axes)
        axes.set_ylabel(f"evaluation {options.figure}")
        axes.set_title(_bands([*lines.values()]), loc="left", color=TEXT)
        if options.figure == "win rate":
            axes.set_ylim(-0.03, 1.03)  # a band knows nothing of its limits
        axes.figure.canvas.draw()  # names are placed where the curves have come to stand
        label_ends(axes, ends)


def _draw(
    axes: Any, runs: Sequence[Sequence[Evaluation]], figure: Figure, index: int
) -> float | None:
    """Draw a line; returns its last value, None if nothing was evaluated."""
    if len(runs) > 1:
        curve = mean_curve(runs, figure)
        if curve is None:
            return None
        mean, error = curve.reached.mean(0), standard_error(curve.reached)
        draw_curve(axes, curve.steps, mean, error, index)
        return float(mean[-1])
    (run,) = runs
    if not run:
        return None
    steps = [each.env_steps for each in run]
    mean = np.array([each.reached(figure) for each in run])
    error = 1.96 * np.array([each.error(figure) for each in run])
    draw_curve(axes, steps, mean, error, index, marker=marker(index))
    return float(mean[-1])


def _bands(lines: Sequence[Sequence[Sequence[Evaluation]]]) -> str:
    """What the bands are."""
    parts: list[str] = []
    episodes = sorted({each.episodes for (run, *more) in lines if not more for each in run})
    if episodes:
        of = f"{episodes[0]}" if len(episodes) == 1 else f"{episodes[0]} to {episodes[-1]}"
        parts.append(f"one run: 95 % confidence over {of} episodes")
    if any(len(runs) > 1 for runs in lines):
        parts.append("several runs: standard error of their mean")
    return f"bands: {'; '.join(parts)}" if parts else ""


def _own(evaluation: Evaluation) -> str:
    return "".join(f", {name} {mean:.3f}" for name, (mean, _) in evaluation.metrics.items())


def _can_be_won(run: Path) -> bool:
    """Whether episodes of this environment can be won; not if it cannot be found any more."""
    config, _ = read_resolved(run)
    try:
        return registry.spec_of(config.env, config.num_agents).can_be_won
    except UserError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(PlotOptions, argv, prog="python -m runtime.plot")
        require_picture(options.out)
        plot(options)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    for run in options.runs:
        print(run)
        evaluations = read_evaluations(run)
        # Where nobody can win, "0 %" would read as a failure.
        wins = any(evaluation.win_rate for evaluation in evaluations)
        for evaluation in evaluations:
            won = f", win rate {evaluation.win_rate:4.0%}" if wins or _can_be_won(run) else ""
            print(
                f"  {evaluation.env_steps:>9,} steps: return {evaluation.return_mean:8.3f}"
                f"{won}{_own(evaluation)} "
                f"({evaluation.episodes} episodes)"
            )
    return 0
