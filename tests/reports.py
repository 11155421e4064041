"""AgentReports made by hand."""

import numpy as np
from numpy.typing import NDArray

from runtime.net import latency
from runtime.net.traffic import Traffic
from runtime.net.wire import AgentReport


def report(
    agent: int = 0,
    *,
    incarnation: int = 0,
    tick: int = 1,
    policy_version: int = 0,
    traffic: Traffic | None = None,
    latencies_ns: tuple[int, ...] = (),
    source: int = 0,
    num_hosts: int = 1,
    action_latencies_ns: tuple[int, ...] = (),
    edges: list[list[int]] | None = None,
    num_edges: int = 3,
) -> AgentReport:
    """What an agent of 5 (three offsets) would send; `edges` as in AgentReport.edges.

    All messages came from the host with index `source` of `num_hosts`.
    """
    histograms = np.zeros((num_hosts, latency.BINS), dtype=np.uint64)
    histograms[source] = _histogram(latencies_ns)
    return AgentReport(
        agent=agent,
        incarnation=incarnation,
        tick=tick,
        policy_version=policy_version,
        counters=(traffic or Traffic()).as_array(),
        latency=histograms,
        action_latency=_histogram(action_latencies_ns),
        edges=np.array(edges or [[0] * 4] * num_edges, dtype=np.uint64),
    )


def _histogram(latencies_ns: tuple[int, ...]) -> NDArray[np.uint64]:
    bins = np.zeros(latency.BINS, dtype=np.uint64)
    for latency_ns in latencies_ns:
        bins[latency.bin_of(latency_ns)] += np.uint64(1)
    return bins
