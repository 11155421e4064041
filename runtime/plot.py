"""Learning curves of runs as a picture.

python -m runtime.plot runs/A runs/B --labels learned closed --out curves.png

episodes.jsonl -> whole evaluations, each at the training step when it fell due -> mean and spread
"""

from runtime.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from configs.load import (
    RESOLVED,
    ConfigError,
    exit_with_error,
    parse_command_line,
    parse_run_config,
)
from runtime.json_lines import current_lives, read_records
from runtime.run_log import EPISODES


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotOptions:
    """Plot mean evaluation returns or win rates of one or more runs over environment steps."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders."""

    labels: tuple[str, ...] = ()
    """A name for each run in the legend; folder names by default."""

    figure: Literal["return", "win rate"] = "return"
    """What to plot."""

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


def read_evaluations(run: Path, size: int | None = None) -> list[Evaluation]:
    """Whole evaluations of a run in the order in which they began; one that was cut off is none.

    Args:
        size: episodes of an evaluation; taken from the run's configuration if None.

    Raises:
        ConfigError: the log or the configuration is damaged.
    """
    episodes = read_records(run / EPISODES)
    if size is None:
        size = parse_run_config((run / RESOLVED).read_text()).evaluation.episodes
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


def _evaluation(batch: Sequence[Any]) -> Evaluation:
    returns = np.array([episode["episode_return"] for episode in batch])
    return Evaluation(
        env_steps=batch[0].get("evaluated_at", batch[0]["env_steps"]),
        episodes=len(batch),
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
        win_rate=float(np.mean([episode["won"] for episode in batch])),
    )


def plot(options: PlotOptions) -> None:
    """Write the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pyplot: Any = plt  # matplotlib is typed in part only
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for index, run in enumerate(options.runs):
        label = options.labels[index] if options.labels else run.name
        evaluations = read_evaluations(run)
        steps = [evaluation.env_steps for evaluation in evaluations]
        if options.figure == "return":
            mean = np.array([evaluation.return_mean for evaluation in evaluations])
            error = np.array([e.return_std / max(e.episodes, 1) ** 0.5 * 1.96 for e in evaluations])
            axes.fill_between(steps, mean - error, mean + error, alpha=0.2)
        else:
            mean = np.array([evaluation.win_rate for evaluation in evaluations])
        axes.plot(steps, mean, marker="o", markersize=3, label=label)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"evaluation {options.figure}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(options.out, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(PlotOptions, argv, prog="python -m runtime.plot")
        plot(options)
    except (ConfigError, ValueError) as error:
        exit_with_error(error)
    for run in options.runs:
        print(run)
        for evaluation in read_evaluations(run):
            print(
                f"  {evaluation.env_steps:>9,} steps: return {evaluation.return_mean:8.3f}, "
                f"win rate {evaluation.win_rate:4.0%} ({evaluation.episodes} episodes)"
            )
    return 0


if __name__ == "__main__":
    run_command(main)
