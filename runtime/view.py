"""What a person sees of a run: a live table on a terminal, a line every few seconds elsewhere.

    RunSnapshot -> View.update -> terminal | pipe | log of a batch system

A view has no clock: the snapshots carry the time, and the launcher decides how often it takes one.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

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
        self._goal = goal
        self._unit: Unit = unit
        self._console = console
        self._next_line_s = 0.0

    def start(self) -> None:
        pass

    def update(self, snapshot: RunSnapshot) -> None:
        if snapshot.elapsed_s >= self._next_line_s:
            self._next_line_s = snapshot.elapsed_s + LINE_PERIOD_S
            self._print(plain_line(snapshot, self._goal, self._unit))

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None:
        self._print(plain_line(snapshot, self._goal, self._unit))
        for name, path in files.items():
            self._print(f"{name}: {path}")

    def _print(self, line: str) -> None:
        # A line is a line, whatever the width: somebody will grep it.
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


class LiveView:
    """A table that is redrawn in place."""

    def __init__(self, goal: int, unit: Unit, console: Console) -> None:
        self._goal = goal
        self._unit: Unit = unit
        self._console = console
        # Redrawn by update() alone, so no thread of rich's lives in a process that forks.
        self._live = Live(console=console, auto_refresh=False)

    def start(self) -> None:
        self._live.start()

    def update(self, snapshot: RunSnapshot) -> None:
        self._live.update(self._render(snapshot), refresh=True)

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None:
        self.update(snapshot)
        self._live.stop()
        table = Table.grid(padding=(0, 2))
        for name, path in files.items():
            table.add_row(Text(name), Text(str(path), style="cyan", overflow="fold"))
        self._console.print(table)

    def _render(self, snapshot: RunSnapshot) -> RenderableType:
        done = _done(snapshot, self._unit)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(snapshot.phase, style="bold"),
            ProgressBar(total=max(self._goal, 1), completed=min(done, self._goal), width=20),
            Text(_progress(snapshot, self._goal, self._unit)),
        )
        rows = Table.grid(padding=(0, 2))
        for name, value in _numbers(snapshot):
            rows.add_row(Text(name, style="dim"), Text(value))
        return Group(head, rows)


def plain_line(snapshot: RunSnapshot, goal: int, unit: Unit) -> str:
    """The whole snapshot as `phase progress | name value | …`."""
    parts = [f"{snapshot.phase} {_progress(snapshot, goal, unit)}"]
    parts += [f"{name} {value}" for name, value in _numbers(snapshot)]
    return " | ".join(parts)


def _done(snapshot: RunSnapshot, unit: Unit) -> int:
    return snapshot.env_steps if unit == "steps" else snapshot.episodes


def _progress(snapshot: RunSnapshot, goal: int, unit: Unit) -> str:
    done = _done(snapshot, unit)
    share = min(done / goal, 1.0) if goal else 1.0
    text = f"{done:,}/{goal:,} {unit} ({share:.0%})"
    # A resumed run did not begin at zero, so steps go by the rate of now.
    rate = snapshot.steps_per_s if unit == "steps" else done / max(snapshot.elapsed_s, 1e-9)
    if rate and done < goal:
        return f"{text}, {_clock((goal - done) / rate)} to go"
    return f"{text}, {_clock(snapshot.elapsed_s)}"


def _clock(seconds: float) -> str:
    minutes, whole_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_s:02}"


def _numbers(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    version = _number(snapshot.policy_version, ",d")
    at = "" if snapshot.evaluated_at is None else f" (at {snapshot.evaluated_at:,} steps)"
    return [
        ("steps/s", _number(snapshot.steps_per_s, ",.0f")),
        ("return", _number(snapshot.episode_return, ".3f") + at),
        ("win rate", _number(snapshot.win_rate, ".0%") + at),
        ("out-degree", _number(snapshot.out_degree, ".2f")),
        ("bytes/agent-step", _number(snapshot.bytes_per_agent_step, ",.0f")),
        ("policy version", f"{version} (lag {_number(snapshot.policy_lag, '.1f')})"),
        ("learner updates", _number(snapshot.learner_updates, ",d")),
        ("agents up", f"{snapshot.agents_up}/{snapshot.num_agents}"),
        ("restarts", f"{snapshot.restarts:,}"),
    ]


def _number(value: float | None, style: str) -> str:
    return _NOTHING if value is None else format(value, style)
