import numpy as np
import pytest
from numpy.testing import assert_array_equal

from runtime.host.host_table import HostTable, InEdge, OutEdge, PeerClock
from runtime.net import wire
from runtime.net.traffic import COUNTERS, Traffic, TrafficClass
from tests.reports import report

HOSTS = ("a", "b", "c")
HOST_OF = (0, 0, 1, 1, 2)


def table_of_b() -> HostTable:
    """The second of three hosts, which has agents 2 and 3 of 5."""
    return HostTable(5, HOSTS, 1, HOST_OF)


def clock(host: str, *, trusted: bool) -> PeerClock:
    return PeerClock(host, 3.5, 1e-5, 2e-4, trusted)


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
                    action_latencies_ns=(2_000_000, 3_000_000),
                    edges=edges,
                ),
                now_s=0.0,
            )
    status = table.status(0.0)
    assert status["sent_packets_message"] == 12
    assert status["restarts"] == 2
    assert table.latency_histogram(0).sum() == 3
    assert table.records()[0].action_latency.sum() == 6
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


def test_a_thousand_agents_report_more_rarely_and_are_silent_later() -> None:
    table = HostTable(1000)
    table.update(report(0, num_edges=10), now_s=0.0)
    assert table.status(12.0)["agents_reporting"] == 1
    assert table.status(12.1)["agents_reporting"] == 0


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
    assert list(table.in_edges()) == [
        InEdge(2, 3, 2, 20, 0.0), InEdge(1, 3, 4, 40, 0.0), InEdge(4, 3, 6, 60, 0.0)
    ]  # fmt: skip


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


@pytest.mark.parametrize(("num_hosts", "agent"), [(2, 2), (3, 0)])
def test_report_of_another_cluster_or_host_is_refused(num_hosts: int, agent: int) -> None:
    table = table_of_b()
    with pytest.raises(ValueError, match=r"arrays|not of this host"):
        table.update(report(agent, num_hosts=num_hosts), now_s=0.0)
    table.update(report(2, num_hosts=3), now_s=0.0)
    assert [record.agent for record in table.records()] == [2]


def test_table_knows_its_share() -> None:
    table = table_of_b()
    assert (table.hosts[table.host], table.agents, table.num_edges) == ("b", (2, 3), 6)
    table.update(report(2, num_hosts=3), now_s=0.0)
    (record,) = table.records()
    assert record.in_hosts.tolist() == [0, 0, 1]  # of agents 1, 0 and 3
    assert HostTable(5).agents == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("hosts", "host", "host_of"),
    [(HOSTS, 3, HOST_OF), (HOSTS, 0, (0, 0, 1, 1, 3)), (HOSTS, 0, (0, 0, 1)), (("a",), 1, None)],
)
def test_table_of_hosts_that_do_not_exist_is_refused(
    hosts: tuple[str, ...], host: int, host_of: tuple[int, ...] | None
) -> None:
    with pytest.raises(ValueError, match="there are"):
        HostTable(5, hosts, host, host_of)


def test_quantiles_leave_out_hosts_whose_clocks_are_not_trusted() -> None:
    table = table_of_b()
    table.update(report(2, num_hosts=3, source=1, latencies_ns=(100_000,) * 9), now_s=0.0)
    table.update(report(3, num_hosts=3, source=0, latencies_ns=(50_000_000,) * 90), now_s=0.0)

    def p50_ms() -> float:
        return table.status(0.0)["message_latency_p50_ms"]

    assert p50_ms() == pytest.approx(0.1, rel=0.1), "nothing is known of a's clock"
    table.set_clocks([clock("a", trusted=True)])
    assert p50_ms() == pytest.approx(50.0, rel=0.1)
    table.set_clocks([clock("a", trusted=False), clock("c", trusted=True)])
    assert p50_ms() == pytest.approx(0.1, rel=0.1)
    assert table.latency_histogram(0).sum() == 90, "whoever decides on trust may look"


def test_own_host_needs_no_clock() -> None:
    table = table_of_b()
    table.set_clocks([clock("c", trusted=False), clock("a", trusted=True)])
    assert [table.trusts(source) for source in range(3)] == [True, True, False]
    assert [known.host for known in table.clocks()] == ["a", "c"]


@pytest.mark.parametrize("host", ["b", "d"])
def test_clock_of_a_stranger_or_of_oneself_is_refused(host: str) -> None:
    table = table_of_b()
    with pytest.raises(ValueError, match=f"clock of {host}, the hosts are a, b, c"):
        table.set_clocks([clock(host, trusted=True)])


def test_action_latency_has_quantiles() -> None:
    table = HostTable(5)
    assert table.status(0.0)["action_latency_p99_ms"] == 0.0
    slow = report(0, action_latencies_ns=(1_000_000,) * 97 + (80_000_000,) * 3)
    table.update(slow, now_s=0.0)
    status = table.status(0.0)
    assert status["action_latency_p50_ms"] == pytest.approx(1.0, rel=0.1)
    assert status["action_latency_p99_ms"] == pytest.approx(80.0, rel=0.1)


def test_edge_is_heard_when_its_count_rises_and_at_no_other_time() -> None:
    table = HostTable(5)
    heard: list[list[float]] = []
    lives = ((0, 0, 1.0), (0, 2, 2.0), (0, 2, 3.0), (1, 0, 4.0), (1, 1, 5.0))
    for incarnation, messages, now_s in lives:
        edges = [[0, 0, messages, 10 * messages], [9, 90, 0, 0], [0] * 4]
        table.update(report(3, incarnation=incarnation, edges=edges), now_s=now_s)
        heard.append([edge.heard_s for edge in table.in_edges()])
    nan = float("nan")
    assert_array_equal([first for first, _, _ in heard], [nan, 2.0, 2.0, 2.0, 5.0])
    assert_array_equal([others for _, *others in heard], [[nan, nan]] * 5)


def test_node_starts_with_nothing_and_is_replaced_as_a_whole() -> None:
    table = HostTable(5)
    assert (table.node.counters.sum(), table.node.policy_version) == (0, 0)
    table.set_node(traffic_of(3).as_array(), 7)
    assert table.node.counters[COUNTERS.index("sent_packets_message")] == 3
    assert table.node.policy_version == 7
