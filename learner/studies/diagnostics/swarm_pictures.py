"""Figures 9 and 10 of the SOPS paper: an episode on the map, in populations of a transfer.

    subject, population -> one greedy episode (runtime/seeing/trace.py) -> a row of panels
        figure 9    the edges of one agent at t = 20, 25, …, 45
        figure 10   both teams at t = 0, 25, 50, 75

Squares of our own team are orange-red, those of the other team blue; the numbers above a panel say
how many of each are left. A panel after the end of the episode shows the end.

Dimension key: T = steps, N = agents, K = out-edges, U = units of a team.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from configs.arrays import IntArray
from configs.errors import UserError
from envs.scene import Map
from learner.studies.diagnostics.subjects import Subject, subjects_of
from learner.studies.figure_style import TEXT, canvas, colour
from runtime.seeing.trace import Trace, trace_episode

if TYPE_CHECKING:
    from learner.studies.analysis import Finished

TIMES_OF_SUBGRAPHS = (20, 25, 30, 35, 40, 45)
TIMES_OF_SNAPSHOTS = (0, 25, 50, 75)

_OURS, _THEIRS = colour(1), colour(0)
_PANEL_INCHES = 2.4


class Row(NamedTuple):
    """An episode of a policy in one population."""

    title: str
    trace: Trace


def subgraphs(study: "Finished") -> str:
    """A study's step: figure 9. Options: `times`; `focal`, the number of the agent.

    Raises:
        UserError, ValueError: no policy, or one that cannot play there or not be drawn.
    """
    times = tuple(study.options.get("times", TIMES_OF_SUBGRAPHS))
    wanted = study.options.get("focal")
    rows = list(_rows(study, max(times)))
    focal = [focal_agent(row.trace, times) if wanted is None else int(wanted) for row in rows]
    out = study.folder / "subgraphs.png"
    draw_subgraphs(rows, focal, times, out)
    lines = ["| transfer | agent | step: its open out-edges |", "|---|---|---|"]
    for row, agent in zip(rows, focal, strict=True):
        degrees = [
            f"{t}: {int(row.trace.open_TNK[t, agent].sum())}" for t in times if t < row.trace.steps
        ]
        lines.append(f"| {row.title} | {agent} | {', '.join(degrees)} |")
    return "\n".join([f"![subgraphs of one agent]({out.name})", "", *lines])


def snapshots(study: "Finished") -> str:
    """A study's step: figure 10. Option: `times`.

    Raises:
        UserError, ValueError: as `subgraphs`.
    """
    times = tuple(study.options.get("times", TIMES_OF_SNAPSHOTS))
    rows = list(_rows(study, max(times)))
    out = study.folder / "snapshots.png"
    draw_snapshots(rows, times, out)
    lines = ["| transfer | step: ours / theirs |", "|---|---|"]
    for row in rows:
        counts = [f"{t}: {_counts(map_at(row.trace, t))}" for t in times if t <= row.trace.steps]
        lines.append(f"| {row.title} | {', '.join(counts)} |")
    return "\n".join([f"![the swarm over time]({out.name})", "", *lines])


def _rows(study: "Finished", last: int) -> Iterator[Row]:
    """The first policy of every task in each of its other populations."""
    first: dict[str, Subject] = {}
    for subject in subjects_of(study):
        first.setdefault(subject.task, subject)
    for subject in first.values():
        for agents in subject.sizes:
            print(f"{subject.task}, {subject.arm}: an episode of {agents}", flush=True)
            config, policy = subject.resolve(agents, 1)
            yield Row(
                f"{subject.agents} → {agents}", trace_episode(config, policy, max_steps=last + 1)
            )


def map_at(trace: Trace, step: int) -> Map:
    """What there was to see before a step, or at the end where the episode was shorter.

    Raises:
        UserError: the environment has no map.
    """
    scene = trace.scenes[min(step, len(trace.scenes) - 1)]
    if not isinstance(scene, Map):
        raise UserError(f"{trace.env} has no map to draw: take battle or adversarial-pursuit")
    return scene


def focal_agent(trace: Trace, times: Sequence[int]) -> int:
    """The agent whose number of open edges is the median of those who live longest.

    They are those that live at the last of the times which the episode reached; it is the lowest
    numbered if several are.
    """
    reached = [t for t in times if t < trace.steps] or [0]
    living = np.flatnonzero(trace.alive_TN[reached[-1]])
    opened = trace.open_TNK[reached][:, living].sum(axis=(0, 2))
    order = np.argsort(opened, kind="stable")
    return int(living[order[(len(order) - 1) // 2]])


def draw_subgraphs(
    rows: Sequence[Row], focal: Sequence[int], times: Sequence[int], out: Path
) -> None:
    """Arrows lead from the agent over its open edges, dashed ones to it over those of others."""

    def edges(axes: Any, row: int, step: int) -> None:
        trace = rows[row].trace
        if step >= trace.steps:
            return
        agent, seen = focal[row], map_at(trace, step).teams[0]
        if not trace.alive_TN[step, agent]:
            return
        agents = trace.num_agents
        for k, offset in enumerate(trace.offsets):
            to, by = (agent + offset) % agents, (agent - offset) % agents
            if trace.open_TNK[step, agent, k] and seen.alive_U[to]:
                _arrow(axes, seen.positions_U2, agent, to, "-")
            if trace.open_TNK[step, by, k] and seen.alive_U[by]:
                _arrow(axes, seen.positions_U2, by, agent, ":")
        x, y = seen.positions_U2[agent]
        axes.plot([x], [y], "s", color="black", markersize=4.5, zorder=4)

    _draw(rows, times, out, edges)


def draw_snapshots(rows: Sequence[Row], times: Sequence[int], out: Path) -> None:
    """Both teams, without edges."""
    _draw(rows, times, out, lambda axes, row, step: None)


def _draw(
    rows: Sequence[Row],
    times: Sequence[int],
    out: Path,
    edges: Callable[[Any, int, int], None],
) -> None:
    size = (_PANEL_INCHES, _PANEL_INCHES)
    with canvas(out, max(len(rows), 1), len(times), size=size) as panels:
        for number, axes in enumerate(panels):
            row, column = divmod(number, len(times))
            trace, step = rows[row].trace, times[column]
            seen = map_at(trace, step)
            for team, paint in zip(seen.teams, (_OURS, _THEIRS), strict=False):
                x, y = team.positions_U2[team.alive_U].T + (team.body - 1) / 2.0
                # A cell of the map in points, so that neighbours touch and do not overlap.
                side = team.body * 0.9 * 72.0 * size[0] * 0.85 / max(seen.width, seen.height)
                axes.scatter(x, y, s=side**2, c=paint, marker="s", linewidths=0)
            edges(axes, row, step)
            axes.set(xlim=(-0.5, seen.width - 0.5), ylim=(seen.height - 0.5, -0.5), aspect="equal")
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            over = ", over" if step >= trace.steps and step > 0 else ""
            axes.set_title(f"t = {step}{over}:  {_counts(seen)}", color=TEXT)
            if column == 0:
                axes.set_ylabel(rows[row].title)


def _arrow(axes: Any, positions_U2: IntArray, sender: int, receiver: int, line: str) -> None:
    axes.annotate(
        "",
        xy=tuple(positions_U2[receiver]),
        xytext=tuple(positions_U2[sender]),
        arrowprops={
            "arrowstyle": "-|>",
            "color": "black",
            "linewidth": 0.9,
            "linestyle": line,
            "mutation_scale": 7.0,
        },
        zorder=3,
    )


def _counts(seen: Map) -> str:
    return " / ".join(f"{int(team.alive_U.sum())}" for team in seen.teams)
