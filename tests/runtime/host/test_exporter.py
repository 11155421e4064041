import functools
import logging
import math
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from socketserver import BaseServer
from urllib.error import HTTPError, URLError

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from runtime.host import health, run_figures
from runtime.host.exporter import BUCKETS_S, MOST_EDGES, Exporter, require_free_port
from runtime.host.host_table import HostTable, PeerClock
from runtime.host.metrics_server import MOST_REQUESTS, MetricsServer
from runtime.net import latency, wire
from runtime.net.errors import SetupError
from runtime.net.traffic import Traffic, TrafficClass
from tests.process.runs import wait_for
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


def scrape(exporter: Exporter, address: str = "127.0.0.1", query: str = "") -> Series:
    url = f"http://{address}:{exporter.port}/metrics{query}"
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
    assert {("transport", "ipc"), ("host", "local")} < build


def test_policy_versions_have_series_by_the_form_they_came_in(
    table: HostTable, exporter: Exporter
) -> None:
    traffic = Traffic()
    traffic.received_version("dense", 800)
    for size_bytes in (60, 70):
        traffic.received_version("sparse_delta", size_bytes)
    table.update(report(1, traffic=traffic), NOW_S)
    series = scrape(exporter)
    by_form = [{("agent", "1"), ("form", form)} for form in ("dense", "sparse_delta")]
    versions = {frozenset(by_form[0]): 1, frozenset(by_form[1]): 2}
    payload = {frozenset(by_form[0]): 800, frozenset(by_form[1]): 130}
    assert family(series, "received_versions_total") == versions
    assert family(series, "version_payload_bytes_total") == payload


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


def test_drops_and_kernel_bytes_of_agents_appear_only_when_there_are_any(
    table: HostTable, exporter: Exporter
) -> None:
    at_first = family(scrape(exporter), "dropped_packets_total")
    assert {dict(labels)["process"] for labels in at_first} == {"node"}
    assert set(at_first.values()) == {0}
    traffic = Traffic()
    traffic.dropped("stale")
    traffic.set("edge_tcp_sent", 1234)
    table.update(report(2, traffic=traffic), NOW_S)
    series = scrape(exporter)
    assert {
        labels: count for labels, count in family(series, "dropped_packets_total").items() if count
    } == {frozenset({("process", "agent-2"), ("reason", "stale")}): 1}
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
    local = {"source_host": "local"}
    assert buckets[float("inf")] == series[key("message_latency_seconds_count", **local)] == 16
    bin_width = 2.0 ** (1 / latency.PER_OCTAVE)
    for bound, count in buckets.items():  # right to within one of our bins, and never too low
        surely = sum(ns * bin_width <= bound * 1e9 for ns in latencies)
        assert surely <= count <= sum(ns <= bound * 1e9 for ns in latencies)
    assert series[key("message_latency_seconds_sum", **local)] == pytest.approx(
        sum(latencies) / 1e9
    )


def test_edges_are_exported_on_request_only(table: HostTable, exporter: Exporter) -> None:
    edges = [[1, 10, 2, 4_000], [0] * 4, [0] * 4]
    table.update(report(3, edges=edges), NOW_S)
    series = scrape(exporter)
    assert series[key("edge_messages_total", src="3", dst="4")] == 1
    assert series[key("edge_bytes_total", src="3", dst="4")] == 10
    assert series[key("edge_received_messages_total", src="2", dst="3")] == 2
    assert series[key("edge_latency_seconds_total", src="2", dst="3")] == pytest.approx(4e-6)
    plain = Exporter(table, 0, clock=lambda: NOW_S)
    try:
        assert not family(scrape(plain), "edge_messages_total")
    finally:
        plain.close()


@pytest.fixture
def table_of_b() -> HostTable:
    """The second of three hosts, with agents 2 and 3 of 5, after messages from everywhere."""
    table = HostTable(5, ("a", "b", "c"), 1, (0, 0, 1, 1, 2))
    edges = [[0, 0, 1, 5_000_000], [0, 0, 0, 0], [0, 0, 2, 4_000_000]]  # from 1 on a, 0, 3 on b
    table.update(report(2, num_hosts=3, source=1, latencies_ns=(2_000_000,) * 2, edges=edges), 50.0)
    edges = [[0] * 4, [0] * 4, [0, 0, 4, 8_000_000]]  # from 4 on c
    table.update(report(3, num_hosts=3, source=2, latencies_ns=(2_000_000,) * 4, edges=edges), 49.0)
    return table


def clock(host: str, *, trusted: bool) -> PeerClock:
    return PeerClock(host, -2.5, 3e-5, 4e-4, trusted)


def test_latency_is_by_source_host_and_only_where_its_clock_is_trusted(
    table_of_b: HostTable,
) -> None:
    table_of_b.set_clocks([clock("a", trusted=False), clock("c", trusted=True)])
    exporter = Exporter(table_of_b, 0, per_edge=True, clock=lambda: NOW_S)
    try:
        series = scrape(exporter)
    finally:
        exporter.close()
    counts = family(series, "message_latency_seconds_count")
    assert counts == {frozenset({("source_host", "b")}): 2, frozenset({("source_host", "c")}): 4}
    assert series[key("message_latency_seconds_sum", source_host="b")] == pytest.approx(4e-3)
    assert series[key("message_latency_seconds_sum", source_host="c")] == pytest.approx(8e-3)
    assert series[key("one_way_trusted", peer="a")] == 0
    assert series[key("one_way_trusted", peer="c")] == 1
    assert series[key("round_trip_seconds", peer="a")] == 4e-4, "what stands for one-way latency"
    assert series[key("clock_offset_seconds", peer="a")] == -2.5
    assert series[key("clock_error_seconds", peer="c")] == 3e-5
    assert series[key("edge_received_messages_total", src="1", dst="2")] == 1
    assert key("edge_latency_seconds_total", src="1", dst="2") not in series
    assert series[key("edge_latency_seconds_total", src="4", dst="3")] == pytest.approx(8e-3)
    (build,) = family(series, "build_info")
    assert ("host", "b") in build


def test_last_message_has_a_time_once_there_was_one(table_of_b: HostTable) -> None:
    quiet = report(3, num_hosts=3, edges=[[0] * 4, [0] * 4, [0, 0, 4, 8_000_000]])
    table_of_b.update(quiet, 50.0)
    exporter = Exporter(table_of_b, 0, per_edge=True, clock=lambda: NOW_S)
    try:
        before = time.time()
        series = scrape(exporter)
        after = time.time()
    finally:
        exporter.close()
    heard = {
        (labels_of["src"], labels_of["dst"]): moment
        for labels, moment in family(series, "edge_last_message_timestamp_seconds").items()
        if (labels_of := dict(labels))
    }
    assert set(heard) == {("1", "2"), ("3", "2"), ("4", "3")}
    assert before <= heard["1", "2"] <= after
    assert heard["1", "2"] - heard["4", "3"] == pytest.approx(1.0, abs=1e-3)
    by_agent = family(series, "last_message_timestamp_seconds")
    assert by_agent[frozenset({("agent", "2")})] == heard["1", "2"]
    assert by_agent[frozenset({("agent", "3")})] == heard["4", "3"]


def test_action_latency_has_a_histogram_once_it_is_counted(
    table: HostTable, exporter: Exporter
) -> None:
    table.update(report(0), NOW_S)
    assert not [name for name, _ in scrape(exporter) if name.startswith("action_latency")]
    table.update(report(0, action_latencies_ns=(3_000_000,) * 10), NOW_S)
    series = scrape(exporter)
    assert series[key("action_latency_seconds_count")] == 10
    assert series[key("action_latency_seconds_sum")] == pytest.approx(0.03, rel=0.1)
    assert series[key("action_latency_seconds_bucket", le="0.00256")] == 0
    assert series[key("action_latency_seconds_bucket", le="0.00512")] == 10


def test_agent_is_down_before_its_first_report(table_of_b: HostTable) -> None:
    exporter = Exporter(HostTable(5, ("a", "b"), 1, (0, 0, 1, 1, 1)), 0, clock=lambda: NOW_S)
    try:
        ups = family(scrape(exporter), "agent_up")
    finally:
        exporter.close()
    assert ups == {frozenset({("agent", str(agent))}): 0 for agent in (2, 3, 4)}


def test_node_has_its_own_bytes_drops_and_refusals(table: HostTable, exporter: Exporter) -> None:
    node = Traffic()
    node.sent(TrafficClass.PARAMETERS, 1000)
    node.dropped("unknown_sender")
    node.set("refused", 4)
    table.set_node(node.as_array(), 9)
    agent = Traffic()
    agent.set("refused", 2)
    table.update(report(1, traffic=agent, policy_version=6), NOW_S)
    table.update(report(2, policy_version=9), NOW_S)
    series = scrape(exporter)
    parameters = {"class_": "parameters", "direction": "sent"}
    assert series[key("node_payload_bytes_total", **parameters)] == 1000
    assert series[key("node_zmtp_bytes_total", **parameters)] == 1009
    assert series[key("dropped_packets_total", process="node", reason="unknown_sender")] == 1
    assert family(series, "refused_connections_total") == {
        frozenset({("process", "node")}): 4,
        frozenset({("process", "agent-1")}): 2,
    }
    assert series[key("newest_policy_version")] == 9
    assert series[key("policy_lag_versions")] == 3


def test_silent_agents_do_not_lag(table: HostTable, exporter: Exporter) -> None:
    table.set_node(Traffic().as_array(), 9)
    table.update(report(1, policy_version=2), NOW_S - 10.0)
    assert not family(scrape(exporter), "policy_lag_versions")
    table.update(report(2, policy_version=10), NOW_S)  # newer than the node's last look at itself
    assert scrape(exporter)[key("policy_lag_versions")] == 0


@pytest.mark.parametrize(("num_agents", "exported"), [(1638, True), (1852, False)])
def test_too_many_edges_get_no_series_and_the_log_says_so(
    num_agents: int, exported: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table = HostTable(num_agents)  # 11 offsets each
    assert (table.num_edges <= MOST_EDGES) == exported
    table.update(report(0, num_edges=11), NOW_S)
    with caplog.at_level(logging.WARNING):
        exporter = Exporter(table, 0, per_edge=True, clock=lambda: NOW_S)
    try:
        assert bool(family(scrape(exporter), "edge_messages_total")) == exported
    finally:
        exporter.close()
    assert ("no series of edges: 20372" in caplog.text) != exported


def test_exporter_listens_where_it_is_told_and_nowhere_else(table: HostTable) -> None:
    elsewhere = Exporter(table, 0, address="127.0.0.2", clock=lambda: NOW_S)
    try:
        assert family(scrape(elsewhere, "127.0.0.2"), "build_info")
        with pytest.raises(URLError):
            scrape(elsewhere)
        require_free_port(elsewhere.port)
        with pytest.raises(SetupError, match=r"127\.0\.0\.2 .*--metrics-address"):
            require_free_port(elsewhere.port, "127.0.0.2")
    finally:
        elsewhere.close()


def test_address_of_another_host_is_refused() -> None:
    with pytest.raises(SetupError, match=r"192\.0\.2\.1 .*--metrics-address"):
        require_free_port(9464, "192.0.2.1")
    with pytest.raises(SetupError, match=r"192\.0\.2\.1 .*--metrics-address"):
        Exporter(HostTable(5), 9464, address="192.0.2.1")


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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere its thread looks up by itself")
@pytest.mark.parametrize("has_answered", [False, True])
def test_the_end_wakes_the_server(monkeypatch: pytest.MonkeyPatch, has_answered: bool) -> None:
    serve = functools.partialmethod(BaseServer.serve_forever, 3600.0)
    monkeypatch.setattr(BaseServer, "serve_forever", serve)
    exporter = Exporter(HostTable(5), 0)
    if has_answered:
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics") as answer:
            assert answer.status == 200
    exporter.close()
    require_free_port(exporter.port)


# --- those who ask --------------------------------------------------------------------------------


def test_series_can_be_asked_for_by_name(table: HostTable, exporter: Exporter) -> None:
    edges = [[1, 10, 2, 4_000], [0] * 4, [0] * 4]
    acted = (3_000_000,)
    traffic = some_traffic(2)
    table.update(report(3, traffic=traffic, edges=edges, action_latencies_ns=acted), NOW_S)
    everything = scrape(exporter)
    asked = {"agent_up", "sent_packets_total", "policy_lag_versions", "action_latency_seconds_sum"}
    names = {name for name, _ in everything}
    assert names > asked
    for name in names:
        series = scrape(exporter, query=f"?name[]=murmuration_{name}")
        assert series.keys() == {found for found in everything if found[0] == name}
    both = scrape(exporter, query="?name[]=murmuration_agent_up&name[]=murmuration_build_info")
    assert {name for name, _ in both} == {"agent_up", "build_info"}


def half_a_request(port: int) -> socket.socket:
    end = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    end.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
    return end


def test_idle_connections_are_bounded_and_a_scrape_gets_through(exporter: Exporter) -> None:
    threads = threading.active_count()
    with ExitStack() as stack:
        idle = [stack.enter_context(half_a_request(exporter.port)) for _ in range(475)]
        assert scrape(exporter)
        assert threading.active_count() - threads <= 2 * MOST_REQUESTS
        for end in idle[:-MOST_REQUESTS]:  # the oldest have made room
            assert end.recv(1) == b""


def test_a_connection_that_idles_for_too_long_is_cut() -> None:
    server = MetricsServer(0, "127.0.0.1", CollectorRegistry(), longest_s=0.2)
    try:
        with half_a_request(server.port) as end:
            assert end.recv(1) == b""
        deadline = time.monotonic() + 10.0
        while server.num_requests and time.monotonic() < deadline:
            time.sleep(0.01)  # its thread ends by itself
        assert server.num_requests == 0
    finally:
        server.close()


def test_what_telemetry_has_missed_is_a_series_of_its_own(
    table: HostTable, exporter: Exporter
) -> None:
    traffic = Traffic()
    traffic.add("readings_failed", 2)
    traffic.set("log_lines_lost", 5)
    table.update(report(1, traffic=traffic), NOW_S)
    series = scrape(exporter)
    for name, lost in (("failed_readings_total", 2), ("lost_log_lines_total", 5)):
        assert series[key(name, process="node")] == 0
        assert series[key(name, process="agent-1")] == lost


def test_figures_of_the_run_are_exported_where_the_launcher_tells_them(
    table: HostTable, exporter: Exporter
) -> None:
    before = scrape(exporter)
    assert not any(name.startswith(("learner", "episode_return", "win")) for name, _ in before)
    table.set_run(
        {
            "env_steps": 400.0,
            "learner_updates": 12.0,
            "learner_loss": 0.25,
            "episode_return_training": -1.5,
            "win_rate_evaluation": 0.75,
        }
    )
    series = scrape(exporter)
    assert series[key("env_steps_total")] == 400.0
    assert series[key("learner_updates_total")] == 12.0
    assert series[key("learner_loss")] == 0.25
    assert family(series, "episode_return") == {frozenset({("episodes", "training")}): -1.5}
    loss = scrape(exporter, query="?name[]=murmuration_learner_loss")
    assert loss == {key("learner_loss"): 0.25}
    assert family(series, "win_rate") == {frozenset({("episodes", "evaluation")}): 0.75}


def test_figures_of_the_environments_own_have_their_name_as_a_label(
    table: HostTable, exporter: Exporter
) -> None:
    own = run_figures.own_figures({"normalised_score": -12.5, "risk": 3.0}, "evaluation")
    table.set_run({"env_steps": 400.0, **own, **run_figures.own_figures({"risk": 4.0}, "training")})
    series = family(scrape(exporter, query="?name[]=murmuration_env_metric"), "env_metric")
    assert series == {
        frozenset({("episodes", "evaluation"), ("metric", "normalised_score")}): -12.5,
        frozenset({("episodes", "evaluation"), ("metric", "risk")}): 3.0,
        frozenset({("episodes", "training"), ("metric", "risk")}): 4.0,
    }


def test_own_figures_that_no_status_could_carry_are_left_out() -> None:
    metrics = {"long" * 16: 1.0} | {f"m{number}": 2.0 for number in range(150)}
    own = run_figures.own_figures(metrics, "training")
    assert len(own) == run_figures.MOST_OWN
    both = own | run_figures.own_figures(metrics, "evaluation")
    status = wire.Status("launcher", dict.fromkeys(run_figures.NAMES, 0.0) | both)
    assert wire.decode(wire.encode(status)) == status
    assert set(own.values()) == {2.0}


class Hand:
    """A clock that is set by hand."""

    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def test_a_regular_scraper_is_awaited_until_it_has_heard_of_the_end(table: HostTable) -> None:
    clock = Hand()
    exporter = Exporter(table, 0, clock=clock)
    try:
        assert not exporter.is_awaited(NOW_S, NOW_S), "nobody has come"
        scrape(exporter)
        assert not exporter.is_awaited(NOW_S, NOW_S), "once is not regularly"
        clock.now_s += 2.0
        assert scrape(exporter)[key("run_ended")] == 0.0
        table.end()
        ended_s = clock()
        assert exporter.is_awaited(ended_s + 2.5, ended_s)
        assert not exporter.is_awaited(ended_s + 3.1, ended_s), "it does not come any longer"
        clock.now_s += 2.0
        assert scrape(exporter)[key("run_ended")] == 1.0
        wait_for("its connection to close", lambda: not exporter.is_awaited(clock(), ended_s))
    finally:
        exporter.close()


def test_a_scraper_that_heard_of_the_end_before_the_last_reports_is_awaited_again(
    table: HostTable,
) -> None:
    clock = Hand()
    exporter = Exporter(table, 0, clock=clock)
    try:
        scrape(exporter)
        table.end()
        clock.now_s += 2.0
        assert scrape(exporter)[key("run_ended")] == 1.0
        final_s = clock() + 0.5  # only now is every agent's last report in the table
        assert exporter.is_awaited(final_s, final_s)
        clock.now_s += 2.0
        scrape(exporter)
        wait_for("its connection to close", lambda: not exporter.is_awaited(clock(), final_s))
    finally:
        exporter.close()


def test_a_deployed_host_counts_versions_taken_up_in_place_and_taken_back(
    table: HostTable, exporter: Exporter
) -> None:
    assert not family(scrape(exporter), "policy_updates_total")
    table.policy_changes = (3, 1)
    series = scrape(exporter)
    assert series[key("policy_updates_total")] == 3
    assert series[key("policy_rollbacks_total")] == 1


def test_checks_answer_beside_the_metrics_with_what_is_wrong(table: HostTable) -> None:
    turned_s, num_ready, num_agents = NOW_S - 1.0, 2, 3
    checks = health.checks(
        lambda: turned_s, lambda: num_ready, lambda: num_agents, clock=lambda: NOW_S
    )
    exporter = Exporter(table, 0, checks=checks)
    try:
        assert ask(exporter, "/livez") == (200, "ok\n")
        assert ask(exporter, "/readyz") == (503, "2 of 3 agents are up\n")
        turned_s, num_ready = NOW_S - 1.5 * health.LIVE_S, 3
        assert ask(exporter, "/livez") == (503, "no look at the agents for 15 s\n")
        assert ask(exporter, "/readyz") == (200, "ok\n")
        num_agents = 4  # one has moved here
        assert ask(exporter, "/readyz") == (503, "3 of 4 agents are up\n")
        turned_s = math.inf  # it stops, which may take longer than a turn
        assert ask(exporter, "/livez") == (200, "ok\n")
        assert "murmuration_build_info" in ask(exporter, "/metrics")[1]
        assert not exporter.is_awaited(NOW_S, NOW_S), "a check is no scrape"
    finally:
        exporter.close()


def ask(exporter: Exporter, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}{path}", timeout=10) as found:
            return found.status, found.read().decode()
    except HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
