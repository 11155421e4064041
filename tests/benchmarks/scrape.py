"""What a scrape of a host with 100 agents costs, with and without series of edges.

    python -m tests.benchmarks.scrape

A process has a host's table as it is in the middle of a run on three hosts (a third of the
senders on each) and the real exporter; this one scrapes it as Prometheus does, gzip included. The
two kinds alternate, so that a drift of the machine hits both alike.
"""

import gzip
import multiprocessing
import time
import urllib.request
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
from rich.console import Console
from rich.table import Table

from runtime.host.exporter import Exporter
from runtime.host.host_table import HostTable, PeerClock
from runtime.net import latency, topology
from runtime.net.traffic import Traffic, TrafficClass
from runtime.net.wire import AgentReport

NUM_AGENTS = 100
SCRAPES = 40
WARM_UP = 5
INTERVAL_S = 5.0
"""Seconds between scrapes in docs/monitoring/prometheus.yml."""

HOSTS = ("a", "b", "c")
_NEVER_RECEIVED = (TrafficClass.ACTION, TrafficClass.HEARTBEAT)
_USED = (
    *(("sent", used) for used in TrafficClass if used is not TrafficClass.OBSERVATION),
    *(("received", used) for used in TrafficClass if used not in _NEVER_RECEIVED),
)


@dataclass(slots=True)
class Cost:
    """Readings of one kind of exporter."""

    series: int = 0
    text_bytes: int = 0
    sent_bytes: int = 0
    wall_s: list[float] = field(default_factory=list[float])
    cpu_s: list[float] = field(default_factory=list[float])


def full_table(rng: np.random.Generator) -> HostTable:
    """All agents live here; messages of a third of them came from each host, as far as is told."""
    table = HostTable(NUM_AGENTS, HOSTS, 0, (0,) * NUM_AGENTS)
    table.set_clocks(
        PeerClock(host, float(rng.normal()), 2e-5, 3e-4, one_way_trusted=True) for host in HOSTS[1:]
    )
    now_s = time.monotonic()
    for agent in range(NUM_AGENTS):
        table.update(_report(agent, rng), now_s)
    node = Traffic()
    node.sent(TrafficClass.PARAMETERS, 40_000)
    table.set_node(node.as_array(), 1_000)
    return table


def _report(agent: int, rng: np.random.Generator) -> AgentReport:
    """An hour at some ten steps a second."""
    num_edges = len(topology.offsets(NUM_AGENTS))
    traffic = Traffic()
    for way, used in _USED:
        name = used.name.lower()
        packets = int(rng.integers(30_000, 300_000))
        traffic.set(f"{way}_packets_{name}", packets)
        traffic.set(f"{way}_payload_{name}", 155 * packets)
        traffic.set(f"{way}_zmtp_{name}", 157 * packets)
    for reason in ("stale", "full"):
        traffic.set(f"dropped_{reason}", int(rng.integers(0, 100)))
    counts = {"agent_steps": 36_000, "edge_slots": 252_000, "edges_open": 100_000, "late": 12}
    for counter, count in (counts | {"edge_tcp_sent": 10**8, "edge_tcp_received": 10**8}).items():
        traffic.set(counter, count)
    histograms = rng.poisson(200.0, (len(HOSTS), latency.BINS)).astype(np.uint64)
    edges = rng.integers(10_000, 10_000_000, (num_edges, 4)).astype(np.uint64)
    return AgentReport(
        agent=agent,
        incarnation=int(rng.integers(0, 3)),
        tick=36_000,
        policy_version=1_000,
        counters=traffic.as_array(),
        latency=histograms,
        action_latency=np.zeros(latency.BINS, np.uint64),
        edges=edges,
    )


def _serve(pipe: Connection, per_edge: bool) -> None:
    """Answer scrapes; on request say how much cpu time this process has used."""
    exporter = Exporter(full_table(np.random.default_rng(0)), 0, per_edge=per_edge)
    pipe.send(exporter.port)
    while pipe.recv():
        pipe.send(time.process_time())
    exporter.close()


def _scrape(port: int) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics",
        headers={
            "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "Accept-Encoding": "gzip",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def measure() -> dict[bool, Cost]:
    """Costs without and with series of edges."""
    spawn = multiprocessing.get_context("spawn")
    costs = {False: Cost(), True: Cost()}
    pipes: dict[bool, Connection] = {}
    ports: dict[bool, int] = {}
    for per_edge in costs:
        pipes[per_edge], theirs = spawn.Pipe()
        spawn.Process(target=_serve, args=(theirs, per_edge), daemon=True).start()
        ports[per_edge] = pipes[per_edge].recv()
    for turn in range(WARM_UP + SCRAPES):
        for per_edge, cost in costs.items():
            before_s = _cpu_s(pipes[per_edge])
            began_s = time.perf_counter()
            body = _scrape(ports[per_edge])
            wall_s = time.perf_counter() - began_s
            cpu_s = _cpu_s(pipes[per_edge]) - before_s
            if turn >= WARM_UP:
                cost.wall_s.append(wall_s)
                cost.cpu_s.append(cpu_s)
            text = gzip.decompress(body)
            cost.sent_bytes, cost.text_bytes = len(body), len(text)
            cost.series = sum(not line.startswith(b"#") for line in text.splitlines())
    for pipe in pipes.values():
        pipe.send(False)
    return costs


def _cpu_s(pipe: Connection) -> float:
    pipe.send(True)
    return pipe.recv()


def main() -> None:
    table = Table(
        *("edges", "series", "text", "sent", "cpu p50", "wall p50", "wall p99", "% of a core")
    )
    for per_edge, cost in measure().items():
        cpu_s = float(np.median(cost.cpu_s))
        wall_p50_s, wall_p99_s = np.percentile(cost.wall_s, (50, 99))
        table.add_row(
            "with" if per_edge else "without",
            f"{cost.series:,}",
            f"{cost.text_bytes / 1024:.0f} KiB",
            f"{cost.sent_bytes / 1024:.0f} KiB",
            f"{1e3 * cpu_s:.0f} ms",
            f"{1e3 * wall_p50_s:.0f} ms",
            f"{1e3 * wall_p99_s:.0f} ms",
            f"{100 * cpu_s / INTERVAL_S:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
