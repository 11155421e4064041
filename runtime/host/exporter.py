"""One Prometheus exporter per host: a HostTable as text, computed when it is scraped.

    HostTable -> _HostCollector.collect -> http://ADDRESS:PORT/metrics

Series that name an agent are always there; those that name an edge only on request, and only up to
MOST_EDGES of them. Packets and bytes appear with their first count. Latency of messages is one
histogram for each host that they came from; where that host's clock is not to be trusted there is
none, and the round trip to it stands for it. Hosts are told apart by Prometheus's own `instance`
label, murmuration_build_info says which name belongs to it.
"""

import logging
import math
import platform
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from runtime.host import run_figures
from runtime.host.health import Check
from runtime.host.host_table import AgentRecord, Counts, HostTable, total
from runtime.host.metrics_server import MetricsServer
from runtime.net import latency
from runtime.net.errors import SetupError
from runtime.net.traffic import COUNTERS, FORM_OF, REASONS, TrafficClass
from runtime.net.transport import agent_routing_id

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"

MOST_EDGES = 20_000
"""Edges that leave a host, beyond which none of them gets series: each has five."""

LEAST_AWAITED_S = 1.0
"""Seconds after a scrape in which the next one may come, however short the last period was."""

BUCKETS_S = tuple(10e-6 * 2.0**k for k in range(21))
"""Upper bounds of the latency histogram, 10 µs to 10.5 s (the client's defaults begin at 5 ms)."""

_BOUNDS_NS: NDArray[np.float64] = np.array(
    [latency.upper_bound_ns(index) for index in range(latency.BINS)]
)

_INDEX = {name: index for index, name in enumerate(COUNTERS)}

_PLAIN = (
    ("late", "late_packets", "Packets that were under way and missed the deadline."),
    ("agent_steps", "agent_steps", "Environment steps taken, summed over copies."),
    ("edge_slots", "edge_slots", "Times an edge could have been used: alive copies x offsets."),
    ("edges_open", "edges_open", "Times an edge was used."),
    ("edge_handshake_zmtp", "edge_handshake_bytes", "ZMTP bytes sent to open edges."),
    ("trajectories_sent", "sent_trajectories", "Episodes sent to the learner."),
    ("snapshots_requested", "requested_snapshots", "Dense parameters asked for after a gap."),
    ("shared_parameters", "shared_parameters_bytes", "Policy versions read in shared memory."),
    ("ticks_missed", "missed_ticks", "Ticks of a deployed agent that found nothing new to see."),
)
"""Counter in the report, name of the series, help."""


class Exporter:
    """Serves a host's table until closed."""

    def __init__(
        self,
        table: HostTable,
        port: int,
        *,
        address: str = ADDRESS,
        facts: Mapping[str, str] | None = None,
        per_edge: bool = False,
        checks: Mapping[str, Check] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start serving on a thread of its own; port 0 takes any free one, see `port`.

        Args:
            address: where to listen; whoever reaches it can read everything, nobody can write.
            facts: further labels of murmuration_build_info, such as the transport.
            per_edge: export the series of every edge as well, unless there are too many.
            checks: served beside /metrics, by path.
            clock: the monotonic clock that the table was updated by.

        Raises:
            SetupError: the port is taken, or the address is not one of this host.
        """
        if per_edge and table.num_edges > MOST_EDGES:
            logger.warning(
                "no series of edges: %d edges leave this host, the exporter takes %d at most",
                table.num_edges,
                MOST_EDGES,
            )
            per_edge = False
        registry = CollectorRegistry()
        self._collector = _HostCollector(table, facts or {}, per_edge, clock)
        registry.register(self._collector)
        try:
            self._server = MetricsServer(port, address, registry, checks=checks)
        except (OSError, OverflowError, UnicodeError) as error:
            raise _unusable(port, address, error) from error

    @property
    def port(self) -> int:
        return self._server.port

    def is_awaited(self, now_s: float, final_s: float) -> bool:
        """Whether a scraper that comes regularly has yet to hear that the run has ended, and how.

        Prometheus cannot tell an exporter that has gone for good from one whose host has died,
        unless it was told.

        Args:
            final_s: since when the table's figures have been final. A scrape before that may have
                heard of the end, but not of what agents report as they leave.
        """
        scrapes_s = tuple(self._collector.scrapes_s)
        if self._collector.told_of_the_end_s >= final_s:
            return self._server.num_requests > 0  # the answer may be on its way yet
        if len(scrapes_s) < 2:
            return False
        before_s, last_s = scrapes_s
        return now_s - last_s < max(1.5 * (last_s - before_s), LEAST_AWAITED_S)

    def close(self) -> None:
        self._server.close()


def require_free_port(port: int, address: str = ADDRESS) -> None:
    """Check that an exporter could listen here; 0 means no exporter and always passes.

    Raises:
        SetupError: the port is taken, or the address is not one of this host.
    """
    if port == 0:
        return
    try:
        family, kind, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _unusable(port, address, error) from error


def _unusable(port: int, address: str, error: Exception) -> SetupError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return SetupError(
        f"metrics port {port} on {address} cannot be used ({reason}): choose another with "
        "--metrics-port, 0 for none, or another --metrics-address"
    )


class _HostCollector(Collector):
    def __init__(
        self,
        table: HostTable,
        facts: Mapping[str, str],
        per_edge: bool,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._build = {
            "version": _version(),
            "python": platform.python_version(),
            "host": table.hosts[table.host],
            **facts,
        }
        self._per_edge = per_edge
        self._clock = clock
        self.scrapes_s: deque[float] = deque(maxlen=2)
        """Clock readings of the last scrapes."""
        self.told_of_the_end_s = -math.inf
        """Clock reading of the last scrape that was told of the end."""

    def collect(self) -> Iterator[Metric]:
        """Answer a scrape."""
        begun_s = self._clock()
        self.scrapes_s.append(begun_s)
        has_ended = self._table.has_ended
        yield from self._families()
        if has_ended:
            self.told_of_the_end_s = begun_s

    def _families(self) -> Iterator[Metric]:
        table, now_s = self._table, self._clock()
        records = table.records()
        unix_minus_monotonic_s = time.time() - now_s
        build = InfoMetricFamily("murmuration_build", "What is running here.")
        build.add_metric([], self._build)
        yield build
        yield GaugeMetricFamily(
            "murmuration_run_ended",
            "1 once the run has ended as it should: the exporter will be gone soon.",
            int(table.has_ended),
        )
        yield from run_figures.families(table.run)
        yield from _traffic(records)
        yield from _node_traffic(table.node.counters)
        yield from _arrived_versions(records)
        yield from _counters(records)
        yield from _refusals(records, table.node.counters)
        yield from _losses(records, table.node.counters)
        yield from _gauges(table.agents, records, now_s, unix_minus_monotonic_s)
        yield from _versions(table, records, now_s)
        yield _message_latency(table, records)
        yield from _action_latency(records)
        yield from _clocks(table)
        if self._per_edge:
            yield from _edges(table, unix_minus_monotonic_s)

    def describe(self) -> Iterator[Metric]:
        """Every family there may be: by these names `/metrics?name[]=…` finds us."""
        yield from self._families()
        yield from run_figures.families(dict.fromkeys(run_figures.NAMES, 0.0))
        yield from (run_figures.own_family(), _policy_lag(), _action_latency_family())
        yield from _policy_changes()


def _version() -> str:
    try:
        return version("murmuration")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def _traffic(records: list[AgentRecord]) -> Iterator[Metric]:
    """Packets and bytes by class; classes that an agent has never used stay away."""
    by_class = ["agent", "class"]
    packets = {
        way: CounterMetricFamily(f"murmuration_{way}_packets", f"Packets {way}.", labels=by_class)
        for way in ("sent", "received")
    }
    payload = CounterMetricFamily(
        "murmuration_payload_bytes", "Bytes of packets.", labels=[*by_class, "direction"]
    )
    zmtp = CounterMetricFamily(
        "murmuration_zmtp_bytes",
        "Bytes of packets and their framing, without handshakes.",
        labels=[*by_class, "direction"],
    )
    for record in records:
        agent, counters = str(record.agent), record.counters.tolist()
        for traffic_class in TrafficClass:
            name = traffic_class.name.lower()
            for way in ("sent", "received"):
                count = counters[_INDEX[f"{way}_packets_{name}"]]
                if count == 0:
                    continue
                packets[way].add_metric([agent, name], count)
                for family, layer in ((payload, "payload"), (zmtp, "zmtp")):
                    family.add_metric([agent, name, way], counters[_INDEX[f"{way}_{layer}_{name}"]])
    yield from (*packets.values(), payload, zmtp)


def _node_traffic(counters: Counts) -> Iterator[Metric]:
    """What the node itself passes on: parameters, the control of its agents, its own reports."""
    payload = CounterMetricFamily(
        "murmuration_node_payload_bytes",
        "Bytes of packets that the node sent or received.",
        labels=["class", "direction"],
    )
    zmtp = CounterMetricFamily(
        "murmuration_node_zmtp_bytes",
        "The same and their framing, without handshakes.",
        labels=["class", "direction"],
    )
    for traffic_class in TrafficClass:
        name = traffic_class.name.lower()
        for way in ("sent", "received"):
            if not counters[_INDEX[f"{way}_packets_{name}"]]:
                continue
            for family, layer in ((payload, "payload"), (zmtp, "zmtp")):
                family.add_metric([name, way], float(counters[_INDEX[f"{way}_{layer}_{name}"]]))
    yield from (payload, zmtp)


def _arrived_versions(records: list[AgentRecord]) -> Iterator[Metric]:
    """Policy versions and their bytes by form; forms that an agent has never seen stay away."""
    labels = ["agent", "form"]
    versions = CounterMetricFamily(
        "murmuration_received_versions", "Policy versions that arrived.", labels=labels
    )
    payload = CounterMetricFamily(
        "murmuration_version_payload_bytes", "Bytes of the packets they came in.", labels=labels
    )
    for record in records:
        agent, counters = str(record.agent), record.counters.tolist()
        for form in FORM_OF.values():
            if count := counters[_INDEX[f"versions_{form}"]]:
                versions.add_metric([agent, form], count)
                payload.add_metric([agent, form], counters[_INDEX[f"version_payload_{form}"]])
    yield from (versions, payload)


def _counters(records: list[AgentRecord]) -> Iterator[Metric]:
    tcp = CounterMetricFamily(
        "murmuration_tcp_bytes",
        "Bytes on the agent's edges as the kernel counts them (tcp transport only).",
        labels=["agent", "direction"],
    )
    restarts = CounterMetricFamily(
        "murmuration_agent_restarts", "Restarts of the agent's process.", labels=["agent"]
    )
    plain = [
        (CounterMetricFamily(f"murmuration_{name}", text, labels=["agent"]), _INDEX[counter])
        for counter, name, text in _PLAIN
    ]
    for record in records:
        agent, counters = str(record.agent), record.counters.tolist()
        restarts.add_metric([agent], record.incarnation)
        for family, index in plain:
            family.add_metric([agent], counters[index])
        for way in ("sent", "received"):
            if size_bytes := counters[_INDEX[f"edge_tcp_{way}"]]:
                tcp.add_metric([agent, way], size_bytes)
    yield from (tcp, restarts)
    yield from (family for family, _ in plain)


def _refusals(records: list[AgentRecord], node: Counts) -> Iterator[Metric]:
    """Packets and connections that were turned away, by process.

    The node's series are there from the beginning, so that sums over a host exist before anything
    has gone wrong and a first refusal is an increase.
    """
    dropped = CounterMetricFamily(
        "murmuration_dropped_packets", "Packets dropped, by reason.", labels=["process", "reason"]
    )
    refused = CounterMetricFamily(
        "murmuration_refused_connections",
        "Connections turned away: no key that is listed, or none shown while too many waited.",
        labels=["process"],
    )
    for reason in REASONS:
        dropped.add_metric(["node", reason], float(node[_INDEX[f"dropped_{reason}"]]))
    refused.add_metric(["node"], float(node[_INDEX["refused"]]))
    for record in records:
        process, counters = agent_routing_id(record.agent).decode(), record.counters.tolist()
        for reason in REASONS:
            if count := counters[_INDEX[f"dropped_{reason}"]]:
                dropped.add_metric([process, reason], count)
        if count := counters[_INDEX["refused"]]:
            refused.add_metric([process], count)
    yield from (dropped, refused)


def _losses(records: list[AgentRecord], node: Counts) -> Iterator[Metric]:
    """What telemetry itself has missed, by process; the node's series are there from the start."""
    for counter, name, text in (
        ("readings_failed", "failed_readings", "Looks at kernel counters or memory that failed."),
        ("log_lines_lost", "lost_log_lines", "Lines that the process's log could not take."),
    ):
        index = _INDEX[counter]
        family = CounterMetricFamily(f"murmuration_{name}", text, labels=["process"])
        family.add_metric(["node"], float(node[index]))
        for record in records:
            if count := record.counters[index]:
                family.add_metric([agent_routing_id(record.agent).decode()], float(count))
        yield family


def _gauges(
    agents: tuple[int, ...],
    records: list[AgentRecord],
    now_s: float,
    unix_minus_monotonic_s: float,
) -> Iterator[Metric]:
    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"murmuration_{name}", text, labels=["agent"])

    up = gauge("agent_up", "1 while the agent reports, 0 before it does and when it falls silent.")
    policy_version = gauge("policy_version", "Policy version the agent acts by.")
    open_ratio = gauge("edge_open_ratio", "Open share of the agent's edges since its last report.")
    last_report = gauge("last_report_timestamp_seconds", "Unix time of the agent's last report.")
    last_message = gauge(
        "last_message_timestamp_seconds",
        "Unix time of the report that last counted a message from anybody.",
    )
    for agent in sorted({*agents} - {record.agent for record in records}):
        up.add_metric([str(agent)], 0)
    for record in records:
        agent = str(record.agent)
        up.add_metric([agent], 0 if record.is_silent(now_s) else 1)
        last_report.add_metric([agent], record.reported_s + unix_minus_monotonic_s)
        if not np.isnan(record.heard_s).all():
            heard_s = float(np.nanmax(record.heard_s))
            last_message.add_metric([agent], heard_s + unix_minus_monotonic_s)
        if record.is_silent(now_s):
            continue
        policy_version.add_metric([agent], record.policy_version)
        if record.open_ratio is not None:
            open_ratio.add_metric([agent], record.open_ratio)
    yield from (up, policy_version, open_ratio, last_report, last_message)


def _versions(table: HostTable, records: list[AgentRecord], now_s: float) -> Iterator[Metric]:
    newest = table.node.policy_version
    yield GaugeMetricFamily(
        "murmuration_newest_policy_version", "Newest policy version that the node has.", newest
    )
    versions = [record.policy_version for record in records if not record.is_silent(now_s)]
    if versions:
        yield _policy_lag(max(newest - min(versions), 0))
    if table.policy_changes is not None:
        yield from _policy_changes(*table.policy_changes)


def _policy_changes(updates: int = 0, rollbacks: int = 0) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "murmuration_policy_updates",
        "Policy versions that a deployed host's agents were handed while they acted.",
        updates,
    )
    yield CounterMetricFamily(
        "murmuration_policy_rollbacks", "Those of them that were taken back.", rollbacks
    )


def _policy_lag(versions: float | None = None) -> Metric:
    return GaugeMetricFamily(
        "murmuration_policy_lag_versions",
        "Versions that the host's hindmost agent is behind the node's newest.",
        versions,
    )


def _message_latency(table: HostTable, records: list[AgentRecord]) -> Metric:
    family = HistogramMetricFamily(
        "murmuration_message_latency_seconds",
        "Sending to receiving, by the host that messages came from, where its clock is trusted.",
        labels=["source_host"],
    )
    sums_ns = np.zeros(len(table.hosts), dtype=np.uint64)
    for record in records:
        np.add.at(sums_ns, record.in_hosts, record.edges[:, 3])
    for source, name in enumerate(table.hosts):
        if table.trusts(source):
            bins = total([record.latency[source] for record in records], latency.BINS)
            family.add_metric([name], _buckets(bins), float(sums_ns[source]) / 1e9)
    return family


def _action_latency(records: list[AgentRecord]) -> Iterator[Metric]:
    """Observation in to action out, if any agent counts that.

    Agents report no sum of it: the middles of the bins make one that is right to 9 %.
    """
    bins = total([record.action_latency for record in records], latency.BINS)
    if not bins.any():
        return
    family = _action_latency_family()
    middles_ns = _BOUNDS_NS * 2.0 ** (-0.5 / latency.PER_OCTAVE)
    family.add_metric([], _buckets(bins), float(np.dot(bins, middles_ns)) / 1e9)
    yield family


def _action_latency_family() -> HistogramMetricFamily:
    return HistogramMetricFamily(
        "murmuration_action_latency_seconds",
        "Observation in to action out, deployed agents of this host.",
    )


def _buckets(bins: Counts) -> list[tuple[str, float]]:
    """Coarsen our bins: each counts in the first bucket that holds all of it."""
    cumulative = bins.cumsum()
    buckets: list[tuple[str, float]] = []
    for bound_s in BUCKETS_S:
        taken = int(np.searchsorted(_BOUNDS_NS, bound_s * 1e9, side="right"))
        buckets.append((f"{bound_s:.6g}", float(cumulative[taken - 1])))
    buckets.append(("+Inf", float(cumulative[-1])))
    return buckets


def _clocks(table: HostTable) -> Iterator[Metric]:
    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"murmuration_{name}", text, labels=["peer"])

    offset = gauge("clock_offset_seconds", "To be added to the peer's monotonic clock.")
    error = gauge("clock_error_seconds", "Bound of that offset's error.")
    round_trip = gauge("round_trip_seconds", "Of a clock probe to the peer and back.")
    trusted = gauge("one_way_trusted", "1 where one-way latency is reported, 0 where it is not.")
    for clock in table.clocks():
        offset.add_metric([clock.host], clock.offset_s)
        error.add_metric([clock.host], clock.error_s)
        round_trip.add_metric([clock.host], clock.round_trip_s)
        trusted.add_metric([clock.host], int(clock.one_way_trusted))
    yield from (offset, error, round_trip, trusted)


def _edges(table: HostTable, unix_minus_monotonic_s: float) -> Iterator[Metric]:
    ends = ["src", "dst"]
    messages = CounterMetricFamily(
        "murmuration_edge_messages", "Messages sent over the edge.", labels=ends
    )
    size = CounterMetricFamily(
        "murmuration_edge_bytes", "ZMTP bytes of messages sent over the edge.", labels=ends
    )
    received = CounterMetricFamily(
        "murmuration_edge_received_messages", "Messages that came over the edge.", labels=ends
    )
    delay = CounterMetricFamily(
        "murmuration_edge_latency_seconds",
        "Summed latency of messages received, where the sender's clock is trusted.",
        labels=ends,
    )
    last_message = GaugeMetricFamily(
        "murmuration_edge_last_message_timestamp_seconds",
        "Unix time of the report that last counted a message received.",
        labels=ends,
    )
    for edge in table.out_edges():
        messages.add_metric([str(edge.source), str(edge.target)], edge.messages)
        size.add_metric([str(edge.source), str(edge.target)], edge.size_bytes)
    trusted = [table.trusts(source) for source in range(len(table.hosts))]
    for edge in table.in_edges():
        names = [str(edge.source), str(edge.target)]
        received.add_metric(names, edge.messages)
        if trusted[table.host_of(edge.source)]:
            delay.add_metric(names, edge.latency_ns / 1e9)
        if not math.isnan(edge.heard_s):
            last_message.add_metric(names, edge.heard_s + unix_minus_monotonic_s)
    yield from (messages, size, received, delay, last_message)
