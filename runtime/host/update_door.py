"""Where a deployed node listens for updates of its policy, which the head's key alone may push.

pusher ⇄ Hub (CURVE, one guest) -> Updates -> take_up -> the node's agents
"""

import time
from collections.abc import Callable, Mapping

import zmq

from agents.rules import AgentRules
from runtime.deployment.update_file import UpdateFile
from runtime.host.setup import Place, RealTime
from runtime.host.updates import FIGURES, Moment, TakeUp, Updates
from runtime.net import wire
from runtime.net.security import Gatekeeper
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, Hub, node_routing_id

_DOMAIN = "update"


class UpdateDoor:
    """A node's conversation with a pusher (runtime/deployment/push.py)."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        place: Place,
        deployment: RealTime,
        rules: AgentRules,
        traffic: Traffic,
        *,
        figures: Callable[[], Mapping[str, float]],
        take_up: Callable[[TakeUp], None],
    ) -> None:
        """Listen.

        Args:
            figures: how the agents do, under the names of `FIGURES` at least.
            take_up: has the agents act by a version.

        Raises:
            SetupError: the port cannot be bound.
        """
        keyring = place.keyrings[node_routing_id(place.host).decode()]
        gatekeeper = Gatekeeper.of(context)  # there are other hosts, whose clocks we ask
        self._own_gatekeeper: Gatekeeper | None = None
        if gatekeeper is None:
            gatekeeper = self._own_gatekeeper = Gatekeeper(context)
        gatekeeper.admit(_DOMAIN, {LAUNCHER: keyring.public[LAUNCHER]})
        self._hub = Hub(
            context,
            place.hosts.update_endpoint(place.host),
            traffic,
            CONTROL,
            curve=keyring.server(_DOMAIN),
        )
        self._figures, self._take_up = figures, take_up
        self._updates = Updates(
            rules,
            len(place.hosts[place.host].agents),
            deployment.rate_hz,
            deployment.name,
            deployment.policy,
            UpdateFile(deployment.updates),
        )

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        return self._hub.socket

    @property
    def counts(self) -> tuple[int, int]:
        """Versions that agents took up in place, and those that were taken back."""
        return self._updates.updates, self._updates.rollbacks

    def take(self) -> None:
        """Answer the pusher."""
        for peer, packet in self._hub.drain(wire.PolicyOffer, wire.UpdateOrder):
            assert isinstance(packet, wire.PolicyOffer | wire.UpdateOrder)
            figures = self._figures()
            moment = Moment(
                time.monotonic(), time.time(), {name: figures[name] for name in FIGURES}
            )
            state, take_up = self._updates.handle(packet, moment)
            if take_up is not None:
                self._take_up(take_up)
            self._hub.send(peer, state)

    def turn(self) -> None:
        """Look for packets, and for a pusher that has fallen silent."""
        self.take()
        take_up = self._updates.due(time.monotonic())
        if take_up is not None:
            self._take_up(take_up)

    def close(self) -> None:
        self._hub.close()
        if self._own_gatekeeper is not None:
            self._own_gatekeeper.close()
