"""An outbox in front of a connection: parts of episodes on their way to the learner.

    Trajectory, EpisodeRecord -> Outbox -> Channel -> learner
                                   ▲                    │
                                   └── TrajectoryAck ───┘

Questions to a guide and its answers take the same way, at once and unkept: they are asked again.

Agents and the world deliver alike. `send` is cheap enough for the middle of a step; what is
acknowledged and what is to be sent again wait for the next `turn`.
"""

import logging
import struct
import time

import zmq

from runtime.net import wire
from runtime.net.outbox import Outbox
from runtime.net.traffic import CLASS_OF
from runtime.net.transport import Channel

logger = logging.getLogger(__name__)

MOST_FRAMES = 4096
AGENT_MOST_BYTES = 16 * wire.MIB
"""Of one agent's outbox: 400 trajectories of Battle, more than learner.max_backlog lets wait."""
WORLD_MOST_BYTES = 256 * wire.MIB


class Delivery:
    """Sends, keeps, and sends again until the learner has acknowledged."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], channel: Channel, most_bytes: int):
        """Deliver over `channel`, which from now on belongs to this object."""
        self.outbox = Outbox(most_frames=MOST_FRAMES, most_bytes=most_bytes)
        self._channel = channel
        self.answers: list[wire.GuideAnswer] = []
        """Of a guide, since somebody looked."""
        endpoint = f"inproc://monitor-{id(self)}"
        # The only way to hear that a connection has gone: a new one looks no different.
        channel.socket.monitor(endpoint, zmq.EVENT_DISCONNECTED)
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.connect(endpoint)

    def send(self, packet: wire.Trajectory | wire.EpisodeRecord) -> None:
        """Hand over now if the connection stands, else as soon as it does."""
        given_up = self.outbox.put(packet.episode, wire.encode(packet))
        self._send_due(time.monotonic())
        if given_up:
            logger.warning("%d parts of episodes were given up, not acknowledged", given_up)

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """To be polled by one that waits for answers."""
        return self._channel.socket

    def ask(self, question: wire.GuideQuestion) -> None:
        """Hand over now, or lose it."""
        if self._channel.is_writable:
            self._channel.send(question)

    def take(self) -> None:
        """Take acknowledgements, and a guide's answers."""
        for packet in self._channel.drain(wire.TrajectoryAck, wire.GuideAnswer):
            if isinstance(packet, wire.GuideAnswer):
                self.answers.append(packet)
            else:
                assert isinstance(packet, wire.TrajectoryAck)
                self.outbox.acknowledge(packet.episode)

    def turn(self) -> None:
        """Take what has come, and send again what must be; call it about once a second."""
        self.take()
        if self._has_disconnected():
            self.outbox.connection_lost()
        self._send_due(time.monotonic())

    def _send_due(self, now_s: float) -> None:
        for episode, frame in self.outbox.due(now_s):
            # Looked at first: a frame that has to wait is not one that was dropped.
            if not self._channel.is_writable:
                return
            if not self._channel.send_frame(frame, CLASS_OF[wire.Trajectory]):
                return
            self.outbox.sent(episode, now_s)

    def _has_disconnected(self) -> bool:
        lost = False
        while True:
            try:
                event, *_ = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return lost
            lost |= struct.unpack_from("=H", event)[0] == zmq.EVENT_DISCONNECTED

    def close(self) -> None:
        self._channel.socket.disable_monitor()
        self._monitor.close()
        self._channel.close()
