"""The agent's process in real time: a body and the clock in front of AgentCore, and nobody waits.

    body ⇄ BodyLink ─┐                     ┌─ Edges ⇄ out- and in-neighbours
    node ⇄ Channel  ─┤  poll → core → send ┤
    wall clock      ─┘                     └─ action → body

Without a rate every observation is a tick, numbered as the body numbers it, and is answered in the
order of arrival. With a rate the wall clock ticks (agents/process/tick_clock.py), and each tick
takes the newest observation; one that brings nothing new is no tick, because a policy has never
seen the same observation twice as two moments, and is counted as missed. An agent acts as soon as
its body speaks; its edges open meanwhile.

A policy that is replaced in place (runtime/host/updates.py) changes between two ticks: the agent
has the new version before the first tick that is acted by it, and keeps its recurrent state.
"""

import logging
import time
from dataclasses import dataclass

import zmq

from agents.events import (
    Command,
    Dropped,
    Greeted,
    Renumbered,
    SendBeacon,
    SendMessage,
    ToLearner,
    ToNode,
    ToWorld,
)
from agents.process import shell
from agents.process.body_link import BodyLink, NewBody, Sensed, as_observation, overtaking
from agents.process.setup import ShellSetup
from agents.process.shell import Context, Shell
from agents.process.tick_clock import TickClock
from runtime.net import ticks, wire

logger = logging.getLogger(__name__)

_POLL_S = 0.001
"""Grain of a poll's timeout; what is left until a tick after the last whole one is slept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployedAgentSetup(ShellSetup):
    """All that a deployed agent is told."""

    body_endpoint: str
    """Where it waits for its body: ipc, or tcp over loopback."""
    rate_hz: float
    """Ticks a second; 0.0 ticks on each observation."""

    def __post_init__(self) -> None:
        if not self.rules.realtime or self.rules.copies != 1:
            raise ValueError("a deployed agent plays one copy in real time")
        if not 0.0 <= self.rate_hz <= 1000.0:
            raise ValueError(f"rate-hz must be between 0 and 1000, got {self.rate_hz}")


def main(setup: DeployedAgentSetup) -> None:
    """Run one deployed agent until it is told to stop. Entry point of the process."""
    shell.run(setup, DeployedAgent)


class DeployedAgent(Shell):
    """Moves packets between body, neighbours and core."""

    def __init__(self, setup: DeployedAgentSetup, context: Context) -> None:
        super().__init__(setup, context)
        self._body = BodyLink(
            context,
            setup.body_endpoint,
            setup.identity,
            setup.rules.spec,
            setup.rate_hz,
            self._traffic,
        )
        self._action_latency = self._body.latency
        self._edge_bits = setup.rules.graph.edge_bits
        self._poller.register(self._body.socket, zmq.POLLIN)
        self._clock = TickClock(setup.rate_hz, time.time()) if setup.rate_hz else None
        self._newest: Sensed | None = None
        """What the next tick of the clock will take."""
        self._answering: Sensed
        self._switch: wire.PolicySwitch | None = None
        """Which version comes next, and from which tick on it holds."""
        self._held: wire.AgentParameters | None = None
        """That version, until then."""
        self._steps = 0
        """Since the episode began, or since we did."""

    def serve(self) -> None:
        self._hello()
        while True:
            self._turn()

    def _turn(self) -> None:
        """Wait for something to happen and deal with it."""
        now_s = time.monotonic()
        if now_s >= self._report_at:
            self._report_at = now_s + self._report_period_s
            self._report()
            self._edges.greet(now_s)
        ready = self._wait_for_next(max(self._report_at - now_s, 0.0))
        # What neighbours have said comes before what the body says: its step may need it.
        if self._edges.inbox_socket in ready:
            for message in self._edges.take_messages():
                self._carry_out(self._core.handle(message))
            if self._edges.take_newcomers():
                self._carry_out(self._core.handle(Greeted()))
        for k, socket in enumerate(self._edges.out_sockets):
            if socket in ready:
                for beacon in self._edges.drain_beacons(k):
                    self._carry_out(self._core.handle(beacon))
        if self._node.socket in ready:
            self._obey_node()
        if self._body.socket in ready:
            for news in self._body.take():
                self._heed(news)
        if self._clock is not None:
            self._tick(self._clock)

    def _wait_for_next(self, timeout_s: float) -> set[object]:
        """Sockets that have something, or none when it is time for a tick or a report."""
        if self._clock is None:
            return self._wait(timeout_s)
        left_s = min(timeout_s, self._clock.seconds_left(time.time()))
        if left_s < _POLL_S:
            time.sleep(left_s)
        return self._wait(left_s - _POLL_S)

    def _obey_node(self) -> None:
        for packet in self._take_control():
            if not isinstance(packet, wire.AddressBook):
                self._take_version(packet)
            elif not self._edges.out_sockets:
                self._edges.connect(packet.endpoints)
                for socket in self._edges.out_sockets:
                    self._poller.register(socket, zmq.POLLIN)
                self._edges.greet(time.monotonic())
                self._ready()

    def _prepare_switch(self, switch: wire.PolicySwitch) -> None:
        self._switch, self._held = switch, None

    def _take_version(self, packet: wire.AgentParameters) -> None:
        """Take a version up, or keep it until its tick."""
        switch = self._switch
        if switch is None or packet.version != switch.version:
            self._carry_out(self._core.handle(packet))
        elif switch.waits and self._clock is not None:
            self._held = packet
        else:
            self._take_up(packet)

    def _take_up(self, packet: wire.AgentParameters) -> None:
        """Have the next step be the first by this version."""
        self._switch = self._held = None
        self._parameters.expect(packet.version)
        self._carry_out(self._core.handle(packet))
        self._report_at = 0.0  # somebody waits to hear of it
        logger.info("policy version %d from now on", self._parameters.version)

    def _heed(self, news: Sensed | NewBody) -> None:
        if isinstance(news, NewBody):
            self._newest = None
            if self._clock is None:
                self._carry_out(self._core.handle(Renumbered()))
        elif self._clock is None:
            self._step(news, news.packet.step)
        else:
            self._newest = overtaking(self._newest, news)

    def _tick(self, clock: TickClock) -> None:
        tick = clock.take(time.time())
        if tick is None:
            return
        if tick.was_put_back:
            logger.warning("the clock was put back: ticks are numbered anew from %d", tick.number)
            self._carry_out(self._core.handle(Renumbered()))
        if self._held is not None:
            assert self._switch is not None
            if ticks.ahead(tick.number, self._switch.tick) >= 0:
                self._take_up(self._held)
        newest, self._newest = self._newest, None
        if self._body.is_embodied:
            self._traffic.add("ticks_missed", tick.missed + (newest is None))
        if newest is not None:
            self._step(newest, tick.number)

    def _step(self, sensed: Sensed, tick: int) -> None:
        self._steps = 0 if sensed.packet.flags & wire.FIRST else self._steps + 1
        self._answering = sensed
        observation = as_observation(sensed.packet, tick, self._steps, self._edge_bits)
        self._carry_out(self._core.handle(observation))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case SendMessage():
                    self._edges.send_message(command)
                case SendBeacon():
                    self._edges.send_beacon(command)
                case ToWorld(packet=wire.Action() as action):
                    self._body.act(self._answering, action)
                case ToNode():
                    self._node.send(command.packet)
                case Dropped():
                    self._traffic.dropped(command.reason)
                case ToWorld() | ToLearner():
                    raise AssertionError(f"there is neither world nor learner: {command}")

    def close(self) -> None:
        self._body.close()
        super().close()
