"""Both ends of a transport, and patience with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

import zmq

from runtime.net import wire
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, Channel, Hub, Limits, agent_routing_id

DEADLINE_S = 10.0
SMALL = Limits(send=2, receive=2, largest_bytes=100_000)
PEER = agent_routing_id(3)
STOP = wire.Stop("enough")

Context = zmq.Context[zmq.Socket[bytes]]
Found = TypeVar("Found")


class Line:
    """Both ends of a transport; closes what it has opened."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._context = context
        self._opened: list[Channel | Hub] = []
        self.hub_traffic, self.channel_traffic = Traffic(), Traffic()
        self.endpoint = endpoint

    def hub(self, limits: Limits = CONTROL) -> Hub:
        hub = Hub(self._context, self.endpoint, self.hub_traffic, limits)
        self._opened.append(hub)
        self.endpoint = hub.endpoint
        return hub

    def channel(self, routing_id: bytes = PEER, limits: Limits = CONTROL) -> Channel:
        channel = Channel(self._context, self.endpoint, routing_id, self.channel_traffic, limits)
        self._opened.append(channel)
        return channel

    def pair(self, limits: Limits = CONTROL) -> tuple[Hub, Channel]:
        """A hub and a channel that have met: each has heard the other."""
        hub, channel = self.hub(limits), self.channel(limits=limits)
        greet(hub, channel)
        return hub, channel

    def close(self) -> None:
        for end in self._opened:
            end.close()


def wait_for(socket: zmq.Socket[bytes], look: Callable[[], list[Found]]) -> list[Found]:
    """Look at what has arrived until there is something, for ten seconds at most."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := look()):
        left_s = deadline_s - time.monotonic()
        assert left_s > 0.0, "nothing arrived in 10 s"
        socket.poll(int(1000 * left_s) + 1)
    return found


def at_hub(hub: Hub, *accepted: type[wire.Packet]) -> list[tuple[bytes, wire.Packet]]:
    return wait_for(hub.socket, lambda: list(hub.drain(*(accepted or (wire.Stop,)))))


def at_channel(channel: Channel, *accepted: type[wire.Packet]) -> list[wire.Packet]:
    return wait_for(channel.socket, lambda: list(channel.drain(*(accepted or (wire.Stop,)))))


def wait_until_writable(channel: Channel) -> None:
    assert channel.socket.poll(int(1000 * DEADLINE_S), zmq.POLLOUT), "no connection in 10 s"


def greet(hub: Hub, channel: Channel, text: str = "hello") -> None:
    """One packet each way."""
    wait_until_writable(channel)
    assert channel.send(wire.Stop(text))
    ((peer, packet),) = at_hub(hub)
    assert packet == wire.Stop(text)
    assert hub.send(peer, wire.Stop(text))
    assert at_channel(channel) == [wire.Stop(text)]


def send_until_heard(hub: Hub, channel: Channel) -> None:
    """A packet is lost if the connection falls before it leaves, so send more than one."""
    deadline_s = time.monotonic() + DEADLINE_S
    heard: list[tuple[bytes, wire.Packet]] = []
    while not heard:
        assert time.monotonic() < deadline_s, "not connected again in 10 s"
        channel.send(STOP)
        hub.socket.poll(50)
        heard = list(hub.drain(wire.Stop))
    assert heard[0] == (PEER, STOP)
