import re
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from runtime.host import run_figures
from runtime.host.exporter import Exporter
from runtime.host.host_table import HostTable, PeerClock
from runtime.net.traffic import Traffic, TrafficClass
from tests.monitoring_helpers import (
    BETWEEN_HOSTS,
    DEPLOYED,
    JOB,
    MONITORING,
    Query,
    alert_queries,
    annotation_queries,
    dashboard,
    dashboard_queries,
    metrics_in,
    record_queries,
    rules,
    without_thresholds,
)
from tests.reports import report

EVERY_QUERY = [*dashboard_queries(), *record_queries(), *alert_queries(), *annotation_queries()]


def everything_exported() -> set[str]:
    """Names of all series of a host that has something of everything."""
    table = HostTable(5, ("a", "b"), 1, (0, 0, 1, 1, 1))
    table.set_clocks([PeerClock("a", 0.0, 1e-5, 1e-4, one_way_trusted=True)])
    traffic = Traffic()
    for traffic_class in TrafficClass:
        traffic.sent(traffic_class, 10)
        traffic.received(traffic_class, 10)
    for counter in ("edge_tcp_sent", "edge_tcp_received", "edge_slots", "edges_open"):
        traffic.set(counter, 3)
    table.set_node(traffic.as_array(), 1)
    own = run_figures.own_figures({"normalised_score": 1.0}, "evaluation")
    table.set_run(dict.fromkeys(run_figures.NAMES, 1.0) | own)
    edges = [[1, 10, 1, 100]] * 3
    full = report(
        2, num_hosts=2, traffic=traffic, edges=edges, latencies_ns=(5,), action_latencies_ns=(5,)
    )
    table.update(full, 1.0)
    exporter = Exporter(table, 0, per_edge=True, clock=lambda: 1.0)
    try:
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    finally:
        exporter.close()
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_that_is_asked_for_exists() -> None:
    exported = everything_exported()
    records = {rule["record"] for rule in rules() if "record" in rule}
    for query in EVERY_QUERY:
        unknown = metrics_in(query.expr) - exported - records
        assert not unknown, f"{query.place} asks for {unknown}"
    for variable in dashboard()["templating"]["list"]:
        assert metrics_in(variable.get("definition", "")) <= exported


def test_tests_of_rules_are_fed_with_metrics_that_exist() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    fed = [series["series"] for test in tests for series in test["input_series"]]
    assert set[str]().union(*map(metrics_in, fed)) <= everything_exported()
    tested = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ())}
    assert tested == {query.place for query in alert_queries()}


def test_every_record_is_used() -> None:
    used = set[str]().union(*(metrics_in(query.expr) for query in EVERY_QUERY))
    assert {query.place for query in record_queries()} <= used


def test_configuration_rules_and_dashboard_mean_the_same_job() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    assert job["job_name"] == JOB
    assert config["rule_files"] == ["rules.yml"]
    targets = job["static_configs"][0]["targets"]
    assert len(targets) == 3
    assert all(re.fullmatch(r"10\.0\.0\.\d:9464", target) for target in targets)
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables["job"]["current"]["value"] == JOB
    assert 'job="murmuration"' in "".join(query.expr for query in alert_queries())


def test_dashboard_takes_any_prometheus_and_its_panels_do_not_overlap() -> None:
    board = dashboard()
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        spot = panel["gridPos"]
        assert spot["x"] + spot["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(spot["x"], spot["x"] + spot["w"])
            for y in range(spot["y"], spot["y"] + spot["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        sources = [panel["datasource"]] if panel["type"] != "row" else []
        for target in panel.get("targets", ()):
            sources.append(target["datasource"])
            assert "$job" in target["expr"] or "ALERTS" in target["expr"], panel["title"]
        assert all(source["uid"] == "${datasource}" for source in sources)
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    for name in ("id", "title"):
        values = [panel[name] for panel in board["panels"]]
        assert len(values) == len(set(values)), f"two panels have the same {name}"
    assert {DEPLOYED, BETWEEN_HOSTS} <= {panel["title"] for panel in board["panels"]}


def test_figures_are_found_in_front_of_their_thresholds() -> None:
    alert = Query("some", "a{b='>'} - c > 60 and on (job, instance) rate(d[1m]) <= -1.5")
    assert [figure.expr for figure in without_thresholds(alert)] == ["a{b='>'} - c", "rate(d[1m])"]
    with pytest.raises(AssertionError, match="no comparison"):
        without_thresholds(Query("some", "a > b"))
