"""Figures of an evaluation for people: in groups, with units, and without what is empty.

    figures by name (what --json prints) -> figures_table -> rows of the terminal

A figure that no group names stands at the end under its own name: none is lost.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from rich.table import Table
from rich.text import Text


class _Row(NamedTuple):
    name: str
    label: str
    say: Callable[[Any], str]
    error: str = ""
    """Name of the standard error, if there is one."""
    shows_zero: bool = True
    """False where zero says that there is nothing to tell."""


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _count(value: float) -> str:
    return f"{int(value):,}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000.0:
            return f"{size_bytes:,.3g} {unit}"
        size_bytes /= 1000.0
    return f"{size_bytes:,.3g} GB"


def _in(unit: str, style: str = ",.4g") -> Callable[[float], str]:
    return lambda value: f"{value:{style}} {unit}"


def _agents(agents: list[int]) -> str:
    return ", ".join(map(str, agents))


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items())


_GROUPS: dict[str, tuple[_Row, ...]] = {
    "Result": (
        _Row("evaluation_episodes", "episodes", _count),
        _Row("win_rate", "win rate", _share),
        _Row("return_mean", "return", _plain, "return_error"),
        _Row("spared_return_mean", "return of those not killed", _plain, "spared_return_error"),
    ),
    "Setting": (
        _Row("env", "environment", _plain),
        _Row("opponent", "opponent", _plain),
        _Row("agents", "agents", _count),
        _Row("env_copies", "environment copies", _count),
        _Row("comm", "communication", _plain),
        _Row("gate_timing", "gate timing", _plain),
        _Row("gate_mode", "gate mode", _plain),
        _Row("gate_budget", "gate budget", _in("edges", "d"), shows_zero=False),
        _Row("transport", "transport", _plain),
        _Row("seed", "seed", _count),
    ),
    "Edges": (
        _Row("out_degree_mean", "out-degree", _in("edges per agent-step", ".3f")),
        _Row("open_share", "open share", _share),
        _Row("edge_bytes_per_agent_step", "bytes on edges", _in("B per agent-step", ",.1f")),
        _Row("message_payload_bytes", "messages", _size, shows_zero=False),
        _Row("beacon_payload_bytes", "beacons", _size, shows_zero=False),
        _Row("edge_zmtp_bytes", "both with framing", _size, shows_zero=False),
        _Row("edge_tcp_bytes", "the same by the kernel", _size, shows_zero=False),
        _Row("edge_latency_p50_us", "latency, median", _in("µs"), shows_zero=False),
        _Row("edge_latency_p99_us", "latency, 99th percentile", _in("µs"), shows_zero=False),
    ),
    "Other traffic": (
        _Row("observation_bytes", "observations", _size, shows_zero=False),
        _Row("action_bytes", "actions", _size, shows_zero=False),
        _Row("policy_bytes", "parameters", _size, shows_zero=False),
        _Row("policy_shared_bytes", "parameters in shared memory", _size, shows_zero=False),
        _Row("heartbeat_bytes", "reports of agents", _size, shows_zero=False),
        _Row("control_bytes", "control", _size, shows_zero=False),
    ),
    "Failures, as asked for": (
        _Row("drop_edges", "packets lost", _share, shows_zero=False),
        _Row("lost_messages", "lost messages", _count, shows_zero=False),
        _Row("lost_beacons", "lost beacons", _count, shows_zero=False),
        _Row("kill_fraction", "agents killed", _share, shows_zero=False),
        _Row("kill_at", "killed at step", _count, shows_zero=False),
        _Row("killed_agents", "which", _agents),
        _Row("episodes_reached_kill", "episodes that lasted until then", _count),
        _Row("out_degree_after_kill", "out-degree afterwards", _in("edges per agent-step", ".3f")),
    ),
    "Trouble": (
        _Row("agent_restarts", "restarts of agents", _count, shows_zero=False),
        _Row("messages_late", "late messages", _count, shows_zero=False),
        _Row("messages_dropped", "dropped packets", _count, shows_zero=False),
        _Row("dropped_by_agents", "of them by agents", _reasons),
        _Row("checkpoint_failures", "checkpoints not written", _count, shows_zero=False),
        _Row("journal_failures", "journal entries not written", _count, shows_zero=False),
        _Row("episodes_dropped", "dropped episodes", _count, shows_zero=False),
        _Row("readings_failed", "readings of agents that failed", _count, shows_zero=False),
        _Row("log_lines_lost", "lines of logs lost", _count, shows_zero=False),
    ),
    "Run": (
        _Row("wall_s", "time", _in("s")),
        _Row("env_steps_per_s", "speed", _in("steps per s")),
        _Row("agent_steps", "agent-steps", _count, shows_zero=False),
        _Row("agent_processes", "agent processes", _count),
        _Row("agent_pss_mb_mean", "memory of an agent", _in("MB")),
        _Row("exit_reason", "end", _plain),
    ),
}
_BESIDES = {
    "algorithm", "by_opponent", "episodes", "evaluated_at", "headline", "metrics", "metrics_error",
    "sparse_method", "stage_s",
}  # fmt: skip
"""Shown elsewhere, or says nothing of an evaluation."""


def figures_table(figures: Mapping[str, Any]) -> Table:
    """Rows of label and value under the titles of their groups."""
    table = Table(show_header=False, box=None)
    for title, rows in _GROUPS.items():
        lines = [*_lines(rows, figures)]
        if title == "Result":
            lines += _own(figures)
            lines += _against(figures.get("by_opponent") or {})
        _add(table, title, lines)
    known = {name for rows in _GROUPS.values() for row in rows for name in (row.name, row.error)}
    others = figures.keys() - known - _BESIDES
    rest = [(name, _plain(figures[name])) for name in figures if name in others]
    _add(table, "Other", [line for line in rest if not _is_empty(figures[line[0]])])
    return table


def _add(table: Table, title: str, lines: list[tuple[str, str]]) -> None:
    if lines:
        table.add_row(Text(title, style="bold"))
    for label, value in lines:
        table.add_row(f"  {label}", Text(value))


def _lines(rows: tuple[_Row, ...], figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in rows:
        value = figures.get(row.name)
        if _is_empty(value) or (value == 0 and not row.shows_zero):
            continue
        error = figures.get(row.error)
        yield row.label, row.say(value) + ("" if error is None else f" ± {row.say(error)}")


def _own(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Figures of the environment's own."""
    metrics: dict[str, float] = figures.get("metrics") or {}
    errors: dict[str, float | None] = figures.get("metrics_error") or {}
    for name, value in metrics.items():
        error = errors.get(name)
        label = name.replace("_", " ")
        yield label, _plain(value) + ("" if error is None else f" ± {_plain(error)}")


def _against(opponents: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    for name, met in opponents.items():
        if "win_rate" in met:
            reached = f"{_share(met['win_rate'])} of {_count(met['episodes'])} won"
        else:
            means = [f"{of} {_plain(met[of])}" for of in met if of != "episodes"]
            reached = f"{', '.join(means)} in {_count(met['episodes'])} episodes"
        yield f"against {name}", reached.replace("return_mean", "return").replace("_", " ")


def _is_empty(value: object) -> bool:
    sized = isinstance(value, str | list | tuple | dict)
    return value is None or (sized and not cast("Any", value))
