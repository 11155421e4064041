"""From rows to tables, for a terminal or for docs/results/performance.md.

    Session -> tables -> Table, … -> rich | markdown

A figure is the median over repetitions; where nothing was measured there is a dash.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rich.table

from tests.benchmarks.plan import BARE, OURS, PIPES, RAY
from tests.benchmarks.record import Row, Session

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    note: str
    """Conditions, and what the columns mean."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """All repetitions of one case by one kind."""

    kind: str
    case: Mapping[str, Any]
    repetitions: tuple[Mapping[str, float | None], ...]

    def figure(self, name: str) -> float | None:
        """Median over the repetitions that know it."""
        known = [value for f in self.repetitions if (value := f.get(name)) is not None]
        return statistics.median(known) if known else None


class Measurements:
    """Rows of a session, by benchmark and case."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._found: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            if row.figures:
                case = json.dumps(row.case, sort_keys=True)
                self._found.setdefault((row.benchmark, row.kind, case), []).append(row)

    def of(self, benchmark: str, kind: str | None = None, **case: Any) -> list[Measured]:
        """Those of a benchmark (and kind) whose case has these parameters, as first measured."""
        return [
            Measured(rows[0].kind, rows[0].case, tuple(row.figures for row in rows))
            for (name, its_kind, _), rows in self._found.items()
            if name == benchmark
            and kind in (None, its_kind)
            and all(rows[0].case.get(key) == value for key, value in case.items())
        ]

    def figure(self, benchmark: str, figure: str, kind: str = OURS, **case: Any) -> float | None:
        """Of the first case that fits."""
        found = self.of(benchmark, kind, **case)
        return found[0].figure(figure) if found else None

    def beside(self, ours: Measured, benchmark: str, kind: str) -> Measured | None:
        """What stands beside a case of ours."""
        return next((other for other in self.of(benchmark, kind, **ours.case)), None)


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, without an exponent."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:g}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f} %"


def ratio(value: float | None, to: float | None) -> float | None:
    return value / to if value is not None and to else None


def tables(session: Session) -> list[Table]:
    """All tables for which there are figures."""
    found = Measurements(session.rows)
    made = [make(found) for make in _TABLES]
    return [table for table in made if table.rows]


# --- rollouts -------------------------------------------------------------------------------------


def _size(measured: Measured) -> tuple[str, ...]:
    case = measured.case
    return case["env"], str(case["agents"]), str(case["copies"])


def _ratios(found: Measurements) -> Table:
    rows = [
        (
            *_size(ours),
            percent(ours.figure("open_share")),
            *(
                _spread(found.beside(ours, "lockstep", kind), "ratio")
                for kind in (BARE, PIPES, RAY)
            ),
            _spread(found.beside(ours, "lockstep", BARE), "cpu_ratio"),
            percent(ours.figure("others_share")),
        )
        for ours in found.of("lockstep", OURS)
    ]
    return Table(
        "Ours against the loops beside it",
        "Our environment steps a second divided by the loop's, block by block in turn: median of "
        "the ratios of neighbouring blocks (quartiles). Bare loop, pipe star and Ray actors move "
        "as many packets of the same sizes and compute a policy of the same sizes, without "
        "environment, telemetry or checks. Cpu: that of a tick, all processes, ours divided by "
        "the bare loop's; it holds on a busy machine too. Others: share of the cores that "
        "processes of somebody else had meanwhile; where it is large, speeds say little.",
        ("env", "N", "E", "edges open", "of the bare loop", "of the pipe star", "of Ray",
         "cpu of the bare loop's", "others"),
        tuple(rows),
    )  # fmt: skip


def _rates(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    for ours in found.of("lockstep", OURS):
        others = [found.beside(ours, "lockstep", kind) for kind in (BARE, PIPES, RAY)]
        rounds = number(ours.figure("rounds"))
        rates = [_spread(played, "steps_per_s") for played in (ours, *others)]
        rows.append((*_size(ours), rounds, *rates))
    return Table(
        "Lock-step rollouts",
        "The same blocks: environment steps a second, real processes and no learner, gate.mode "
        "learned. Median over so many blocks (quartiles).",
        ("env", "N", "E", "blocks", "Murmuration", "bare pyzmq loop", "pipe star", "Ray"),
        tuple(rows),
    )


def _spread(measured: Measured | None, name: str) -> str:
    """A figure with its quartiles."""
    if measured is None or (middle := measured.figure(name)) is None:
        return NOTHING
    ends = [measured.figure(f"{name}_{end}") for end in ("low", "high")]
    return f"{number(middle)} ({number(ends[0])} to {number(ends[1])})"


def _costs(found: Measurements) -> Table:
    names = ("main", "io", "world", "node", "launcher")
    rows: list[tuple[str, ...]] = []
    for ours in found.of("lockstep", OURS):
        others = [found.beside(ours, "lockstep", kind) for kind in (BARE, PIPES)]
        cpu_us = [other.figure("cpu_us_per_agent_step") if other else None for other in others]
        rows.append(
            (
                *_size(ours),
                percent(ours.figure("alive_share")),
                *(number(ours.figure(f"cpu_{name}_us_per_agent_step")) for name in names),
                *(number(cpu) for cpu in cpu_us),
                number(ours.figure("cores_busy"), 2),
            )
        )
    return Table(
        "Cpu of an agent-step",
        "The same runs: µs of cpu for each step of a living agent in one copy. Of the bare loop "
        "its agents with their I/O threads, of the star agents and driver. Busy: cores that all "
        "our processes kept busy.",
        ("env", "N", "E", "alive", "agent", "its I/O thread", "world", "node", "launcher",
         "bare loop", "pipe star", "busy"),
        tuple(rows),
    )  # fmt: skip


def _sizes(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    for ours in found.of("lockstep", OURS):
        bare = found.beside(ours, "lockstep", BARE)
        packets = [ours.figure(f"{name}s_per_agent_tick") for name in ("message", "beacon")]
        sent, most = (
            ours.figure(f"{name}_bytes_per_agent_step") for name in ("edge", "all_edges_float32")
        )
        rows.append(
            (
                *_size(ours),
                *(number(p) for p in packets),
                number(sent),
                percent(ratio(sent, most)),
                number(ours.figure("world_bytes_per_agent_step")),
                number(ours.figure("pss_mb")),
                number(bare.figure("pss_mb")) if bare else NOTHING,
                number(ours.figure("start_s")),
                number(bare.figure("start_s")) if bare else NOTHING,
            )
        )
    return Table(
        "Packets, bytes, memory, start",
        "The same runs: packets that an agent sends over its edges in a tick of all copies; ZMTP "
        "bytes of edges (messages and beacons) for an agent-step, as a share of float32 messages "
        "over all edges, and bytes of the world's exchange (observation and action); PSS of an "
        "agent in MiB; seconds until all agents are ready.",
        ("env", "N", "E", "messages", "beacons", "edge bytes", "of float32 over all",
         "world bytes", "PSS", "PSS bare", "start", "start bare"),
        tuple(rows),
    )  # fmt: skip


def _gates(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    for benchmark in ("lockstep", "gates"):
        for ours in found.of(benchmark, OURS):
            asked = {"env", "agents", "copies"}
            same = {key: ours.case[key] for key in asked}
            if benchmark == "lockstep" and not found.of("gates", OURS, **same):
                continue
            rows.append(
                (
                    *_size(ours),
                    ours.case["gate_mode"],
                    percent(ours.figure("open_share")),
                    number(ours.figure("steps_per_s")),
                    number(ours.figure("cpu_us_per_agent_step")),
                    number(ours.figure("edge_bytes_per_agent_step")),
                )
            )
    rows.sort(key=lambda row: (row[0], int(row[1]), int(row[2]), row[3]))
    return Table(
        "What open edges cost",
        "Environment steps a second, µs of cpu of an agent with its I/O thread, and bytes on edges "
        "for an agent-step. No beacons cross where the gate is not learned.",
        ("env", "N", "E", "gate.mode", "edges open", "steps/s", "cpu µs", "edge bytes"),
        tuple(rows),
    )


def _latency(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    for ours in found.of("edge_latency", OURS, copies=1):
        bare = found.beside(ours, "edge_latency", BARE)
        if bare is None:
            continue
        rows.append(
            (
                *_size(ours),
                *(number(_ms(ours, q)) for q in ("p50", "p99")),
                *(number(_ms(bare, q)) for q in ("p50", "p99")),
                number(ratio(_ms(ours, "p50"), _ms(bare, "p50"))),
                number(_ms(ours, "p50", of_step=True)),
            )
        )
    return Table(
        "Latency of an edge",
        "Milliseconds from handing a message to the socket until its receiver reads it, which in "
        "lock-step waits for its turn on a core. The last column is p50 in steps.",
        ("env", "N", "E", "p50", "p99", "bare p50", "bare p99", "p50 ratio", "p50 in steps"),
        tuple(rows),
    )


def _ms(measured: Measured, quantile: str, *, of_step: bool = False) -> float | None:
    micro = measured.figure(f"latency_{quantile}_us")
    if micro is None or not of_step:
        return None if micro is None else micro / 1e3
    rate = measured.figure("steps_per_s")
    return None if rate is None else micro * 1e-6 * rate / measured.case["copies"]


def _growth(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    first: float | None = None
    for ours in found.of("growth", OURS):
        offsets = (ours.case["agents"] - 1).bit_length()
        cpu_us = ours.figure("cpu_us_per_agent_step")
        per_offset = ratio(cpu_us, offsets)
        first = first or per_offset
        rows.append(
            (
                *_size(ours),
                str(offsets),
                number(ours.figure("steps_per_s")),
                number(cpu_us),
                number(per_offset),
                number(ratio(per_offset, first)),
                number(ours.figure("cpu_world_us_per_agent_step")),
                number(ours.figure("start_s")),
                number(ours.figure("pss_mb")),
            )
        )
    return Table(
        "Growth with the number of agents",
        "Relay throughout, half of the edges open. µs of cpu for an agent-step, the same divided "
        "by K, and that against the first row: budget, no faster than K.",
        ("env", "N", "E", "K", "steps/s", "cpu µs", "cpu µs / K", "against the first",
         "cpu world µs", "start s", "PSS MiB"),
        tuple(rows),
    )  # fmt: skip


def _startup(found: Measurements) -> Table:
    rows = [
        (*_size(ours), number(ours.figure("start_s")), number(ours.figure("pss_mb")))
        for ours in found.of("startup", OURS)
    ]
    return Table(
        "Start",
        "Seconds until every agent has opened its edges; PSS of an agent in MiB.",
        ("env", "N", "E", "start s", "PSS MiB"),
        tuple(rows),
    )


def _telemetry(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    for off in found.of("telemetry", "off"):
        others = [found.beside(off, "telemetry", kind) for kind in ("on", "scraped")]
        rows.append(
            (
                *_size(off),
                *(number(m.figure("steps_per_s") if m else None) for m in (off, *others)),
                *(_slower(other, "ratio") for other in others),
                *(_slower(other, "cpu_ratio", of_cpu=True) for other in others),
            )
        )
    return Table(
        "What measuring costs",
        "Off: nothing that crosses is counted or timed, no memory read; steps, open edges and "
        "heartbeats remain. Scraped: on, and /metrics asked once in every 5 s of its play. Three "
        "runs play in turn, block by block; slower and more cpu are medians of the ratios of "
        "neighbouring blocks (quartiles), in % of steps a second without it and of the cpu of a "
        "tick.",
        ("env", "N", "E", "steps/s off", "on", "scraped", "slower on", "slower scraped",
         "more cpu on", "more cpu scraped"),
        tuple(rows),
    )  # fmt: skip


def _slower(measured: Measured | None, name: str, *, of_cpu: bool = False) -> str:
    """What is lost in percent, from the ratios of the reference to this."""
    if measured is None or measured.figure(name) is None:
        return NOTHING
    lost = [overhead(measured.figure(name + end), of_cpu=of_cpu) for end in ("", "_low", "_high")]
    ends = sorted(value for value in lost[1:] if value is not None)
    return f"{number(lost[0], 2)} % ({' to '.join(number(end, 2) for end in ends)})"


def overhead(ratio: float | None, *, of_cpu: bool = False) -> float | None:
    """Percent of the speed of the reference that is lost, or of its cpu that comes on top."""
    if not ratio:
        return None
    return 100.0 * ((1.0 - ratio) / ratio if of_cpu else 1.0 - 1.0 / ratio)


def _profile(found: Measurements) -> Table:
    names = ("compute", "sending", "receiving", "waiting", "shell", "io_thread")
    rows: list[tuple[str, ...]] = []
    for ours in found.of("profile", OURS):
        parts = [ours.figure(f"profile_{name}_us") for name in names]
        known = [part for part in parts if part is not None]
        rows.append(
            (
                *_size(ours),
                percent(ours.figure("open_share")),
                *(number(part) for part in parts),
                number(sum(known)),
                number(ours.figure("profile_wake_ups_per_tick")),
                percent(ours.figure("profile_idle_share")),
            )
        )
    return Table(
        "Where an agent's time goes",
        "µs of cpu for an agent-step by section (agents/process/profile.py; measuring adds about a "
        "tenth): "
        "compute is AgentCore, waiting what polling costs, shell the loop around. Wake-ups: times "
        "that the process went to sleep in a tick. Idle: share of wall time without cpu.",
        ("env", "N", "E", "edges open", "compute", "sending", "receiving", "waiting", "shell",
         "I/O thread", "sum", "wake-ups", "idle"),
        tuple(rows),
    )  # fmt: skip


# --- learner --------------------------------------------------------------------------------------


def _updates(found: Measurements) -> Table:
    rows: list[tuple[str, ...]] = []
    for measured in found.of("learner_update"):
        case = measured.case
        plain = found.figure(
            "learner_update",
            "update_s",
            "plain",
            **{key: case[key] for key in ("agents", "batch", "steps", "window", "device")},
        )
        seconds = measured.figure("update_s")
        cuda_mb = measured.figure("peak_cuda_mb")
        rows.append(
            (
                measured.kind,
                str(case["agents"]),
                f"{case['batch']} × {case['window'] or case['steps']}",
                _where(case),
                number(seconds),
                number(measured.figure("first_update_s")),
                number(_gb(measured.figure("peak_rss_mb")), 2),
                number(_gb(cuda_mb), 2),
                _times(ratio(plain, seconds)),
            )
        )
    return Table(
        "One update of the learner",
        "Battle, synthetic episodes in which nobody dies: sampling, target and online unroll, "
        "backward, Adam. Seconds (median; the first one touches its memory for the first time), "
        "peak RSS of the process and peak CUDA memory in GB. Plain: the same learner with a "
        "step-by-step unroll (tests/plain_unroll.py).",
        ("unroll", "N", "batch × steps", "device", "s", "first s", "peak RSS", "peak CUDA",
         "faster than plain"),
        tuple(rows),
    )  # fmt: skip


def _where(case: Mapping[str, Any]) -> str:
    """Device of an update; on a GPU how it computes, on a CPU with how many threads."""
    if case["device"] == "cpu":
        return f"cpu, {case['threads']} threads"
    replayed = ", replayed" if case.get("cuda_graph") == "on" else ""
    return f"cuda, {case.get('precision', 'float32')}{replayed}"


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} ×"


def _gb(megabytes: float | None) -> float | None:
    return None if megabytes is None else megabytes / 1e3


def _trainings(found: Measurements) -> Table:
    rows = [
        (
            *_size(ours),
            ours.case["device"],
            f"{ours.case['steps']:,}",
            number(ours.figure("steps_per_s")),
            number(ours.figure("updates_per_s")),
            number(ours.figure("wall_s")),
            number(_ms(ours, "p50")),
            number(_ms(ours, "p99")),
            number(ours.figure("policy_lag_mean")),
        )
        for ours in found.of("end_to_end", OURS)
    ]
    return Table(
        "Training, end to end",
        "python -m runtime.launch, no evaluation. Steps a second over the whole run; updates a "
        "second while there were any; latency of an edge in ms.",
        ("env", "N", "E", "device", "steps", "steps/s", "updates/s", "wall s", "edge p50",
         "edge p99", "policy lag"),
        tuple(rows),
    )  # fmt: skip


_TABLES: Sequence[Callable[[Measurements], Table]] = (
    _ratios,
    _rates,
    _costs,
    _sizes,
    _gates,
    _latency,
    _growth,
    _startup,
    _telemetry,
    _profile,
    _updates,
    _trainings,
)


# --- as text --------------------------------------------------------------------------------------


def as_rich(table: Table) -> rich.table.Table:
    """For a terminal."""
    shown = rich.table.Table(*table.columns, title=table.title, caption=table.note)
    for row in table.rows:
        shown.add_row(*row)
    return shown


def as_markdown(table: Table) -> str:
    """For docs/results/performance.md."""
    lines = [" | ".join(cells) for cells in (table.columns, *table.rows)]
    lines.insert(1, " | ".join("---" for _ in table.columns))
    body = "\n".join(f"| {line} |" for line in lines)
    return f"### {table.title}\n\n{table.note}\n\n{body}\n"
