"""One contract for every transport: what a Channel and a Hub promise, over inproc, ipc and tcp."""

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import zmq

from runtime.net import wire
from runtime.net.errors import SetupError
from runtime.net.traffic import FORM_OF, Traffic, TrafficClass, frame_zmtp_bytes
from runtime.net.transport import CONTROL, Channel, Hub, agent_of, agent_routing_id, last_endpoint
from tests.transport_helpers import (
    DEADLINE_S,
    PEER,
    SMALL,
    STOP,
    Context,
    Line,
    at_channel,
    at_hub,
    greet,
    send_until_heard,
    wait_until_writable,
)


@pytest.fixture
def context() -> Iterator[Context]:
    """A context that must terminate: a socket left open would hold it for ever."""
    context: Context = zmq.Context()
    yield context
    ending = Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(DEADLINE_S)
    assert not ending.is_alive(), "context does not terminate: a socket is still open"


NUMBERS = count()


@pytest.fixture(params=["inproc", "ipc", "tcp"])
def line(request: pytest.FixtureRequest, context: Context, tmp_path: Path) -> Iterator[Line]:
    """A line of every kind; closed before the context terminates."""
    line = make_line(request.param, context, tmp_path)
    yield line
    line.close()


@pytest.fixture(params=["ipc", "tcp"])
def breakable(request: pytest.FixtureRequest, context: Context, tmp_path: Path) -> Iterator[Line]:
    """A line with a connection that can fall and be made anew; inproc has none."""
    line = make_line(request.param, context, tmp_path)
    yield line
    line.close()


def make_line(kind: str, context: Context, folder: Path) -> Line:
    endpoints = {
        "inproc": f"inproc://contract-{next(NUMBERS)}",
        "ipc": f"ipc://{folder}/hub",
        "tcp": "tcp://127.0.0.1:*",
    }
    return Line(context, endpoints[kind])


# --- there and back -------------------------------------------------------------------------------


def test_packets_cross_both_ways_and_the_hub_knows_who_sent_them(line: Line) -> None:
    hub, channel = line.pair()
    assert channel.send(wire.SnapshotRequest(4))
    assert at_hub(hub, wire.SnapshotRequest) == [(PEER, wire.SnapshotRequest(4))]
    assert hub.send(PEER, STOP)
    assert at_channel(channel) == [STOP]


def test_a_hub_tells_its_peers_apart(line: Line) -> None:
    hub = line.hub()
    ids = [agent_routing_id(agent) for agent in (0, 255, 256)]
    channels = {peer: line.channel(peer) for peer in ids}
    for peer, channel in channels.items():
        greet(hub, channel, text=peer.hex())
    for peer in reversed(ids):
        assert hub.send(peer, wire.Stop(peer.hex()))
    for peer, channel in channels.items():
        assert at_channel(channel) == [wire.Stop(peer.hex())]


def test_packets_of_one_sender_keep_their_order(line: Line) -> None:
    hub, channel = line.pair()
    for have in range(50):
        assert channel.send(wire.SnapshotRequest(have))
    arrived: list[wire.Packet] = []
    while len(arrived) < 50:
        arrived += [packet for _, packet in at_hub(hub, wire.SnapshotRequest)]
    assert arrived == [wire.SnapshotRequest(have) for have in range(50)]


def test_nothing_has_arrived_is_no_error(line: Line) -> None:
    hub, channel = line.pair()
    assert list(hub.drain(wire.Stop)) == []
    assert list(channel.drain(wire.Stop)) == []


def test_both_ends_count_what_crosses_by_class_and_layer(line: Line) -> None:
    hub, channel = line.pair()
    packet = wire.InMask(1, np.zeros(200, dtype=np.uint16))
    size = len(wire.encode(packet))
    assert hub.send(PEER, packet)
    at_channel(channel, wire.InMask)
    for way, traffic in (("sent", line.hub_traffic), ("received", line.channel_traffic)):
        assert traffic[f"{way}_packets_observation"] == 1
        assert traffic[f"{way}_payload_observation"] == size
        assert traffic[f"{way}_zmtp_observation"] == frame_zmtp_bytes(size)
        assert traffic[f"{way}_packets_control"] == 1  # the greeting


def test_versions_that_arrive_are_counted_by_form_and_requests_are_none(line: Line) -> None:
    hub, channel = line.pair()
    version = wire.DenseParameters(1, 0, np.zeros(50, dtype=np.float32))
    assert hub.send(PEER, version)
    at_channel(channel, wire.DenseParameters)
    assert channel.send(wire.SnapshotRequest(1))
    at_hub(hub, wire.SnapshotRequest)
    arrived = line.channel_traffic
    assert (arrived["versions_dense"], arrived["versions_delta"]) == (1, 0)
    assert arrived["version_payload_dense"] == arrived["received_payload_parameters"]
    assert sum(line.hub_traffic[f"versions_{form}"] for form in FORM_OF.values()) == 0


def test_a_frame_can_be_sent_that_the_sender_counts_itself(line: Line) -> None:
    hub, channel = line.pair()
    frame = wire.encode(wire.EdgeHello(3, 0))
    assert channel.send_frame(frame, None)
    assert at_hub(hub, wire.EdgeHello) == [(PEER, wire.EdgeHello(3, 0))]
    assert hub.send_frame(PEER, wire.encode(STOP), TrafficClass.HEARTBEAT)
    assert at_channel(channel) == [STOP]
    assert line.channel_traffic["sent_packets_control"] == 1
    assert line.hub_traffic["received_packets_control"] == 1  # hellos count as handshake
    assert line.hub_traffic["sent_packets_heartbeat"] == 1


def test_a_frame_for_several_peers_is_counted_for_those_whom_it_reaches(line: Line) -> None:
    hub, channel = line.pair()
    other = line.channel(agent_routing_id(4))
    greet(hub, other)
    frame = wire.encode(STOP)
    hub.send_to_all((PEER, agent_routing_id(5), agent_routing_id(4)), frame, TrafficClass.BEACON)
    assert (at_channel(channel), at_channel(other)) == ([STOP], [STOP])
    assert line.hub_traffic["sent_packets_beacon"] == 2
    assert line.hub_traffic["sent_zmtp_beacon"] == 2 * hub.framed(len(frame))
    assert line.hub_traffic["dropped_unreachable"] == 1


def test_what_has_arrived_can_be_asked_without_taking_it(line: Line) -> None:
    hub, channel = line.pair()
    assert not hub.has_arrived
    assert channel.send(STOP)
    assert hub.socket.poll(5000)
    assert hub.has_arrived
    assert at_hub(hub) == [(PEER, STOP)]
    assert not hub.has_arrived


# --- what does not belong -------------------------------------------------------------------------

BAD: dict[str, tuple[bytes, str]] = {
    "garbage": (b"\xc1\xff\x00", "decode"),
    "nothing": (b"", "decode"),
    "another version": (b"\x93\x01\x17\xa0", "version"),
    "a kind that nobody sends here": (wire.encode(wire.SnapshotRequest(1)), "kind"),
    "more than its kind may hold": (wire.encode(STOP) + bytes(wire.Stop.LARGEST), "oversize"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_frame_is_dropped_and_counted_and_the_next_one_arrives(line: Line, kind: str) -> None:
    frame, reason = BAD[kind]
    hub, channel = line.pair()
    assert channel.send_frame(frame, None)
    assert channel.send(STOP)
    assert at_hub(hub) == [(PEER, STOP)]
    assert hub.send_frame(PEER, frame, None)
    assert hub.send(PEER, STOP)
    assert at_channel(channel) == [STOP]
    for traffic in (line.hub_traffic, line.channel_traffic):
        assert traffic[f"dropped_{reason}"] == 1
        assert traffic["received_packets_control"] == 2


def test_a_packet_of_several_frames_is_dropped_and_counted(line: Line) -> None:
    hub, channel = line.pair()
    channel.socket.send_multipart([wire.encode(STOP), wire.encode(STOP)])
    channel.socket.send_multipart([b"", wire.encode(STOP)])
    assert channel.send(STOP)
    assert at_hub(hub) == [(PEER, STOP)]
    assert line.hub_traffic["dropped_decode"] == 2


def test_who_sends_more_than_the_limit_is_cut_off_and_may_come_again(breakable: Line) -> None:
    hub, channel = breakable.pair(SMALL)
    assert channel.send_frame(bytes(SMALL.largest_bytes + 1), None)
    send_until_heard(hub, channel)
    assert breakable.hub_traffic["dropped_decode"] == 0  # it never reached us


# --- delivery -------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_counts_and_nothing_blocks(line: Line) -> None:
    _, channel = line.pair(SMALL)
    frame = bytes(90_000)  # large, so that the kernel's buffers fill up as well
    sent = 0
    while channel.send_frame(frame, TrafficClass.CONTROL):
        sent += 1
        assert sent < 1000, "the queue takes everything"
    assert line.channel_traffic["dropped_full"] == 1
    assert line.channel_traffic["sent_packets_control"] == 1 + sent


def test_a_hub_refuses_a_peer_whose_queue_is_full_and_serves_the_others(line: Line) -> None:
    hub, _ = line.pair(SMALL)
    other = line.channel(agent_routing_id(4), SMALL)
    greet(hub, other)
    frame, sent = bytes(90_000), 0
    while hub.send_frame(PEER, frame, None):
        sent += 1
        assert sent < 1000, "the queue takes everything"
    assert line.hub_traffic["dropped_full"] == 1
    assert hub.send(agent_routing_id(4), STOP)
    assert at_channel(other) == [STOP]


def test_a_peer_that_nobody_knows_is_unreachable_and_counted(line: Line) -> None:
    hub, _ = line.pair()
    assert not hub.send(agent_routing_id(99), STOP)
    assert line.hub_traffic["dropped_unreachable"] == 1
    assert line.hub_traffic["sent_packets_control"] == 1


@pytest.mark.parametrize("endpoint", ["ipc:///nowhere/hub", "tcp://127.0.0.1:1"])
def test_a_channel_whose_hub_is_not_there_refuses_and_counts(
    context: Context, endpoint: str
) -> None:
    # Nothing is queued for a peer that is away: the oldest would arrive first.
    line = Line(context, endpoint)
    channel = line.channel()
    assert not channel.is_writable
    assert not channel.send(STOP)
    assert line.channel_traffic["dropped_full"] == 1
    # It asks again for what is offered, so that nothing is lost.
    assert not channel.offer(STOP)
    assert line.channel_traffic.dropped_total == 1
    line.close()


def test_what_is_offered_is_counted_as_what_is_sent(line: Line) -> None:
    hub, channel = line.pair()
    before = line.channel_traffic["sent_packets_control"]
    assert channel.offer(STOP)
    assert at_hub(hub) == [(PEER, STOP)]
    assert line.channel_traffic["sent_packets_control"] == before + 1


def test_a_restarted_channel_takes_over_its_routing_id(line: Line) -> None:
    hub, former = line.pair()
    following = line.channel()
    wait_until_writable(following)
    assert following.send(wire.Stop("I am back"))
    assert at_hub(hub) == [(PEER, wire.Stop("I am back"))]
    assert hub.send(PEER, STOP)
    assert at_channel(following) == [STOP]
    assert list(former.drain(wire.Stop)) == []


def test_a_channel_finds_a_hub_that_was_started_again(breakable: Line) -> None:
    hub, channel = breakable.pair()
    hub.close()
    # The closed socket lets go of its endpoint a moment later.
    deadline_s = time.monotonic() + DEADLINE_S
    restarted = None
    while restarted is None:
        try:
            restarted = breakable.hub()
        except SetupError:
            assert time.monotonic() < deadline_s, "the endpoint is not free after 10 s"
    send_until_heard(restarted, channel)


# --- endpoints ------------------------------------------------------------------------------------


def test_a_hub_says_where_it_listens(line: Line) -> None:
    hub = line.hub()
    assert not hub.endpoint.endswith("*")
    assert last_endpoint(hub.socket) == hub.endpoint
    greet(hub, line.channel())


def test_an_endpoint_that_is_taken_is_a_setup_error_that_names_it(context: Context) -> None:
    hub = Hub(context, "tcp://127.0.0.1:*", Traffic(), CONTROL)
    with pytest.raises(SetupError, match=f"^cannot listen on {hub.endpoint}: Address already in"):
        Hub(context, hub.endpoint, Traffic(), CONTROL)
    hub.close()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:x", "ipc:///no/no"])
def test_an_endpoint_that_makes_no_sense_is_a_setup_error(context: Context, endpoint: str) -> None:
    with pytest.raises(SetupError, match=f"^cannot listen on {endpoint.replace('*', '.')}"):
        Hub(context, endpoint, Traffic(), CONTROL)


# --- routing ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", [0, 1, 255, 256, 4095, 65_535])
def test_a_routing_id_names_its_agent(agent: int) -> None:
    assert agent_of(agent_routing_id(agent)) == agent
    assert agent_routing_id(agent)[0] != 0  # ZeroMQ keeps those for itself


@pytest.mark.parametrize(
    "routing_id", [b"", b"a", b"a\x00", b"a\x00\x00\x00", b"b\x00\x00", b"world"]
)
def test_other_routing_ids_name_nobody(routing_id: bytes) -> None:
    assert agent_of(routing_id) is None


def test_an_endpoint_that_is_none_is_refused_in_one_line(context: Context) -> None:
    with pytest.raises(SetupError, match="cannot connect to ipc://: Invalid argument"):
        Channel(context, "ipc://", b"agent-0", Traffic(), CONTROL)
