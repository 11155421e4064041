"""A process that lets some in, as strangers and guests meet it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread
from typing import Any, cast

import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.net import wire
from runtime.net.security import CurveClient, CurveServer, Gatekeeper, KeyPair
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, Channel, Hub, Limits
from tests.transport_helpers import DEADLINE_S, Context, at_hub, wait_until_writable

DOMAIN = "house"
LET_IN = zmq.EVENT_HANDSHAKE_SUCCEEDED
UNLISTED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
)


class House:
    """A gatekeeper, one pair of keys of its own, and whoever has been heard of."""

    def __init__(self, context: Context, *, is_patient: bool = False) -> None:
        self.context = context
        self.gatekeeper = Gatekeeper(context, is_patient=is_patient)
        self.own = KeyPair.generate()
        self.keys = {name: KeyPair.generate() for name in ("agent-1", "agent-2", "node-b")}
        self.traffic = Traffic()
        self._opened: list[Channel | Hub | zmq.Socket[bytes]] = []
        self.admit(*self.keys)

    def admit(self, *names: str, domain: str = DOMAIN) -> None:
        self.gatekeeper.admit(domain, {name: self.keys[name].public for name in names})

    def hub(
        self, endpoint: str = "tcp://127.0.0.1:*", limits: Limits = CONTROL, domain: str = DOMAIN
    ) -> Hub:
        curve = CurveServer(self.own, domain)
        hub = Hub(self.context, endpoint, self.traffic, limits, curve=curve)
        self._opened.append(hub)
        return hub

    def channel(self, hub: Hub, keys: KeyPair, *, limits: Limits = CONTROL) -> Channel:
        """A connecting end with these keys, whoever they belong to."""
        curve = CurveClient(keys, self.own.public)
        channel = Channel(self.context, hub.endpoint, b"", Traffic(), limits, curve=curve)
        self._opened.append(channel)
        return channel

    def guest(self, hub: Hub, name: str) -> Channel:
        """A listed one that has been let in."""
        channel = self.channel(hub, self.keys[name])
        wait_until_writable(channel)
        return channel

    def dealer(
        self,
        hub: Hub,
        keys: KeyPair | None = None,
        *,
        server_key: str = "",
        routing_id: bytes = b"",
        queue: int = 1000,
    ) -> "zmq.Socket[bytes]":
        """A client of somebody else's making: bare ZeroMQ, with or without keys."""
        socket = self.context.socket(zmq.DEALER)
        self._opened.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 5)
        socket.setsockopt(zmq.SNDHWM, queue)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        if keys is not None:
            CurveClient(keys, server_key or self.own.public).apply(socket)
        if routing_id:
            socket.setsockopt(zmq.ROUTING_ID, routing_id)
        socket.connect(hub.endpoint)
        return socket

    def close(self) -> None:
        for end in self._opened:
            end.close()
        self.gatekeeper.close()


@contextmanager
def terminating_context() -> Generator[Context]:
    """A context that must terminate: a socket left open would hold it for ever."""
    context: Context = zmq.Context()
    yield context
    ending = Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(DEADLINE_S)
    assert not ending.is_alive(), "context does not terminate: a socket is still open"


def wait_until(what: Callable[[], bool], why: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S:.0f} s: {why}"
        time.sleep(0.005)  # another thread's doing, which nothing announces


def say(channel: Channel, text: str) -> None:
    assert channel.send(wire.Stop(text))


def heard(hub: Hub) -> tuple[bytes, str]:
    """The next thing that is said, and who is taken to have said it."""
    ((peer, packet),) = at_hub(hub)
    assert isinstance(packet, wire.Stop)
    return peer, packet.reason


def heard_from(hub: Hub, say: Callable[[], object]) -> tuple[bytes, str]:
    """Say it until it is heard: connections that come and go lose what is in them."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        say()
        hub.socket.poll(50)
        for peer, packet in hub.drain(wire.Stop):
            assert isinstance(packet, wire.Stop)
            return peer, packet.reason
    raise AssertionError(f"not heard in {DEADLINE_S:.0f} s")


def outcome(hub: Hub, connect: Callable[[], object]) -> int:
    """How the server's end of the next handshake ends: HANDSHAKE_SUCCEEDED or a way to fail."""
    endings = (LET_IN, *FAILED)
    monitor = hub.socket.get_monitor_socket()
    try:
        connect()
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            if monitor.poll(100):
                event = cast("dict[str, Any]", recv_monitor_message(monitor))["event"]
                if event in endings:
                    return int(event)
        raise AssertionError(f"no handshake has ended in {DEADLINE_S:.0f} s")
    finally:
        hub.socket.disable_monitor()
        monitor.close(0)
