import socket
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime import latency
from runtime.errors import SetupError
from runtime.exporter import BUCKETS_S, Exporter, require_free_port
from runtime.host_table import HostTable
from runtime.traffic import Traffic, TrafficClass
from tests.reports import report

NOW_S = 50.0

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def table() -> HostTable:
    return HostTable(5)


@pytest.fixture
def exporter(table: HostTable) -> Iterator[Exporter]:
    exporter = Exporter(table, 0, facts={"transport": "ipc"}, per_edge=True, clock=lambda: NOW_S)
    yield exporter
    exporter.close()


def scrape(exporter: Exporter) -> Series:
    url = f"http://127.0.0.1:{exporter.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return {
        (sample.name.removeprefix("murmuration_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset((label.rstrip("_"), value) for label, value in labels.items())


def family(series: Series, name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {labels: value for (found, labels), value in series.items() if found == name}


def some_traffic(num_messages: int) -> Traffic:
    traffic = Traffic()
    for _ in range(num_messages):
        traffic.sent(TrafficClass.MESSAGE, 300)
        traffic.received(TrafficClass.BEACON, 20)
    traffic.add("agent_steps", 10 * num_messages)
    traffic.add("edge_slots", 100)
    traffic.add("edges_open", 25)
    return traffic


def test_scraped_series_equal_the_table(table: HostTable, exporter: Exporter) -> None:
    table.update(report(0, policy_version=7, traffic=some_traffic(2)), NOW_S)
    table.update(report(3, policy_version=6, traffic=some_traffic(5)), NOW_S)
    series = scrape(exporter)
    assert series[key("sent_packets_total", agent="3", class_="message")] == 5
    assert series[key("received_packets_total", agent="3", class_="beacon")] == 5
    message = {"agent": "0", "class_": "message", "direction": "sent"}
    assert series[key("payload_bytes_total", **message)] == 600
    assert series[key("zmtp_bytes_total", **message)] == 618
    assert series[key("agent_steps_total", agent="0")] == 20
    assert series[key("policy_version", agent="0")] == 7
    assert series[key("edge_open_ratio", agent="3")] == 0.25
    assert series[key("late_packets_total", agent="0")] == 0
    status = table.status(NOW_S)
    sent = [v for labels, v in family(series, "payload_bytes_total").items()
            if ("direction", "sent") in labels]  # fmt: skip
    assert sum(sent) == sum(v for k, v in status.items() if k.startswith("sent_payload_"))
    assert sum(family(series, "agent_steps_total").values()) == status["agent_steps"]
    (build,) = family(series, "build_info")
    assert ("transport", "ipc") in build


def test_restart_keeps_counters_monotonic(table: HostTable, exporter: Exporter) -> None:
    message = key("sent_packets_total", agent="0", class_="message")
    seen: list[float] = []
    for incarnation, count in ((0, 3), (0, 8), (1, 1), (1, 2), (2, 5)):
        table.update(report(0, incarnation=incarnation, traffic=some_traffic(count)), NOW_S)
        series = scrape(exporter)
        seen.append(series[message])
    assert seen == [3, 8, 9, 10, 15]
    assert series[key("agent_restarts_total", agent="0")] == 2


def test_silent_agent_loses_its_gauges_but_not_its_counters(
    table: HostTable, exporter: Exporter
) -> None:
    table.update(report(0, traffic=some_traffic(1)), NOW_S - 10.0)
    series = scrape(exporter)
    assert series[key("agent_up", agent="0")] == 0
    assert series[key("agent_steps_total", agent="0")] == 10
    assert not family(series, "policy_version")
    assert not family(series, "edge_open_ratio")


def test_drops_and_kernel_bytes_appear_only_when_there_are_any(
    table: HostTable, exporter: Exporter
) -> None:
    assert not family(scrape(exporter), "dropped_packets_total")
    traffic = Traffic()
    traffic.dropped("stale")
    traffic.set("edge_tcp_sent", 1234)
    table.update(report(2, traffic=traffic), NOW_S)
    series = scrape(exporter)
    assert family(series, "dropped_packets_total") == {
        frozenset({("agent", "2"), ("reason", "stale")}): 1
    }
    assert family(series, "tcp_bytes_total") == {
        frozenset({("agent", "2"), ("direction", "sent")}): 1234
    }


def test_latency_histogram_loses_no_message(table: HostTable, exporter: Exporter) -> None:
    latencies = tuple(1_000 * 3**k for k in range(16))  # 1 µs to 14 s
    edges = [[0, 0, len(latencies), sum(latencies)], [0] * 4, [0] * 4]
    table.update(report(0, latencies_ns=latencies, edges=edges), NOW_S)
    series = scrape(exporter)
    buckets = {
        float(dict(labels)["le"]): value
        for labels, value in family(series, "message_latency_seconds_bucket").items()
    }
    assert sorted(buckets) == [*(float(f"{bound:.6g}") for bound in BUCKETS_S), float("inf")]
    assert [buckets[bound] for bound in sorted(buckets)] == sorted(buckets.values())
    assert buckets[float("inf")] == series[key("message_latency_seconds_count")] == 16
    bin_width = 2.0 ** (1 / latency.PER_OCTAVE)
    for bound, count in buckets.items():  # right to within one of our bins, and never too low
        surely = sum(ns * bin_width <= bound * 1e9 for ns in latencies)
        assert surely <= count <= sum(ns <= bound * 1e9 for ns in latencies)
    assert series[key("message_latency_seconds_sum")] == pytest.approx(sum(latencies) / 1e9)


def test_edges_are_exported_on_request_only(table: HostTable, exporter: Exporter) -> None:
    edges = [[1, 10, 2, 4_000], [0] * 4, [0] * 4]
    table.update(report(3, edges=edges), NOW_S)
    series = scrape(exporter)
    assert series[key("edge_messages_total", src="3", dst="4")] == 1
    assert series[key("edge_bytes_total", src="3", dst="4")] == 10
    assert series[key("edge_latency_seconds_count", src="2", dst="3")] == 2
    assert series[key("edge_latency_seconds_sum", src="2", dst="3")] == pytest.approx(4e-6)
    plain = Exporter(table, 0, clock=lambda: NOW_S)
    try:
        assert not family(scrape(plain), "edge_messages_total")
    finally:
        plain.close()


def test_taken_port_names_the_port_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(SetupError, match=rf"port {port} .*--metrics-port"):
            require_free_port(port)
        with pytest.raises(SetupError, match=rf"port {port} .*--metrics-port"):
            Exporter(HostTable(5), port)
    require_free_port(port)


def test_closed_exporter_gives_its_port_back() -> None:
    exporter = Exporter(HostTable(5), 0)
    port = exporter.port
    exporter.close()
    require_free_port(port)
    require_free_port(0)
