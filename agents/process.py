"""The agent's process in lock-step: sockets in front of AgentCore.

    world   ⇄ Channel ─┐                     ┌─ Edges ⇄ out- and in-neighbours
    node    ⇄ Channel ─┤  poll → core → send ┤
    learner ⇄ Delivery ┘                     └─

A blocking poll, not asyncio: a round trip costs under a third of the time
(tests/benchmarks/event_loops.py). Messages go out before the action, so that a receiver finds them
when the world lets it go on.
"""

import logging
import time
from dataclasses import dataclass

import zmq

from agents import shell
from agents.delivery import AGENT_MOST_BYTES, Delivery
from agents.edges import GREET_PERIOD_S
from agents.events import (
    Command,
    Dropped,
    PeersLate,
    SendBeacon,
    SendMessage,
    ToLearner,
    ToNode,
    ToWorld,
)
from agents.setup import ShellSetup
from agents.shell import REPORT_PERIOD_S, Context, Shell
from runtime import wire
from runtime.transport import LEARNER, STEP, TRAJECTORIES, WORLD, Channel, agent_routing_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSetup(ShellSetup):
    """All that an agent of a lock-step run is told."""

    world_endpoint: str
    learner_endpoint: str
    """Empty if trajectories go nowhere."""
    peer_timeout_s: float
    """Seconds that a step waits for packets that are under way."""


def main(setup: AgentSetup) -> None:
    """Run one agent until it is told to stop. Entry point of the process."""
    shell.run(setup, AgentProcess)


class AgentProcess(Shell):
    """Moves packets between the sockets and the core."""

    def __init__(self, setup: AgentSetup, context: Context) -> None:
        super().__init__(setup, context)
        self._peer_timeout_s = setup.peer_timeout_s
        own_name, keyring = agent_routing_id(setup.identity), setup.keyring
        self._world = Channel(
            context,
            setup.world_endpoint,
            own_name,
            self._traffic,
            STEP,
            curve=None if keyring is None else keyring.client_of(WORLD),
        )
        self._delivery: Delivery | None = None
        """Where trajectories go, and stay until they are acknowledged."""
        if setup.learner_endpoint:
            learner = Channel(
                context,
                setup.learner_endpoint,
                own_name,
                self._traffic,
                TRAJECTORIES,
                linger_ms=500,
                curve=None if keyring is None else keyring.client_of(LEARNER),
            )
            self._delivery = Delivery(context, learner, AGENT_MOST_BYTES)
        # Between steps nobody waits for beacons: they stay where they are, which saves K wake-ups.
        self._idle_poller = zmq.Poller()
        self._watch(self._idle_poller)
        for poller in (self._poller, self._idle_poller):
            poller.register(self._world.socket, zmq.POLLIN)
        self._answer: wire.Action | wire.Gates | None = None
        """What the world was told last."""
        self._deadline: float | None = None

    # --- start ------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Say hello, open the edges, then act until stopped."""
        self._hello()
        self._edges.connect(self._await_address_book())
        for socket in self._edges.out_sockets:
            self._poller.register(socket, zmq.POLLIN)
        self._await_neighbours()
        self._ready()
        while True:
            self._turn()

    def _await_address_book(self) -> tuple[str, ...]:
        while True:
            self._wait(None)
            for packet in self._take_control():
                if isinstance(packet, wire.AddressBook):
                    return packet.endpoints
                self._carry_out(self._core.handle(packet))

    def _await_neighbours(self) -> None:
        """Wait until every out-neighbour has answered our greeting.

        A first incarnation also waits until every in-neighbour has said hello; a later one does
        not, because its neighbours reconnect by themselves and have nothing new to say. Nor does it
        wait for ever: a neighbour's host may be gone, and the run goes on without it.
        """
        edges, is_first = self._edges, self._setup.incarnation == 0
        patience_s = float("inf") if is_first else max(self._peer_timeout_s, GREET_PERIOD_S)
        give_up_at = time.monotonic() + patience_s
        while edges.unwelcomed or (is_first and not edges.all_in_neighbours_greeted):
            now_s = time.monotonic()
            if now_s >= give_up_at:
                logger.warning("going on without an answer from agents %s", edges.unwelcomed)
                return
            self._wait(min(edges.greet(now_s), give_up_at - now_s, GREET_PERIOD_S))
            for k in range(len(edges.out_sockets)):
                for beacon in edges.drain_beacons(k):
                    self._carry_out(self._core.handle(beacon))
            self._take_inbox()
            self._obey_node()

    # --- the run ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for something to happen and deal with it."""
        now_s = time.monotonic()
        if now_s >= self._report_at:
            self._report_at = now_s + REPORT_PERIOD_S
            self._report()
            self._edges.greet(now_s)
            if self._delivery is not None:
                self._delivery.turn()
        wake_at = min(self._report_at, self._deadline or self._report_at)
        poller = self._poller if self._core.waits_for_peers else self._idle_poller
        ready = self._wait(max(wake_at - now_s, 0.0), poller)
        # With an observation at hand, the packets that its step needs are mostly here as well:
        # taking them first saves a wake-up for each, and beacons that nobody waits for do not pile
        # up.
        steps = self._world.socket in ready
        if steps or self._edges.inbox_socket in ready:
            self._take_inbox()
        for k, socket in enumerate(self._edges.out_sockets):
            if steps or socket in ready:
                beacon = self._edges.take_beacon(k)
                if beacon is not None:
                    self._carry_out(self._core.handle(beacon))
        if steps:
            for packet in self._world.drain(wire.Observation, wire.InMask):
                assert isinstance(packet, (wire.Observation, wire.InMask))
                self._obey_world(packet)
        if self._node.socket in ready:
            self._obey_node()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            logger.warning("tick %d: packets under way did not arrive", self._core.tick)
            self._carry_out(self._core.handle(PeersLate()))

    def _obey_world(self, packet: wire.Observation | wire.InMask) -> None:
        answer = self._answer
        if answer is not None and packet.tick == answer.tick and self._is_answered(packet):
            # It asks again because our connection is new: the answer may have died with the old.
            self._world.send(answer)
        else:
            self._carry_out(self._core.handle(packet))

    def _is_answered(self, packet: wire.Observation | wire.InMask) -> bool:
        return isinstance(packet, wire.Observation) or isinstance(self._answer, wire.Action)

    def _take_inbox(self) -> None:
        for message in self._edges.take_messages():
            self._carry_out(self._core.handle(message))

    def _obey_node(self) -> None:
        for packet in self._take_control():
            if not isinstance(packet, wire.AddressBook):
                self._carry_out(self._core.handle(packet))

    def _carry_out(self, commands: list[Command]) -> None:
        if not commands and self._deadline is not None and self._core.waits_for_peers:
            return  # one packet more, and the step still waits for others
        for command in commands:
            match command:
                case SendMessage():
                    self._edges.send_message(command)
                case SendBeacon():
                    self._edges.send_beacon(command)
                case ToWorld():
                    self._answer = command.packet
                    self._world.send(command.packet)
                case ToLearner():
                    if self._delivery is not None:
                        self._delivery.send(command.packet)
                        self._traffic.add("trajectories_sent")
                case ToNode():
                    self._node.send(command.packet)
                case Dropped():
                    self._traffic.dropped(command.reason)
        waits = self._core.waits_for_peers
        if not waits:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = time.monotonic() + self._peer_timeout_s

    def close(self) -> None:
        self._world.close()
        if self._delivery is not None:
            self._delivery.close()
        super().close()
