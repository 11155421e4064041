"""What one host knows about its agents: the latest report of each, and sums that survive restarts.

    AgentReport -> HostTable.update     ┐
    node's own counters -> set_node     ┼-> records() … for the exporter, status() for the launcher
    clock estimates -> set_clocks       ┘

An agent's counters begin again with every incarnation, so what its earlier lives had is added:
every sum only grows. Reports arrive in the node's loop while an HTTP thread scrapes: records are
immutable and the lock covers nothing but the dictionary that holds them.

Latency is kept by the sender's host. That of messages from another host is as good as the estimate
of its clock: where that is not to be trusted (`trusts`) nobody gets to see one-way figures.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.net import latency
from runtime.net.report_period import SHORTEST_S, report_period_s
from runtime.net.topology import Graph, exponential
from runtime.net.traffic import COUNTERS
from runtime.net.wire import AgentReport

SILENT_REPORTS = 3
"""An agent that misses more reports than this counts as silent: its gauges disappear, sums stay."""

Counts = NDArray[np.uint64]

Times = NDArray[np.float64]

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
    report_period_s: float = SHORTEST_S
    """Seconds until the next one."""
    counters: Counts
    """[len(COUNTERS)] summed over all incarnations, as are the next three."""
    latency: Counts
    """[hosts, BINS] by the sender's host."""
    action_latency: Counts
    """[BINS] observation in to action out."""
    edges: Counts
    """[K, 4] per out-edge messages, bytes; per in-edge messages, summed latency in ns."""
    heard_s: Times
    """[K] monotonic time of the report that last counted a message of the in-edge, nan: never."""
    in_hosts: NDArray[np.intp]
    """[K] index of the host of each in-neighbour."""
    open_ratio: float | None
    """Open share of the edges between the last two reports that saw any; None before the first."""

    def is_silent(self, now_s: float) -> bool:
        return now_s - self.reported_s > SILENT_REPORTS * self.report_period_s


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
    heard_s: float
    """Monotonic time, to a report period, of the last message; nan if there was none."""


@dataclass(frozen=True, slots=True)
class PeerClock:
    """What a node knows about another host's monotonic clock."""

    host: str
    offset_s: float
    """To be added to the other clock to read it as ours."""
    error_s: float
    """Bound of the offset's error."""
    round_trip_s: float
    """Shortest recent probe round trip."""
    one_way_trusted: bool
    """Whether the bound is small enough (20 % of the latency) to report one-way latency."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NodeRecord:
    """The node itself at one moment."""

    counters: Counts
    """[len(COUNTERS)]"""
    policy_version: int
    """Newest version that the node has got."""


class HostTable:
    """The agents of one host."""

    def __init__(
        self,
        num_agents: int,
        hosts: tuple[str, ...] = ("local",),
        host: int = 0,
        host_of: Sequence[int] | None = None,
        *,
        graph: Graph | None = None,
    ) -> None:
        """Nobody has reported yet.

        Args:
            num_agents: the whole population N, of which this host may run a part.
            hosts: names of all hosts, in the order of a report's latency.
            host: index of this one.
            host_of: [N] index of every agent's host; None if they are all here.
            graph: edges that exist; None: the exponential graph.

        Raises:
            ValueError: a host that does not exist, or not one host for each agent.
        """
        self.hosts = hosts
        self.host = host
        self._graph = exponential(num_agents) if graph is None else graph
        self._num_edges = self._graph.num_edges
        self.house((host,) * num_agents if host_of is None else host_of)
        # Agents count what they like: however they lie, sums over all of them fit 64 bits.
        self._most = np.uint64((1 << 63) // num_agents)
        self._most_of_a_bin = np.uint64((1 << 63) // (num_agents * len(hosts) * latency.BINS))
        self._report_period_s = report_period_s(num_agents)
        self._lock = threading.Lock()
        self._records: dict[int, AgentRecord] = {}
        self._before: dict[int, tuple[Counts, Counts, Counts, Counts]] = {}
        self._clocks: dict[str, PeerClock] = {}
        self._node = NodeRecord(counters=np.zeros(len(COUNTERS), np.uint64), policy_version=0)
        self._run: Mapping[str, float] = {}
        self._has_ended = False
        self.policy_changes: tuple[int, int] | None = None
        """Versions that a deployed host's agents took up in place, and those of them that were
        taken back; None: this host is not deployed."""

    def house(self, host_of: Sequence[int]) -> None:
        """Take note of where everybody lives: at first, and when agents have moved.

        Raises:
            ValueError: a host that does not exist, or not one host for each agent.
        """
        num_agents = self._graph.num_agents
        if len(host_of) != num_agents:
            raise ValueError(f"{len(host_of)} agents have hosts, there are {num_agents}")
        if not {self.host, *host_of} <= set(range(len(self.hosts))):
            raise ValueError(f"host {max(self.host, *host_of)}, there are {len(self.hosts)}")
        self._host_of = tuple(host_of)
        self.agents = tuple(agent for agent, home in enumerate(host_of) if home == self.host)
        """This host's share."""
        homes = np.array(host_of)
        self._in_hosts = {
            agent: homes[list(self._graph.in_neighbours(agent))] for agent in self.agents
        }

    @property
    def num_edges(self) -> int:
        """Edges that leave this host's agents; as many reach them."""
        return len(self.agents) * self._num_edges

    def update(self, report: AgentReport, now_s: float) -> bool:
        """Take an agent's report; False: it is of an incarnation that has been replaced.

        Raises:
            ValueError: an agent that is not of this host, or arrays of another shape than ours.
        """
        self._require_fit(report)
        last = self._records.get(report.agent)
        if last is not None and report.incarnation < last.incarnation:
            return False
        if last is not None and report.incarnation > last.incarnation:
            self._before[report.agent] = (
                last.counters,
                last.latency,
                last.action_latency,
                last.edges,
            )
        most, of_a_bin = self._most, self._most_of_a_bin
        sums = (
            (report.counters, most),
            (report.latency, of_a_bin),
            (report.action_latency, of_a_bin),
            (report.edges, most),
        )
        before = self._before.get(report.agent)
        # Sums are copies in any case: the report's arrays are views of its frame.
        counters, histograms, action_histogram, edges = (
            (np.minimum(part, limit) for part, limit in sums)
            if before is None
            else (
                np.minimum(np.minimum(part, limit) + earlier, limit)
                for (part, limit), earlier in zip(sums, before, strict=True)
            )
        )
        record = AgentRecord(
            agent=report.agent,
            incarnation=report.incarnation,
            tick=report.tick,
            policy_version=report.policy_version,
            reported_s=now_s,
            report_period_s=self._report_period_s,
            counters=counters,
            latency=histograms,
            action_latency=action_histogram,
            edges=edges,
            heard_s=_heard_s(last, edges, now_s),
            in_hosts=self._in_hosts[report.agent],
            open_ratio=_open_ratio(last, counters),
        )
        with self._lock:
            self._records[report.agent] = record
        return True

    def _require_fit(self, report: AgentReport) -> None:
        if report.agent >= self._graph.num_agents:
            raise ValueError(f"report of agent {report.agent}, there are {self._graph.num_agents}")
        if self._host_of[report.agent] != self.host:
            raise ValueError(f"report of agent {report.agent}, which is not of this host")
        found = (
            report.counters.shape,
            report.latency.shape,
            report.action_latency.shape,
            report.edges.shape,
        )
        wanted = (
            (len(COUNTERS),),
            (len(self.hosts), latency.BINS),
            (latency.BINS,),
            (self._num_edges, 4),
        )
        if found != wanted:
            raise ValueError(f"report has arrays {found}, expected {wanted}")

    def set_node(self, counters: Counts, policy_version: int) -> None:
        """Take the node's own counters (`Traffic.as_array`) and its newest policy version."""
        self._node = NodeRecord(counters=counters, policy_version=policy_version)

    @property
    def node(self) -> NodeRecord:
        return self._node

    def set_run(self, figures: Mapping[str, float]) -> None:
        """Take the launcher's figures of the whole run (runtime/host/run_figures.py)."""
        self._run = dict(figures)

    @property
    def run(self) -> Mapping[str, float]:
        """Figures of the whole run; empty on all hosts but the launcher's."""
        return self._run

    def end(self) -> None:
        """The run has ended as it should."""
        self._has_ended = True

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    def set_clocks(self, clocks: Iterable[PeerClock]) -> None:
        """Replace all that was known about other hosts' clocks.

        Raises:
            ValueError: a host that does not exist, or our own.
        """
        known = {clock.host: clock for clock in clocks}
        strangers = known.keys() - (set(self.hosts) - {self.hosts[self.host]})
        if strangers:
            raise ValueError(f"clock of {min(strangers)}, the hosts are {', '.join(self.hosts)}")
        self._clocks = known

    def clocks(self) -> list[PeerClock]:
        """What is known of other hosts' clocks, by host; safe from any thread."""
        return sorted(self._clocks.values(), key=lambda clock: clock.host)

    def trusts(self, source: int) -> bool:
        """Whether one-way latency of messages from that host may be reported."""
        if source == self.host:
            return True
        clock = self._clocks.get(self.hosts[source])
        return clock is not None and clock.one_way_trusted

    def records(self) -> list[AgentRecord]:
        """The latest record of every agent heard so far, by agent; safe from any thread."""
        with self._lock:
            records = list(self._records.values())
        return sorted(records, key=lambda record: record.agent)

    def latency_histogram(self, source: int) -> Counts:
        """[BINS] latency of messages from one host, trusted or not: all agents and incarnations."""
        return total([record.latency[source] for record in self.records()], latency.BINS)

    def host_of(self, agent: int) -> int:
        """Index of the host that an agent lives on."""
        return self._host_of[agent]

    def out_edges(self) -> Iterator[OutEdge]:
        for record in self.records():
            targets = self._graph.out_neighbours(record.agent)
            for target, (messages, size_bytes) in zip(
                targets, record.edges[:, :2].tolist(), strict=True
            ):
                yield OutEdge(record.agent, target, messages, size_bytes)

    def in_edges(self) -> Iterator[InEdge]:
        for record in self.records():
            sources = self._graph.in_neighbours(record.agent)
            for source, (messages, latency_ns), heard_s in zip(
                sources, record.edges[:, 2:].tolist(), record.heard_s.tolist(), strict=True
            ):
                yield InEdge(source, record.agent, messages, latency_ns, heard_s)

    def status(self, now_s: float) -> dict[str, float]:
        """Host totals under the names of `COUNTERS`, and what the launcher shows of the agents.

        Besides: `agents_reporting`, `restarts`; over the agents that are not silent `tick` (the
        newest), `policy_version_min` and `policy_version_max` (0 if there are none); and the
        quantiles so far: `message_latency_p50_ms` and `message_latency_p99_ms` of messages from
        hosts whose clocks are trusted, `action_latency_p50_ms` and `action_latency_p99_ms`.
        """
        records = self.records()
        reporting = [record for record in records if not record.is_silent(now_s)]
        versions = [record.policy_version for record in reporting]
        totals = total([record.counters for record in records], len(COUNTERS))
        trusted = [source for source in range(len(self.hosts)) if self.trusts(source)]
        messages = total([record.latency[trusted].sum(axis=0) for record in records], latency.BINS)
        actions = total([record.action_latency for record in records], latency.BINS)
        return {
            **{name: float(count) for name, count in zip(COUNTERS, totals.tolist(), strict=True)},
            "agents_reporting": float(len(reporting)),
            "restarts": float(sum(record.incarnation for record in records)),
            "tick": float(max((record.tick for record in reporting), default=0)),
            "policy_version_min": float(min(versions, default=0)),
            "policy_version_max": float(max(versions, default=0)),
            "message_latency_p50_ms": latency.quantile_ns(messages, 0.5) / 1e6,
            "message_latency_p99_ms": latency.quantile_ns(messages, 0.99) / 1e6,
            "action_latency_p50_ms": latency.quantile_ns(actions, 0.5) / 1e6,
            "action_latency_p99_ms": latency.quantile_ns(actions, 0.99) / 1e6,
        }


def _heard_s(last: AgentRecord | None, edges: Counts, now_s: float) -> Times:
    """[K] now for edges that have counted more messages than last time."""
    messages = edges[:, 2]
    if last is None:
        return np.where(messages > 0, now_s, np.nan)
    return np.where(messages > last.edges[:, 2], now_s, last.heard_s)


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
