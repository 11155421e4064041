"""docs/monitoring/ against the real thing: promtool, and a Prometheus that scrapes a run."""

import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.host import run_figures
from runtime.host.exporter import Exporter
from runtime.host.host_table import HostTable, PeerClock
from runtime.net.traffic import Traffic
from tests.monitoring_helpers import (
    MONITORING,
    alert_queries,
    annotation_queries,
    dashboard_queries,
    record_queries,
    without_thresholds,
)
from tests.process.namespaces import Hosts
from tests.process.prometheus import Prometheus, promtool, require_prometheus
from tests.process.runs import Launched, wait_for
from tests.reports import report

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

RUN = (
    *("--agents", "8", "--env", "relay", "--env-copies", "4", "--steps", "100000000"),
    *("--evaluation.interval-steps", "0", "--transport", "tcp", "--metrics-per-edge"),
)
LINGER_S = 8.0

ALERTS = (MONITORING / "rules.yml").read_text(encoding="utf-8")
THRESHOLDS = list(re.finditer(r"(?<= )(?:==|>) (\d+)$", ALERTS, re.MULTILINE))
HOLDS = list(re.finditer(r"for: (\d+)[sm]$", ALERTS, re.MULTILINE))


@pytest.fixture(autouse=True)
def tools() -> None:
    require_prometheus()


def test_promtool_accepts_what_is_shipped() -> None:
    for check in ("config", "rules"):
        name = "prometheus.yml" if check == "config" else "rules.yml"
        done = promtool("check", check, MONITORING / name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout
    done = promtool("test", "rules", MONITORING / "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def changed_numbers() -> list[Any]:
    """Every threshold and every hold of an alert, once too high and once too low."""
    changes: list[Any] = []
    for found in (*THRESHOLDS, *HOLDS):
        number = int(found[1])
        higher, lower = 10 * number + 1000, number // 2 - 1
        if found in HOLDS:
            higher, lower = 3 * number, number // 3
        for changed in (higher, lower):
            text = ALERTS[: found.start(1)] + str(changed) + ALERTS[found.end(1) :]
            line = ALERTS.count("\n", 0, found.start()) + 1
            changes.append(pytest.param(text, id=f"line {line}: {number} becomes {changed}"))
    return changes


def test_there_are_numbers_to_change() -> None:
    assert len(THRESHOLDS) == 18
    assert len(HOLDS) == 8


@pytest.mark.slow
@pytest.mark.parametrize("rules", changed_numbers())
def test_tests_of_rules_notice_every_number_that_changes(rules: str, tmp_path: Path) -> None:
    shutil.copy(MONITORING / "rules_test.yml", tmp_path)
    (tmp_path / "rules.yml").write_text(rules, encoding="utf-8")
    done = promtool("test", "rules", tmp_path / "rules_test.yml")
    assert done.returncode != 0
    assert "got:" in done.stdout + done.stderr, "not for another reason, such as its syntax"


class OtherHost:
    """What the run here cannot have: peers, agents that serve bodies, and an environment with
    figures of its own. A real exporter of it.
    """

    def __init__(self) -> None:
        self._table = HostTable(8, ("local", "b"), 1, (0, 0, 0, 0, 1, 1, 1, 1))
        clock = PeerClock("local", 12.5, 2e-5, 3e-4, one_way_trusted=True)
        self._table.set_clocks([clock])
        self._table.set_run(run_figures.own_figures({"normalised_score": -5.0}, "evaluation"))
        self._exporter = Exporter(self._table, 0)
        self._steps = 0
        self.address = f"127.0.0.1:{self._exporter.port}"

    def step(self) -> None:
        """One report more of each agent, with some hundred actions since the last."""
        self._steps += 1
        traffic = Traffic()
        traffic.set("agent_steps", 100 * self._steps)
        for agent in self._table.agents:
            self._table.update(
                report(
                    agent,
                    num_hosts=2,
                    tick=100 * self._steps,
                    traffic=traffic,
                    action_latencies_ns=(2_000_000, 9_000_000) * self._steps,
                ),
                time.monotonic(),
            )

    def close(self) -> None:
        self._exporter.close()


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    host = OtherHost()
    yield host
    host.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_every_query_has_an_answer_and_sums_are_those_of_the_summary(
    other_host: OtherHost, tmp_path: Path
) -> None:
    port = free_port()
    run_address = f"127.0.0.1:{port}"
    (tmp_path / "prometheus").mkdir()
    linger = ("--runtime.metrics-linger-s", str(LINGER_S))
    with (
        Launched(tmp_path, *RUN, *linger, metrics_port=port) as run,
        Prometheus(tmp_path / "prometheus", [run_address, other_host.address]) as prometheus,
    ):
        run.wait_until_training()
        wait_for("two scrapes", lambda: len(prometheus.targets_up()) == 2)
        figures = [part for alert in alert_queries() for part in without_thresholds(alert)]
        queries = [*dashboard_queries(), *record_queries(), *figures]
        assert len(queries) >= 50
        assert prometheus.unanswered(queries, 90.0, other_host.step) == []
        for query in (*alert_queries(), *annotation_queries()):
            prometheus.query(query.expr)
        wait_for("all rules to be evaluated", lambda: not prometheus.faulty_rules())
        assert prometheus.firing() == []

        run.process.send_signal(signal.SIGINT)
        assert run.finish(60.0) == 130
        wait_for("the run's exporter to be gone", lambda: len(prometheus.targets_up()) == 1)
        ended = f'instance:murmuration_run_ended:last{{instance="{run_address}"}}'
        assert prometheus.value(ended) == 1.0
        assert prometheus.query(f'ALERTS{{instance="{run_address}"}}') == []
        summary = run.summary()

        def last(metric: str, **labels: str) -> float:
            chosen = ",".join(f'{k.rstrip("_")}="{v}"' for k, v in labels.items())
            selector = f'{metric}{{instance="{run_address}",{chosen}}}'
            return prometheus.value(f"sum(last_over_time({selector}[10m]))")

        payload, zmtp = "murmuration_payload_bytes_total", "murmuration_zmtp_bytes_total"
        sent, received = {"direction": "sent"}, {"direction": "received"}
        by_prometheus = {
            "message_payload_bytes": last(payload, class_="message", **sent),
            "beacon_payload_bytes": last(payload, class_="beacon", **sent),
            "observation_bytes": last(payload, class_="observation", **received),
            "action_bytes": last(payload, class_="action", **sent),
            "policy_bytes": last(payload, class_="parameters", **received)
            + last("murmuration_node_payload_bytes_total", class_="parameters", **received),
            "policy_shared_bytes": last("murmuration_shared_parameters_bytes_total"),
            "heartbeat_bytes": last(payload, class_="heartbeat", **sent),
            "control_bytes": last(payload, class_="control", **sent),
            "edge_zmtp_bytes": last(zmtp, class_="message", **sent)
            + last(zmtp, class_="beacon", **sent)
            + last("murmuration_edge_handshake_bytes_total"),
            "edge_tcp_bytes": last("murmuration_tcp_bytes_total", **sent),
        }
        by_summary = {name: summary[name] for name in by_prometheus}
        assert min(by_summary.values()) > 0
        assert by_prometheus == pytest.approx(by_summary, rel=0.02)
        by_edge = last("murmuration_edge_messages_total")
        assert by_edge == last("murmuration_sent_packets_total", class_="message")


@pytest.mark.slow
def test_prometheus_notices_a_host_that_is_gone(other_host: OtherHost, tmp_path: Path) -> None:
    other_host.step()
    with Prometheus(tmp_path, [other_host.address]) as prometheus:
        up = f'up{{instance="{other_host.address}"}}'
        wait_for("a scrape", lambda: prometheus.query(f"{up} == 1"))
        other_host.close()
        wait_for("a scrape that fails", lambda: prometheus.query(f"{up} == 0"))
        pending = 'ALERTS{alertname="MurmurationHostDown", alertstate="pending"}'
        wait_for("the alert", lambda: prometheus.query(pending))
        (history,) = prometheus.series(up, last_s=30.0)
        values = np.array([float(value) for _, value in history["values"]])
        assert (np.diff(values) <= 0).all(), "up, then down"


def test_a_prometheus_on_one_host_scrapes_the_others(tmp_path: Path) -> None:
    with Hosts.create("a", "b", "c") as hosts:
        exporters: list[Exporter] = []
        try:
            for index, host in enumerate(hosts):
                table = HostTable(6, ("a", "b", "c"), index, (0, 0, 1, 1, 2, 2))
                traffic = Traffic()
                traffic.set("sent_zmtp_message", 1000 * (index + 1))
                traffic.set("sent_packets_message", 10)
                table.update(report(2 * index, num_hosts=3, traffic=traffic), time.monotonic())
                with host.inside():
                    exporters.append(Exporter(table, 9464, address=host.address))
            targets = [f"{host.address}:9464" for host in hosts]
            prefix = ("ip", "netns", "exec", hosts["b"].namespace)
            with Prometheus(tmp_path, targets, prefix=prefix) as prometheus:
                wait_for("three scrapes", lambda: prometheus.targets_up() == set(targets))
                by_host = (
                    "sum by (host) (murmuration_zmtp_bytes_total * on (instance) group_left (host)"
                    " murmuration_build_info)"
                )
                samples = wait_for("the figures", lambda: prometheus.query(by_host))
                figures = {sample.labels["host"]: sample.value for sample in samples}
                assert figures == {"a": 1000.0, "b": 2000.0, "c": 3000.0}
                with pytest.raises(AssertionError, match="parse error"):
                    prometheus.query("sum by (")
        finally:
            for exporter in exporters:
                exporter.close()
