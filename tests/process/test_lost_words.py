"""An observation or an action dies with its connection: the world asks again, the agent answers.

A connection that breaks takes along what was under way, and neither end is told what that was.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import zmq

from runtime.net import wire
from runtime.net.security import Gatekeeper, KeyPair, Keyring
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, STEP, WORLD, Channel, Hub, agent_routing_id
from runtime.terminal.processes import ONE_THREAD, spawn
from runtime.world import process as world_host
from runtime.world.process import WorldSetup
from tests.agents_helpers import make_rules, observation
from tests.process.runs import run_config, wait_for
from tests.process.test_agent_start import AGENT, Beginning

pytestmark = [pytest.mark.process]

T = TypeVar("T")
PATIENCE_S = 10.0
"""Less than the world waits for an action before it goes on without it (step_timeout_s)."""


class Theatre:
    """A world with two agents; launcher and agents are played by the test."""

    def __init__(self, logs: Path, *, step_timeout_s: float = 20.0) -> None:
        names = (LAUNCHER, WORLD, "agent-0", "agent-1")
        self.keys = {name: KeyPair.generate() for name in names}
        self.public = {name: pair.public for name, pair in self.keys.items()}
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.gatekeeper = Gatekeeper(self.context)
        self.gatekeeper.admit(LAUNCHER, {WORLD: self.public[WORLD]})
        server = self.keyring(LAUNCHER).server(LAUNCHER)
        self.launcher = Hub(
            self.context, "tcp://127.0.0.1:*", Traffic(), CONTROL, linger_ms=500, curve=server
        )
        config = run_config("relay", 2, copies=1)
        runtime = dataclasses.replace(config.runtime, step_timeout_s=step_timeout_s)
        config = dataclasses.replace(config, runtime=runtime)
        setup = WorldSetup(
            config=config,
            ships="none",
            train_steps=1000,
            env_steps=0,
            episodes=0,
            launcher_endpoint=self.launcher.endpoint,
            learner_endpoint="",
            bind_endpoint="tcp://127.0.0.1:*",
            keyring=self.keyring(WORLD),
            logs=logs,
        )
        self._process = spawn(world_host.main, setup, "murmuration world", ONE_THREAD)
        (hello,) = self.wait(lambda: [p for _, p in self.launcher.drain(wire.Hello)])
        assert isinstance(hello, wire.Hello)
        self.endpoint = hello.endpoint
        self._figures: Mapping[str, float] = {}

    def keyring(self, name: str) -> Keyring:
        return Keyring(name, self.keys[name], self.public)

    def enter(self, agent: int) -> Channel:
        """A connection of an agent to the world, which stands."""
        name = agent_routing_id(agent)
        curve = self.keyring(name.decode()).client_of(WORLD)
        channel = Channel(self.context, self.endpoint, name, Traffic(), STEP, curve=curve)
        wait_for("a connection", lambda: channel.is_writable, PATIENCE_S)
        return channel

    def tell(self, packet: wire.Packet) -> None:
        self.launcher.send(WORLD.encode(), packet)

    def figures(self) -> Mapping[str, float]:
        """The world's newest report."""
        for _, packet in self.launcher.drain(wire.Status, wire.WorldState):
            if isinstance(packet, wire.Status):
                self._figures = packet.values
        return self._figures

    def wait(self, look: Callable[[], list[T]]) -> list[T]:
        return wait_for("an answer", look, PATIENCE_S)

    def close(self) -> None:
        self.tell(wire.Stop("end of the test"))
        self._process.join(PATIENCE_S)
        assert self._process.exitcode == 0
        self.launcher.close()
        self.gatekeeper.close()
        self.context.term()


def observations(channel: Channel) -> list[wire.Packet]:
    return list(channel.drain(wire.Observation))


def test_the_world_tells_again_what_may_have_died_with_a_connection(tmp_path: Path) -> None:
    theatre = Theatre(tmp_path)
    first, other = theatre.enter(0), theatre.enter(1)
    again: Channel | None = None
    try:
        for agent in (0, 1):
            theatre.tell(wire.AgentState(agent, 0, 1))
        theatre.tell(wire.Instruction("start"))
        (told,) = theatre.wait(lambda: observations(first))
        assert isinstance(told, wire.Observation)
        first.close()  # before it could answer
        again = theatre.enter(0)
        (repeated,) = theatre.wait(lambda: observations(again))
        assert isinstance(repeated, wire.Observation)
        assert repeated.tick == told.tick
        np.testing.assert_array_equal(repeated.observations, told.observations)
        assert len(theatre.wait(lambda: observations(other))) == 1, "its connection still stands"
    finally:
        for channel in (first, other, again):
            if channel is not None:
                channel.close()
        theatre.close()


def test_a_keyed_agent_that_says_nonsense_costs_one_deadline_and_is_counted(
    tmp_path: Path,
) -> None:
    theatre = Theatre(tmp_path, step_timeout_s=0.3)
    honest, liar = theatre.enter(0), theatre.enter(1)
    one = np.ones(1, np.uint8)
    ticks = 20

    def play() -> list[float]:
        """The honest agent answers; the other one talks nonsense each time it is told something."""
        for told in observations(liar):
            assert isinstance(told, wire.Observation)
            two = np.zeros(2, np.uint16)
            for tick in (told.tick, told.tick - 1):
                assert liar.send(wire.Action(tick, 1, np.zeros(2, np.uint8), two, one))
        for told in observations(honest):
            assert isinstance(told, wire.Observation)
            assert honest.send(wire.Action(told.tick, 1, 0 * one, np.zeros(1, np.uint16), 0 * one))
        return (
            [figures["missed_deadlines"]]
            if (figures := theatre.figures()).get("tick", 0) >= ticks
            else []
        )

    try:
        for agent in (0, 1):
            theatre.tell(wire.AgentState(agent, 0, 1))
        theatre.tell(wire.Instruction("start"))
        assert theatre.wait(play) == [1.0]
        theatre.wait(lambda: [True] if play() and theatre.figures()["dropped"] >= 2 * ticks else [])
    finally:
        for channel in (honest, liar):
            channel.close()
        theatre.close()


def test_an_agent_that_is_asked_again_gives_the_same_answer_again(tmp_path: Path) -> None:
    beginning = Beginning(tmp_path, incarnation=1)  # which goes on without its neighbour
    world = Hub(beginning.context, f"ipc://{tmp_path}/world", Traffic(), STEP)
    rules = make_rules(num_agents=2)

    def actions() -> list[wire.Action]:
        beginning.turn()
        found = [packet for _, packet in world.drain(wire.Action)]
        return [action for action in found if isinstance(action, wire.Action)]

    def ask(tick: int) -> wire.Action:
        question = observation(rules, tick, explore=True, epsilon=1.0)
        wait_for("a connection", lambda: world.send(agent_routing_id(AGENT), question), PATIENCE_S)
        (action,) = wait_for(f"an answer to tick {tick}", actions, PATIENCE_S)
        return action

    try:
        wait_for("the agent to be ready", beginning.turn, 20.0)
        for tick in (1, 2, 3):
            answer, repeated = ask(tick), ask(tick)
            assert repeated.tick == answer.tick == tick
            np.testing.assert_array_equal(repeated.actions, answer.actions)
            np.testing.assert_array_equal(repeated.out_masks, answer.out_masks)
    finally:
        world.close()
        beginning.close()
