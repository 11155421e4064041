import numpy as np
import pytest
from numpy.testing import assert_array_equal

from runtime import wire
from runtime.host_table import HostTable, InEdge, OutEdge
from runtime.traffic import COUNTERS, Traffic, TrafficClass
from tests.reports import report


def traffic_of(num_messages: int = 0, **counters: int) -> Traffic:
    traffic = Traffic()
    for _ in range(num_messages):
        traffic.sent(TrafficClass.MESSAGE, 100)
    for name, value in counters.items():
        traffic.set(name, value)
    return traffic


def test_totals_add_up_over_agents() -> None:
    table = HostTable(5)
    table.update(report(0, traffic=traffic_of(2, late=1)), now_s=0.0)
    table.update(report(3, traffic=traffic_of(3)), now_s=0.0)
    status = table.status(0.0)
    assert status["sent_packets_message"] == 5
    assert status["sent_payload_message"] == 500
    assert status["sent_zmtp_message"] == 510
    assert status["late"] == 1


def test_later_report_replaces_an_earlier_one_of_the_same_life() -> None:
    table = HostTable(5)
    for count in (2, 7):
        table.update(report(0, traffic=traffic_of(count)), now_s=0.0)
    assert table.status(0.0)["sent_packets_message"] == 7


def test_sums_keep_what_earlier_lives_had() -> None:
    table = HostTable(5)
    edges = [[1, 10, 2, 20], [0] * 4, [3, 30, 0, 0]]
    for incarnation in range(3):  # each life reports twice, the second time the same again
        for _ in range(2):
            table.update(
                report(
                    1,
                    incarnation=incarnation,
                    traffic=traffic_of(4),
                    latencies_ns=(50_000,),
                    edges=edges,
                ),
                now_s=0.0,
            )
    status = table.status(0.0)
    assert status["sent_packets_message"] == 12
    assert status["restarts"] == 2
    assert table.latency_histogram().sum() == 3
    assert_array_equal(table.records()[0].edges, 3 * np.array(edges, dtype=np.uint64))


def test_report_of_a_replaced_incarnation_is_ignored() -> None:
    table = HostTable(5)
    table.update(report(1, incarnation=1, tick=9, traffic=traffic_of(1)), now_s=1.0)
    table.update(report(1, incarnation=0, tick=7, traffic=traffic_of(50)), now_s=2.0)
    status = table.status(2.0)
    assert (status["sent_packets_message"], status["tick"], status["restarts"]) == (1, 9, 1)


def test_agent_that_misses_three_reports_is_silent_but_its_sums_stay() -> None:
    table = HostTable(5)
    table.update(report(0, tick=100, policy_version=3, traffic=traffic_of(2)), now_s=0.0)
    table.update(report(1, tick=90, policy_version=5, traffic=traffic_of(2)), now_s=2.0)
    now = table.status(3.0)
    assert (now["agents_reporting"], now["tick"], now["policy_version_min"]) == (2, 100, 3)
    later = table.status(3.1)
    assert (later["agents_reporting"], later["tick"], later["policy_version_min"]) == (1, 90, 5)
    assert later["sent_packets_message"] == 4


def test_empty_table_has_a_status() -> None:
    status = HostTable(5).status(0.0)
    assert set(COUNTERS) < set(status)
    assert set(status.values()) == {0.0}


def test_status_fits_a_status_packet() -> None:
    values = HostTable(5).status(0.0)
    packet = wire.decode(wire.encode(wire.Status("node", values)), wire.Status)
    assert isinstance(packet, wire.Status)
    assert packet.values == values


def test_latency_quantiles_come_from_all_agents() -> None:
    table = HostTable(5)
    table.update(report(0, latencies_ns=(100_000,) * 99), now_s=0.0)
    table.update(report(1, latencies_ns=(50_000_000,) * 2), now_s=0.0)
    status = table.status(0.0)
    assert status["message_latency_p50_ms"] == pytest.approx(0.1, rel=0.1)  # half a bin is 9 %
    assert status["message_latency_p99_ms"] == pytest.approx(50.0, rel=0.1)


def test_open_ratio_covers_the_time_between_two_reports() -> None:
    table = HostTable(5)
    ratios: list[float | None] = []
    for slots, used in ((0, 0), (10, 5), (30, 5), (30, 5)):
        table.update(report(0, traffic=traffic_of(edge_slots=slots, edges_open=used)), now_s=0.0)
        ratios.append(table.records()[0].open_ratio)
    assert ratios == [None, 0.5, 0.0, 0.0]


def test_open_ratio_survives_a_restart() -> None:
    table = HostTable(5)
    table.update(report(0, traffic=traffic_of(edge_slots=10, edges_open=10)), now_s=0.0)
    again = traffic_of(edge_slots=4, edges_open=1)
    table.update(report(0, incarnation=1, traffic=again), now_s=0.0)
    assert table.records()[0].open_ratio == 0.25


def test_edges_are_named_by_sender_and_receiver() -> None:
    table = HostTable(5)  # offsets 1, 2, 4
    table.update(report(3, edges=[[1, 10, 2, 20], [3, 30, 4, 40], [5, 50, 6, 60]]), now_s=0.0)
    assert list(table.out_edges()) == [
        OutEdge(3, 4, 1, 10), OutEdge(3, 0, 3, 30), OutEdge(3, 2, 5, 50)
    ]  # fmt: skip
    assert list(table.in_edges()) == [InEdge(2, 3, 2, 20), InEdge(1, 3, 4, 40), InEdge(4, 3, 6, 60)]


def test_table_keeps_copies_not_views_of_the_packet() -> None:
    table = HostTable(5)
    arrived = wire.decode(wire.encode(report(0, traffic=traffic_of(1))), wire.AgentReport)
    assert isinstance(arrived, wire.AgentReport)
    table.update(arrived, now_s=0.0)
    assert not np.shares_memory(table.records()[0].counters, arrived.counters)


@pytest.mark.parametrize(
    ("agent", "num_edges", "complaint"), [(5, 3, "agent 5, there are 5"), (0, 4, "arrays")]
)
def test_report_that_does_not_fit_is_refused(agent: int, num_edges: int, complaint: str) -> None:
    table = HostTable(5)
    with pytest.raises(ValueError, match=complaint):
        table.update(report(agent, num_edges=num_edges), now_s=0.0)
    assert table.records() == []
