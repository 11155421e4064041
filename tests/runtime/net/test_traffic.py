import numpy as np
import pytest
from numpy.testing import assert_array_equal

from runtime.net import wire
from runtime.net.errors import WireFormatError
from runtime.net.traffic import (
    CLASS_OF,
    COUNTERS,
    REASONS,
    Traffic,
    TrafficClass,
    Uncounted,
    frame_zmtp_bytes,
    handshake_zmtp_bytes,
    named,
)


@pytest.mark.parametrize(("payload", "on_the_wire"), [(0, 2), (255, 257), (256, 265), (1000, 1009)])
def test_framing_costs_two_octets_or_nine(payload: int, on_the_wire: int) -> None:
    assert frame_zmtp_bytes(payload) == on_the_wire


@pytest.mark.parametrize(("routing_id", "octets"), [(0, 107), (3, 110), (214, 321), (215, 329)])
def test_handshake_costs_107_octets_and_the_routing_id(routing_id: int, octets: int) -> None:
    assert handshake_zmtp_bytes(routing_id) == octets


@pytest.mark.parametrize("traffic_class", TrafficClass)
def test_packets_are_counted_under_their_own_class_and_direction(
    traffic_class: TrafficClass,
) -> None:
    traffic = Traffic()
    traffic.sent(traffic_class, 100)
    traffic.sent(traffic_class, 300)
    traffic.received(traffic_class, 7)
    counted = {name: value for name, value in named(traffic.as_array()).items() if value}
    label = traffic_class.name.lower()
    assert counted == {
        f"sent_packets_{label}": 2,
        f"sent_payload_{label}": 400,
        f"sent_zmtp_{label}": 102 + 309,
        f"received_packets_{label}": 1,
        f"received_payload_{label}": 7,
        f"received_zmtp_{label}": 9,
    }


@pytest.mark.parametrize("reason", REASONS)
def test_drops_are_counted_by_reason(reason: str) -> None:
    traffic = Traffic()
    traffic.dropped(reason)
    assert {name for name, value in named(traffic.as_array()).items() if value} == {
        f"dropped_{reason}"
    }


def test_every_reason_of_the_decoder_has_a_counter() -> None:
    with pytest.raises(WireFormatError) as refused:
        wire.decode(b"")
    assert refused.value.reason in REASONS


def test_counters_add_set_and_read_by_name() -> None:
    traffic = Traffic()
    traffic.add("late")
    traffic.add("late", 4)
    traffic.set("agent_steps", 9)
    assert (traffic["late"], traffic["agent_steps"]) == (5, 9)


def test_array_is_a_copy_in_wire_order() -> None:
    traffic = Traffic()
    traffic.set(COUNTERS[3], 5)
    before = traffic.as_array()
    traffic.add(COUNTERS[3])
    expected = np.zeros(len(COUNTERS), dtype=np.uint64)
    expected[3] = 5
    assert_array_equal(before, expected, strict=True)


def test_counters_have_distinct_names_and_fit_a_report() -> None:
    assert len(set(COUNTERS)) == len(COUNTERS)
    traffic = Traffic()
    traffic.set("late", 2**63)
    report = wire.AgentReport(
        agent=0,
        incarnation=0,
        tick=0,
        policy_version=0,
        counters=traffic.as_array(),
        latency=np.zeros((1, 1), dtype=np.uint64),
        action_latency=np.zeros(1, dtype=np.uint64),
        edges=np.zeros((0, 4), dtype=np.uint64),
    )
    arrived = wire.decode(wire.encode(report))
    assert isinstance(arrived, wire.AgentReport)
    assert named(arrived.counters)["late"] == 2**63


def test_what_crosses_an_edge_is_message_or_beacon() -> None:
    assert CLASS_OF[wire.Message] is TrafficClass.MESSAGE
    assert CLASS_OF[wire.Beacon] is TrafficClass.BEACON
    assert TrafficClass.CONTROL not in CLASS_OF.values()  # whatever is not listed


def test_who_does_not_count_what_crosses_counts_no_versions_either() -> None:
    uncounted = Uncounted()
    uncounted.received(TrafficClass.PARAMETERS, 100)
    uncounted.received_version("dense", 100)
    assert not uncounted.as_array().any()
    uncounted.dropped("stale")
    assert named(uncounted.as_array())["dropped_stale"] == 1
