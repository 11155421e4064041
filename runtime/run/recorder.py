"""Keeps whole episodes of real processes, action values included.

    agents, world  ->  Hub  ->  EpisodeJoiner  ->  episodes

It stands where a learner would, so agents and world ship to it what they would ship there, and
want to hear that it has arrived.
"""

from collections.abc import Iterable

import zmq

from configs.columns import Column
from envs.base import EnvSpec
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from runtime.net import wire
from runtime.net.security import CurveServer
from runtime.net.topology import Graph
from runtime.net.traffic import Traffic
from runtime.net.transport import TRAJECTORIES, WORLD, Hub, agent_routing_id


class Recorder:
    """Binds the trajectory endpoint and joins what arrives."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        spec: EnvSpec,
        curve: CurveServer | None = None,
        columns: Iterable[Column] = (),
        graph: Graph | None = None,
    ) -> None:
        """
        Args:
            columns: what agents and world record beside observation, action and gates.
            graph: along which agents speak; None: one whose masks are one number each.
        """
        self._traffic = Traffic()
        self._hub = Hub(context, endpoint, self._traffic, TRAJECTORIES, curve=curve)
        self._joiner = EpisodeJoiner(Dimensions.of(spec, columns, graph=graph))
        self.episodes: list[Episode] = []

    @property
    def endpoint(self) -> str:
        return self._hub.endpoint

    @property
    def socket(self) -> zmq.Socket[bytes]:
        return self._hub.socket

    def drain(self) -> None:
        for peer, packet in self._hub.drain(wire.Trajectory, wire.EpisodeRecord):
            assert isinstance(packet, (wire.Trajectory, wire.EpisodeRecord))
            is_record = isinstance(packet, wire.EpisodeRecord)
            if peer != (WORLD.encode() if is_record else agent_routing_id(packet.agent)):
                self._traffic.dropped("unknown_sender")
                continue
            # What it keeps is in its memory, as safe as the run that it belongs to.
            self._hub.send(peer, wire.TrajectoryAck(packet.episode))
            episode = self._joiner.add(packet)
            self._joiner.take_released()
            if episode is not None:
                self.episodes.append(episode)

    def close(self) -> None:
        self._hub.close()
