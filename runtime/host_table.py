"""What one host knows about its agents: the latest report of each, and sums that survive restarts.

    AgentReport -> HostTable.update -> records() for the exporter, status() for the launcher

An agent's counters begin again with every incarnation, so what its earlier lives had is added:
every sum only grows. Reports arrive in the node's loop while an HTTP thread scrapes: records are
immutable and the lock covers nothing but the dictionary that holds them.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents import backbone
from runtime import latency
from runtime.traffic import COUNTERS
from runtime.wire import AgentReport

REPORT_PERIOD_S = 1.0
"""Seconds between two reports of an agent."""

SILENT_REPORTS = 3
"""An agent that misses more reports than this counts as silent: its gauges disappear, sums stay."""

Counts = NDArray[np.uint64]

_SLOTS, _OPEN = COUNTERS.index("edge_slots"), COUNTERS.index("edges_open")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AgentRecord:
    """One agent at one moment."""

    agent: int
    incarnation: int
    """Restarts so far."""
    tick: int
    policy_version: int
    reported_s: float
    """Monotonic time of the report."""
    counters: Counts
    """[len(COUNTERS)] summed over all incarnations, as are the next two."""
    latency: Counts
    """[BINS]"""
    edges: Counts
    """[K, 4] per out-edge messages, bytes; per in-edge messages, summed latency in ns."""
    open_ratio: float | None
    """Open share of the edges between the last two reports that saw any; None before the first."""

    def is_silent(self, now_s: float) -> bool:
        return now_s - self.reported_s > SILENT_REPORTS * REPORT_PERIOD_S


@dataclass(frozen=True, slots=True)
class OutEdge:
    """What a sender on this host has put on one edge."""

    source: int
    target: int
    messages: int
    size_bytes: int
    """ZMTP bytes."""


@dataclass(frozen=True, slots=True)
class InEdge:
    """What a receiver on this host has taken from one edge."""

    source: int
    target: int
    messages: int
    latency_ns: int
    """Summed over the messages."""


class HostTable:
    """The agents of one host."""

    def __init__(self, num_agents: int) -> None:
        """`num_agents` is the whole population N, of which this host may run a part."""
        self._num_agents = num_agents
        self._num_edges = len(backbone.offsets(num_agents))
        self._lock = threading.Lock()
        self._records: dict[int, AgentRecord] = {}
        self._before: dict[int, tuple[Counts, Counts, Counts]] = {}

    def update(self, report: AgentReport, now_s: float) -> None:
        """Take an agent's report; one from an incarnation that has been replaced is ignored.

        Raises:
            ValueError: an agent that does not exist, or arrays of another shape than ours.
        """
        self._require_fit(report)
        last = self._records.get(report.agent)
        if last is not None and report.incarnation < last.incarnation:
            return
        if last is not None and report.incarnation > last.incarnation:
            self._before[report.agent] = (last.counters, last.latency, last.edges)
        sums: tuple[Counts, Counts, Counts] = (report.counters, report.latency, report.edges)
        before = self._before.get(report.agent)
        # Sums are copies in any case: the report's arrays are views of its frame.
        counters, histogram, edges = (
            (part.copy() for part in sums)
            if before is None
            else (part + earlier for part, earlier in zip(sums, before, strict=True))
        )
        record = AgentRecord(
            agent=report.agent,
            incarnation=report.incarnation,
            tick=report.tick,
            policy_version=report.policy_version,
            reported_s=now_s,
            counters=counters,
            latency=histogram,
            edges=edges,
            open_ratio=_open_ratio(last, counters),
        )
        with self._lock:
            self._records[report.agent] = record

    def _require_fit(self, report: AgentReport) -> None:
        if report.agent >= self._num_agents:
            raise ValueError(f"report of agent {report.agent}, there are {self._num_agents}")
        found = (report.counters.shape, report.latency.shape, report.edges.shape)
        wanted = ((len(COUNTERS),), (latency.BINS,), (self._num_edges, 4))
        if found != wanted:
            raise ValueError(f"report has arrays {found}, expected {wanted}")

    def records(self) -> list[AgentRecord]:
        """The latest record of every agent heard so far, by agent; safe from any thread."""
        with self._lock:
            records = list(self._records.values())
        return sorted(records, key=lambda record: record.agent)

    def latency_histogram(self) -> Counts:
        """[BINS] message latency of all agents and incarnations."""
        return total([record.latency for record in self.records()], latency.BINS)

    def out_edges(self) -> Iterator[OutEdge]:
        for record in self.records():
            targets = backbone.out_neighbours(record.agent, self._num_agents)
            for target, (messages, size_bytes) in zip(
                targets, record.edges[:, :2].tolist(), strict=True
            ):
                yield OutEdge(record.agent, target, messages, size_bytes)

    def in_edges(self) -> Iterator[InEdge]:
        for record in self.records():
            sources = backbone.in_neighbours(record.agent, self._num_agents)
            for source, (messages, latency_ns) in zip(
                sources, record.edges[:, 2:].tolist(), strict=True
            ):
                yield InEdge(source, record.agent, messages, latency_ns)

    def status(self, now_s: float) -> dict[str, float]:
        """Host totals under the names of `COUNTERS`, and what the launcher shows of the agents.

        Besides: `agents_reporting`, `restarts`; over the agents that are not silent `tick` (the
        newest), `policy_version_min` and `policy_version_max` (0 if there are none); and the
        quantiles `message_latency_p50_ms` and `message_latency_p99_ms` of all messages so far.
        """
        records = self.records()
        reporting = [record for record in records if not record.is_silent(now_s)]
        versions = [record.policy_version for record in reporting]
        totals = total([record.counters for record in records], len(COUNTERS))
        histogram = total([record.latency for record in records], latency.BINS)
        return {
            **{name: float(count) for name, count in zip(COUNTERS, totals.tolist(), strict=True)},
            "agents_reporting": float(len(reporting)),
            "restarts": float(sum(record.incarnation for record in records)),
            "tick": float(max((record.tick for record in reporting), default=0)),
            "policy_version_min": float(min(versions, default=0)),
            "policy_version_max": float(max(versions, default=0)),
            "message_latency_p50_ms": latency.quantile_ns(histogram, 0.5) / 1e6,
            "message_latency_p99_ms": latency.quantile_ns(histogram, 0.99) / 1e6,
        }


def _open_ratio(last: AgentRecord | None, counters: Counts) -> float | None:
    slots, used = int(counters[_SLOTS]), int(counters[_OPEN])
    if last is not None:
        slots, used = slots - int(last.counters[_SLOTS]), used - int(last.counters[_OPEN])
    if slots > 0:
        return used / slots
    return None if last is None else last.open_ratio


def total(parts: list[Counts], length: int) -> Counts:
    """[length] elementwise sum, zeros if there is nothing to add."""
    return np.add.reduce(np.stack(parts)) if parts else np.zeros(length, dtype=np.uint64)
