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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import zmq

from agents.events import (
    Command,
    Dropped,
    Greeted,
    PeersLate,
    SendBeacon,
    SendMessage,
    ToLearner,
    ToNode,
    ToWorld,
)
from agents.process import shell
from agents.process.edges import GREET_PERIOD_S
from agents.process.setup import ShellSetup
from agents.process.shell import Context, Shell
from runtime.net import wire
from runtime.net.delivery import AGENT_MOST_BYTES, Delivery
from runtime.net.transport import LEARNER, STEP, TRAJECTORIES, WORLD, Channel, agent_routing_id

logger = logging.getLogger(__name__)

_MOST_POLLERS = 256


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
        self._poller.register(self._world.socket, zmq.POLLIN)
        self._pollers: dict[tuple[int, int], zmq.Poller] = {}
        """By what a step waits for. Whatever else comes stays where it is until it is wanted, which
        saves a wake-up for each."""
        self._ways: Mapping[type[Command], Callable[[Any], None]] = {
            SendMessage: self._edges.send_message,
            SendBeacon: self._edges.send_beacon,
            ToWorld: self._tell_world,
            ToLearner: self._deliver,
            ToNode: self._tell_node,
            Dropped: self._count_dropped,
        }
        """How each kind of command is carried out."""
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
            ready = self._wait(min(edges.greet(now_s), give_up_at - now_s, GREET_PERIOD_S))
            # Nothing but what is ready: a thousand agents that look everywhere each time one
            # neighbour has come are what the start of a run would mostly consist of.
            if edges.inbox_socket in ready:
                self._take_inbox()
            for k, socket in enumerate(edges.out_sockets):
                if socket in ready:
                    for beacon in edges.drain_beacons(k):
                        self._carry_out(self._core.handle(beacon))
            if self._node.socket in ready:
                self._obey_node()

    # --- the run ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for something to happen and deal with it."""
        now_s = time.monotonic()
        if now_s >= self._report_at:
            self._report_at = now_s + self._report_period_s
            self._report()
            self._take_all()  # greetings among them
            self._edges.greet(now_s)
            if self._delivery is not None:
                self._delivery.turn()
        wake_at = min(self._report_at, self._deadline or self._report_at)
        ready = self._wait(max(wake_at - now_s, 0.0), self._poller_of(*self._core.missing))
        if self._world.socket in ready:
            packet = self._world.take(wire.Observation, wire.InMask, wire.PolicyDue)
            if isinstance(packet, wire.PolicyDue):
                self._carry_out(self._core.handle(packet))
            elif packet is not None:
                assert isinstance(packet, (wire.Observation, wire.InMask))
                self._obey_world(packet)
                if self._core.has_unheard:
                    self._take_all()
        if self._core.waits_for_peers:
            self._take_missing()
        if self._node.socket in ready:
            self._obey_node()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            tick = self._core.tick
            self._carry_out(self._core.handle(PeersLate()))
            logger.warning("tick %d: packets under way did not arrive", tick)

    def _poller_of(self, messages: int, beacons: int) -> zmq.Poller:
        """What to wait on while these are missing: always the world and the node."""
        poller = self._pollers.get((messages != 0, beacons))
        if poller is None:
            poller = zmq.Poller()
            self._watch(poller, inbox=messages != 0)
            poller.register(self._world.socket, zmq.POLLIN)
            for k, socket in enumerate(self._edges.out_sockets):
                if beacons >> k & 1:
                    poller.register(socket, zmq.POLLIN)
            if len(self._pollers) >= _MOST_POLLERS:
                self._pollers.clear()
            self._pollers[messages != 0, beacons] = poller
        return poller

    def _take_missing(self) -> None:
        """Take the packets that the step waits for, as far as they are here.

        In most steps all are: every peer has sent them before the world let us go on.
        """
        core, edges = self._core, self._edges
        messages, beacons = core.missing
        while messages:
            message = edges.take_message()
            if message is None:
                break
            if commands := core.handle(message):
                self._carry_out(commands)
            messages, beacons = core.missing
        self._welcome_newcomers()
        k = 0
        while beacons >> k:
            beacon = edges.take_beacon(k) if beacons >> k & 1 else None
            if beacon is None:
                k += 1
                continue
            if commands := core.handle(beacon):
                self._carry_out(commands)
            _, beacons = core.missing

    def _take_all(self) -> None:
        """Take everything that is here, wanted or not."""
        self._take_inbox()
        for k in self._edges.open_edges:
            for beacon in self._edges.drain_beacons(k):
                self._carry_out(self._core.handle(beacon))

    def _obey_world(self, packet: wire.Observation | wire.InMask) -> None:
        answer = self._answer
        if answer is not None and packet.tick == answer.tick and self._is_answered(packet):
            # It asks again because our connection is new: the answer may have died with the old.
            self._world.offer(answer)
        else:
            self._carry_out(self._core.handle(packet))

    def _is_answered(self, packet: wire.Observation | wire.InMask) -> bool:
        return isinstance(packet, wire.Observation) or isinstance(self._answer, wire.Action)

    def _take_inbox(self) -> None:
        for message in self._edges.take_messages():
            self._carry_out(self._core.handle(message))
        self._welcome_newcomers()

    def _welcome_newcomers(self) -> None:
        if self._edges.take_newcomers():
            self._carry_out(self._core.handle(Greeted()))

    def _obey_node(self) -> None:
        for packet in self._take_control():
            if isinstance(packet, wire.AddressBook):
                self._edges.move(packet.endpoints)
            else:
                self._carry_out(self._core.handle(packet))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self._ways[type(command)](command)
        if not self._core.waits_for_peers:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = time.monotonic() + self._peer_timeout_s

    def _tell_world(self, command: ToWorld) -> None:
        self._answer = command.packet
        # Nothing is lost where it cannot be reached: it asks again, or the run has ended.
        self._world.offer(command.packet)

    def _deliver(self, command: ToLearner) -> None:
        if self._delivery is not None:
            self._delivery.send(command.packet)
            self._traffic.add("trajectories_sent")

    def _tell_node(self, command: ToNode) -> None:
        self._node.send(command.packet)

    def _count_dropped(self, command: Dropped) -> None:
        self._traffic.dropped(command.reason)

    def close(self) -> None:
        self._world.close()
        if self._delivery is not None:
            self._delivery.close()
        super().close()
