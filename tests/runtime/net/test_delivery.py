"""Parts of episodes reach a learner that comes, goes and comes again: real sockets."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from runtime.net import wire
from runtime.net.delivery import Delivery
from runtime.net.outbox import Outbox
from runtime.net.traffic import Traffic
from runtime.net.transport import TRAJECTORIES, Channel, Hub, agent_routing_id
from tests.learner_helpers import make_packets

pytestmark = pytest.mark.process

DEADLINE_S = 20.0
AGENT = 3


class Ends:
    """An agent's delivery, and a learner's hub that can be taken away."""

    def __init__(self, folder: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.endpoint = f"ipc://{folder}/learner"
        self.traffic = Traffic()
        peer = agent_routing_id(AGENT)
        channel = Channel(self.context, self.endpoint, peer, self.traffic, TRAJECTORIES)
        self.delivery = Delivery(self.context, channel, 1 << 20)
        # So patient that nothing is sent again but what a lost connection makes due.
        self.delivery.outbox = Outbox(most_frames=100, most_bytes=1 << 20, resend_s=1e6)
        self.hub: Hub | None = None
        self.arrived: list[int] = []

    def open_hub(self) -> Hub:
        self.hub = Hub(self.context, self.endpoint, Traffic(), TRAJECTORIES)
        return self.hub

    def close_hub(self) -> None:
        assert self.hub is not None
        self.hub.close()
        self.hub = None

    def ship(self, episode: int) -> None:
        self.delivery.send(make_packets(episode)[0][AGENT])

    def pump_until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at, f"{self.arrived} have arrived"
            self.delivery.turn()
            if self.hub is None:
                continue
            self.hub.socket.poll(10)
            for peer, packet in self.hub.drain(wire.Trajectory):
                assert isinstance(packet, wire.Trajectory)
                assert peer == agent_routing_id(AGENT)
                self.arrived.append(packet.episode)

    def close(self) -> None:
        self.delivery.close()
        if self.hub is not None:
            self.hub.close()
        self.context.term()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    ends = Ends(tmp_path)
    yield ends
    ends.close()


def test_what_was_shipped_before_there_was_a_learner_arrives_in_order(ends: Ends) -> None:
    for episode in range(5):
        ends.ship(episode)
    assert len(ends.delivery.outbox) == 5
    ends.open_hub()
    ends.pump_until(lambda: len(ends.arrived) == 5)
    assert ends.arrived == [0, 1, 2, 3, 4]
    assert ends.traffic.dropped_total == 0, "to wait for a connection is not to be dropped"


def test_acknowledged_parts_are_forgotten_and_the_others_sent_to_the_next_learner(
    ends: Ends,
) -> None:
    hub = ends.open_hub()
    for episode in range(6):
        ends.ship(episode)
    ends.pump_until(lambda: len(ends.arrived) == 6)
    for episode in (0, 1, 4):
        assert hub.send(agent_routing_id(AGENT), wire.TrajectoryAck(episode))
    ends.pump_until(lambda: len(ends.delivery.outbox) == 3)

    ends.close_hub()  # with it goes whatever it had and had not acknowledged
    ends.arrived.clear()
    ends.open_hub()
    ends.pump_until(lambda: len(ends.arrived) == 3)
    assert ends.arrived == [2, 3, 5]


def test_while_the_connection_stands_nothing_is_sent_twice(ends: Ends) -> None:
    ends.open_hub()
    ends.ship(0)
    ends.pump_until(lambda: len(ends.arrived) == 1)
    turns = iter(range(50))
    ends.pump_until(lambda: next(turns) == 49)
    assert ends.arrived == [0]
