"""One Prometheus and a run across three hosts: what it has scraped adds up to the run's summary."""

import signal
from pathlib import Path

import pytest

from tests.monitoring_helpers import DEPLOYED, dashboard_queries, record_queries
from tests.process.fleet import HEAD, REMOTE, Fleet
from tests.process.namespaces import Hosts
from tests.process.prometheus import Prometheus, require_prometheus
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

PORT = 9464
LINGER = ("metrics-linger-s", "4.0")


@pytest.mark.slow
def test_scraped_hosts_add_up(tmp_path: Path) -> None:
    require_prometheus()
    (tmp_path / "prometheus").mkdir()
    with Hosts.create(HEAD, *REMOTE) as hosts:
        fleet = Fleet(hosts, tmp_path)
        fleet.make_bundles()

        def exporter(name: str) -> tuple[str, ...]:
            address = ("--metrics-address", hosts[name].address)
            return (*address, "--metrics-port", str(PORT), "--metrics-per-edge")

        endless = ("--steps", "100000000", "--evaluation.interval-steps", "0")
        fleet.launch(*endless, *exporter(HEAD), f"--runtime.{LINGER[0]}", LINGER[1])
        for name in REMOTE:
            fleet.join(name, *exporter(name), f"--{LINGER[0]}", LINGER[1])
        targets = [f"{host.address}:{PORT}" for host in hosts]
        prefix = ("ip", "netns", "exec", hosts["c"].namespace)
        with Prometheus(tmp_path / "prometheus", targets, prefix=prefix) as prometheus:
            fleet.wait_until_learning()
            wait_for("three scrapes", lambda: prometheus.targets_up() == set(targets))
            # Everything that the dashboard shows of a training run across hosts.
            queries = [*dashboard_queries(without_rows=(DEPLOYED,)), *record_queries()]
            # Deployed agents alone have action latency, and relay has no figures of its own.
            others = ("action_latency", "murmuration_env_metric")
            shown = [query for query in queries if not any(o in query.expr for o in others)]
            assert prometheus.unanswered(shown, 90.0) == []

            fleet.head.send_signal(signal.SIGINT)
            assert fleet.head.wait(60.0) == 130
            wait_for("exporters to be gone", lambda: not prometheus.targets_up(), 30.0)
            summary = fleet.summary()

            def last(metric: str, *labels: str) -> float:
                selector = f"{metric}{{{','.join(labels)}}}"
                return prometheus.value(f"sum(last_over_time({selector}[10m]))")

            sent = 'direction="sent"'
            zmtp, payload = "murmuration_zmtp_bytes_total", "murmuration_payload_bytes_total"
            scraped = {
                "edge_zmtp_bytes": last(zmtp, sent, 'class="message"')
                + last(zmtp, sent, 'class="beacon"')
                + last("murmuration_edge_handshake_bytes_total"),
                "edge_tcp_bytes": last("murmuration_tcp_bytes_total", sent),
                "message_payload_bytes": last(payload, sent, 'class="message"'),
                "action_bytes": last(payload, sent, 'class="action"'),
            }
            counted = {name: summary[name] for name in scraped}
            assert min(counted.values()) > 0
            assert scraped == pytest.approx(counted, rel=0.02)
            assert counted["edge_tcp_bytes"] == pytest.approx(counted["edge_zmtp_bytes"], rel=0.01)
