"""What a person sees of a run: a live table on a terminal, a line every few seconds elsewhere.

    RunSnapshot -> View.update -> terminal | pipe | log of a batch system

A view has no clock: the snapshots carry the time, and the launcher decides how often it takes one.
While the live view draws, all that goes to its terminal goes through it: what children write
(runtime/terminal/child_output.py), and what this process logs or prints.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runtime.terminal.child_output import ChildOutput
from runtime.terminal.time_left import Pace, TimeLeft

Unit = Literal["steps", "episodes"]

LINE_PERIOD_S = 5.0
"""Seconds between two lines of the plain view."""

_NOTHING = "–"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSnapshot:
    """A run at one moment; None is a number that nobody knows yet."""

    elapsed_s: float
    """Since the run began."""
    phase: str
    """What is going on, in a word: starting, training, evaluating, stopping."""
    env_steps: int
    """Environment steps, summed over the copies."""
    episodes: int
    """Finished episodes."""
    agents_up: int
    num_agents: int
    restarts: int
    """Restarts of agents since the run began."""
    steps_per_s: float | None = None
    episode_return: float | None = None
    """Mean over the last whole evaluation, before the first over recent training episodes."""
    win_rate: float | None = None
    """Share of the same episodes that were won, in [0, 1]."""
    can_be_won: bool = True
    """Whether the environment knows winners."""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """Means of the environment's own figures over the same episodes."""
    evaluated_at: int | None = None
    """Training steps at which that evaluation was taken; None if these are training episodes."""
    out_degree: float | None = None
    """Mean number of edges that an agent uses in a step."""
    bytes_per_agent_step: float | None = None
    """ZMTP bytes on edges, messages and beacons, per agent and step."""
    policy_version: int | None = None
    policy_lag: float | None = None
    """Versions between the newest published and the oldest an agent acts by."""
    learner_updates: int | None = None
    updates_owed: int | None = None
    """Updates that the learner has yet to take for the episodes that it has."""
    agents_started: int = 0
    """Agents that have said where they listen; a start opens no edge before all have."""
    evaluation_done: int | None = None
    """Finished episodes of the evaluation that is under way; None if there is none."""
    evaluation_size: int = 0
    """Episodes of each evaluation."""
    moved: int = 0
    """Moves of agents from hosts that had left for good."""


class View(Protocol):
    """Something that shows a run from `start` to `finish`."""

    def start(self) -> None: ...

    def update(self, snapshot: RunSnapshot) -> None: ...

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None:
        """Show how it ended, and where the files are, by what they are."""
        ...


def make_view(goal: int, unit: Unit = "steps", console: Console | None = None) -> View:
    """The live view if stdout is a terminal, else plain lines.

    Args:
        goal: steps or episodes after which the run ends.
        unit: what `goal` counts: steps when training, episodes when evaluating.
    """
    console = console or Console(file=sys.stdout)
    return LiveView(goal, unit, console) if console.is_terminal else PlainView(goal, unit, console)


class PlainView:
    """One line every few seconds."""

    def __init__(self, goal: int, unit: Unit, console: Console) -> None:
        self._progress = _Progress(goal, unit)
        self._console = console
        self._next_line_s = 0.0

    def start(self) -> None:
        pass

    def update(self, snapshot: RunSnapshot) -> None:
        self._progress.update(snapshot)
        if snapshot.elapsed_s >= self._next_line_s:
            self._next_line_s = snapshot.elapsed_s + LINE_PERIOD_S
            self._print(self._line(snapshot))

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None:
        self._print(self._line(snapshot, is_over=True))
        for name, path in files.items():
            self._print(f"{name}: {path}")

    def _line(self, snapshot: RunSnapshot, *, is_over: bool = False) -> str:
        """The whole snapshot as `phase progress | name value | …`."""
        parts = [f"{snapshot.phase} {self._progress.text(snapshot, is_over=is_over)}"]
        parts += [f"{name} {value}" for name, value in _numbers(snapshot)]
        return " | ".join(parts)

    def _print(self, line: str) -> None:
        # A line is a line, whatever the width: somebody will grep it.
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


class LiveView:
    """A table that is redrawn in place, below all that is said meanwhile."""

    def __init__(self, goal: int, unit: Unit, console: Console) -> None:
        self._progress = _Progress(goal, unit)
        self._console = console
        self._child_output = ChildOutput()
        # Redrawn by update() alone, so no thread of rich's lives in a process that forks. What goes
        # to a file (2> errors.log) stays out of the picture.
        self._live = Live(console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())

    def start(self) -> None:
        self._child_output.open()
        self._live.start()

    def update(self, snapshot: RunSnapshot) -> None:
        self._progress.update(snapshot)
        self._show_lines(self._child_output.take_lines())
        self._live.update(self._render(snapshot), refresh=True)

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None:
        self._show_lines(self._child_output.take_lines(to_the_end=True))
        self._child_output.close()
        self._live.update(self._render(snapshot, is_over=True), refresh=True)
        self._live.stop()
        table = Table.grid(padding=(0, 2))
        for name, path in files.items():
            table.add_row(Text(name), Text(str(path), style="cyan", overflow="fold"))
        self._console.print(table)

    def _show_lines(self, lines: list[str]) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _render(self, snapshot: RunSnapshot, *, is_over: bool = False) -> RenderableType:
        done, goal, _ = self._progress.of(snapshot)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(snapshot.phase, style="bold"),
            ProgressBar(total=max(goal, 1), completed=min(done, goal), width=20),
            Text(self._progress.text(snapshot, is_over=is_over)),
        )
        rows = Table.grid(padding=(0, 2))
        for name, value in _numbers(snapshot):
            rows.add_row(Text(name, style="dim"), Text(value))
        return Group(head, rows)


class _Progress:
    """How far a run has come, and how long it will take from now on."""

    def __init__(self, goal: int, unit: Unit) -> None:
        self._goal = goal
        self._unit: Unit = unit
        self._training = TimeLeft(goal)
        self._episodes = Pace()

    def update(self, snapshot: RunSnapshot) -> None:
        """Take in a snapshot; the estimate learns from all of them."""
        if self._counts_episodes(snapshot):
            self._episodes.update(snapshot.elapsed_s, self.of(snapshot)[0])
        elif snapshot.phase in ("training", "finishing"):
            self._training.update(
                snapshot.elapsed_s,
                snapshot.env_steps,
                snapshot.learner_updates or 0,
                snapshot.updates_owed or 0,
            )

    def of(self, snapshot: RunSnapshot) -> tuple[int, int, Unit]:
        """What is done, of how many of what; the last evaluation of a training is one by itself."""
        if self._unit == "episodes":
            return snapshot.episodes, self._goal, "episodes"
        if self._counts_episodes(snapshot):
            return snapshot.evaluation_done or 0, snapshot.evaluation_size, "episodes"
        return snapshot.env_steps, self._goal, "steps"

    def text(self, snapshot: RunSnapshot, *, is_over: bool) -> str:
        done, goal, unit = self.of(snapshot)
        share = min(done / goal, 1.0) if goal else 1.0
        text = f"{done:,}/{goal:,} {unit} ({share:.0%})"
        left = None if is_over else self._time_left(snapshot, goal - done)
        return ", ".join(
            part for part in (text, left, f"{_clock(snapshot.elapsed_s)} elapsed") if part
        )

    def _counts_episodes(self, snapshot: RunSnapshot) -> bool:
        return self._unit == "episodes" or snapshot.phase == "evaluating"

    def _time_left(self, snapshot: RunSnapshot, left: int) -> str | None:
        if self._counts_episodes(snapshot):
            rate = self._episodes.per_s
            return f"about {_clock(left / rate)} to go" if rate and left > 0 else None
        if snapshot.phase not in ("training", "finishing"):
            return None
        estimate = self._training.estimate()
        parts = [("steps", estimate.steps_s)] if left > 0 else []
        if estimate.updates:
            parts.append((f"{estimate.updates:,} updates", estimate.updates_s))
        if not parts:
            return None
        if estimate.total_s is None:
            return "time to go unknown"
        named = ", ".join(f"{name} {_clock(time_s or 0.0)}" for name, time_s in parts)
        return f"about {_clock(estimate.total_s)} to go ({named})"


def _clock(seconds: float) -> str:
    minutes, whole_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_s:02}"


def _numbers(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    version = _number(snapshot.policy_version, ",d")
    figures = [
        ("steps/s", _number(snapshot.steps_per_s, ",.0f")),
        ("return", _number(snapshot.episode_return, ".3f") + _whose(snapshot)),
        *(
            [("win rate", _number(snapshot.win_rate, ".0%") + _whose(snapshot))]
            if snapshot.can_be_won
            else []
        ),
        *(
            (name.replace("_", " "), _number(value, ".3f") + _whose(snapshot))
            for name, value in snapshot.metrics.items()
        ),
        ("out-degree", _number(snapshot.out_degree, ".2f")),
        ("bytes/agent-step", _number(snapshot.bytes_per_agent_step, ",.0f")),
        ("policy version", f"{version} (lag {_number(snapshot.policy_lag, '.1f')})"),
        ("learner updates", _updates(snapshot)),
        ("agents up", f"{snapshot.agents_up}/{snapshot.num_agents}"),
        ("restarts", f"{snapshot.restarts:,}"),
    ]
    if snapshot.moved:
        figures.append(("moved to other hosts", f"{snapshot.moved:,}"))
    if snapshot.phase == "starting":
        started = f"{snapshot.agents_started}/{snapshot.num_agents}"
        figures.insert(-2, ("agents started", started))
    if snapshot.evaluation_done is not None and snapshot.phase == "training":
        progress = f"{snapshot.evaluation_done}/{snapshot.evaluation_size} episodes"
        figures.append(("evaluation", progress))
    return figures


def _whose(snapshot: RunSnapshot) -> str:
    """Which episodes a return is of."""
    if snapshot.episode_return is None:
        return ""
    if snapshot.evaluated_at is not None:
        return f" (evaluation at {snapshot.evaluated_at:,} steps)"
    return "" if snapshot.learner_updates is None else " (training)"


def _updates(snapshot: RunSnapshot) -> str:
    owed = f" ({snapshot.updates_owed:,} owed)" if snapshot.updates_owed else ""
    return _number(snapshot.learner_updates, ",d") + owed


def _number(value: float | None, style: str) -> str:
    return _NOTHING if value is None else format(value, style)
