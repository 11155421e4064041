"""One Prometheus exporter per host: a HostTable as text, computed when it is scraped.

    HostTable -> _HostCollector.collect -> http://127.0.0.1:PORT/metrics

Series that name an agent are always there; those that name an edge only on request (agents ×
offsets of each family). Latency is one histogram per host. Packets and bytes appear with their
first count.
"""

import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from runtime import latency
from runtime.errors import SetupError
from runtime.host_table import AgentRecord, HostTable, total
from runtime.traffic import COUNTERS, REASONS, TrafficClass

ADDRESS = "127.0.0.1"

BUCKETS_S = tuple(10e-6 * 2**k for k in range(21))
"""Upper bounds of the latency histogram, 10 µs to 10.5 s (the client's defaults begin at 5 ms)."""

_INDEX = {name: index for index, name in enumerate(COUNTERS)}

_PLAIN = (
    ("late", "late_packets", "Packets that were under way and missed the deadline."),
    ("agent_steps", "agent_steps", "Environment steps taken, summed over copies."),
    ("edge_slots", "edge_slots", "Times an edge could have been used: alive copies x offsets."),
    ("edges_open", "edges_open", "Times an edge was used."),
    ("edge_handshake_zmtp", "edge_handshake_bytes", "ZMTP bytes sent to open edges."),
    ("trajectories_sent", "sent_trajectories", "Episodes sent to the learner."),
    ("snapshots_requested", "requested_snapshots", "Dense parameters asked for after a gap."),
)
"""Counter in the report, name of the series, help."""


class Exporter:
    """Serves a host's table until closed."""

    def __init__(
        self,
        table: HostTable,
        port: int,
        *,
        facts: Mapping[str, str] | None = None,
        per_edge: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start serving on a thread of its own; port 0 takes any free one, see `port`.

        Args:
            facts: further labels of murmuration_build_info, such as the transport.
            per_edge: export the series of every edge as well.
            clock: the monotonic clock that the table was updated by.

        Raises:
            SetupError: the port is taken.
        """
        registry = CollectorRegistry()
        registry.register(_HostCollector(table, facts or {}, per_edge, clock))
        try:
            self._server, self._thread = start_http_server(port, ADDRESS, registry)
        except OSError as error:
            raise _port_taken(port, error) from error

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def require_free_port(port: int) -> None:
    """Check that an exporter could listen here; 0 means no exporter and always passes.

    Raises:
        SetupError: the port is taken.
    """
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise _port_taken(port, error) from error


def _port_taken(port: int, error: OSError) -> SetupError:
    return SetupError(
        f"metrics port {port} on {ADDRESS} cannot be used ({error.strerror}): choose another with "
        "--metrics-port, 0 for none"
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
        self._build = {"version": _version(), "python": platform.python_version(), **facts}
        self._per_edge = per_edge
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        records = self._table.records()
        build = InfoMetricFamily("murmuration_build", "What is running here.")
        build.add_metric([], self._build)
        yield build
        yield from _traffic(records)
        yield from _counters(records)
        yield from _gauges(records, self._clock())
        yield _latency(records)
        if self._per_edge:
            yield from _edges(self._table)


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


def _counters(records: list[AgentRecord]) -> Iterator[Metric]:
    tcp = CounterMetricFamily(
        "murmuration_tcp_bytes",
        "Bytes on the agent's edges as the kernel counts them (tcp transport only).",
        labels=["agent", "direction"],
    )
    dropped = CounterMetricFamily(
        "murmuration_dropped_packets", "Packets dropped, by reason.", labels=["agent", "reason"]
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
        for reason in REASONS:
            if count := counters[_INDEX[f"dropped_{reason}"]]:
                dropped.add_metric([agent, reason], count)
    yield from (tcp, dropped, restarts)
    yield from (family for family, _ in plain)


def _gauges(records: list[AgentRecord], now_s: float) -> Iterator[Metric]:
    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"murmuration_{name}", text, labels=["agent"])

    up = gauge("agent_up", "1 while the agent reports, 0 when it has fallen silent.")
    policy_version = gauge("policy_version", "Policy version the agent acts by.")
    open_ratio = gauge("edge_open_ratio", "Open share of the agent's edges since its last report.")
    last_report = gauge("last_report_timestamp_seconds", "Unix time of the agent's last report.")
    unix_minus_monotonic_s = time.time() - now_s
    for record in records:
        agent = str(record.agent)
        up.add_metric([agent], 0 if record.is_silent(now_s) else 1)
        last_report.add_metric([agent], record.reported_s + unix_minus_monotonic_s)
        if record.is_silent(now_s):
            continue
        policy_version.add_metric([agent], record.policy_version)
        if record.open_ratio is not None:
            open_ratio.add_metric([agent], record.open_ratio)
    yield from (up, policy_version, open_ratio, last_report)


def _latency(records: list[AgentRecord]) -> Metric:
    """Coarsen our bins: each counts in the first bucket that holds all of it."""
    cumulative = total([record.latency for record in records], latency.BINS).cumsum()
    buckets: list[tuple[str, float]] = []
    bins = 0
    for bound_s in BUCKETS_S:
        while bins < latency.BINS and latency.upper_bound_ns(bins) <= bound_s * 1e9:
            bins += 1
        buckets.append((f"{bound_s:.6g}", float(cumulative[bins - 1])))
    buckets.append(("+Inf", float(cumulative[-1])))
    family = HistogramMetricFamily(
        "murmuration_message_latency_seconds", "Sending to receiving, all messages of this host."
    )
    sum_ns = sum(int(record.edges[:, 3].sum()) for record in records)
    family.add_metric([], buckets, sum_ns / 1e9)
    return family


def _edges(table: HostTable) -> Iterator[Metric]:
    ends = ["src", "dst"]
    messages = CounterMetricFamily(
        "murmuration_edge_messages", "Messages sent over the edge.", labels=ends
    )
    size = CounterMetricFamily(
        "murmuration_edge_bytes", "ZMTP bytes of messages sent over the edge.", labels=ends
    )
    delay = SummaryMetricFamily(
        "murmuration_edge_latency_seconds", "Latency of messages received.", labels=ends
    )
    for edge in table.out_edges():
        messages.add_metric([str(edge.source), str(edge.target)], edge.messages)
        size.add_metric([str(edge.source), str(edge.target)], edge.size_bytes)
    for edge in table.in_edges():
        delay.add_metric([str(edge.source), str(edge.target)], edge.messages, edge.latency_ns / 1e9)
    yield from (messages, size, delay)
