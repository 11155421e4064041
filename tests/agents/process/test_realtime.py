"""An agent that never waits: with everything in time it does what lock-step does, to the bit."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from agents.comm.said_beacon import REPEAT_TICKS
from agents.core import AgentCore
from agents.events import Command, Greeted, Renumbered, SendBeacon, SendMessage, ToLearner
from agents.parameters import ParameterStore
from agents.policy import views
from agents.rules import AgentRules
from configs.arrays import FloatArray
from configs.schema import GateMode
from envs.base import Env
from envs.copies import Copies
from envs.relay import Relay
from runtime.net import topology, wire
from runtime.net.ticks import MODULUS
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.agents_helpers import (
    acted,
    beacon,
    beacons_of,
    edges_of,
    in_neighbour,
    make_agent,
    make_flat,
    make_spec,
    message,
    messages_of,
    observation,
    out_neighbour,
    reasons_of,
)
from tests.world_helpers import ScriptedEnv

MIXED = {"relay": -2.0, "scripted": 0.0}
"""By environment a bias of the scorer with which some edges open and some stay shut."""
FIRST_TICK = 1


def realtime(rules: AgentRules, max_age: int = 1) -> AgentRules:
    return replace(rules, realtime=True, max_message_age_steps=max_age)


LOCKSTEP = agents_helpers.make_rules()
ONE = realtime(LOCKSTEP)
THREE = realtime(LOCKSTEP, max_age=3)


# --- the same as lock-step ------------------------------------------------------------------------


class LockStep:
    """Episodes by the world, and what every agent was handed in each of their ticks."""

    def __init__(self, envs: Sequence[Env], mode: GateMode, episodes: int) -> None:
        task = envs[0].spec
        spec = make_spec(observation_dim=task.observation_dim, num_actions=task.num_actions)
        self.rules = agents_helpers.make_rules(
            num_agents=task.num_agents,
            copies=len(envs),
            spec=spec,
            mode=mode,
            ships="all",
            record_q=True,
        )
        self.flat = make_flat(spec, score_bias=MIXED[task.name])
        self.observations: dict[int, dict[int, wire.Observation]] = {}
        self.messages = 0

        def tap(agent: int, packet: wire.Packet) -> bool:
            if isinstance(packet, wire.Observation):
                self.observations.setdefault(packet.tick, {})[agent] = packet
            self.messages += isinstance(packet, wire.Message)
            return False

        run = SerialRun(
            Copies(envs, 0), self.rules, self.flat, world_helpers.make_rules(), lose=tap
        )
        run.evaluate(episodes)
        self.trajectories = run.trajectories


class RealTime:
    """The same cores without a world: what one says, the others hear, and nobody knows of it."""

    def __init__(self, rules: AgentRules, flat: FloatArray, seed: int) -> None:
        self.agents: list[AgentCore] = [
            AgentCore(agent, rules, ParameterStore(flat, 1), np.random.default_rng(agent))
            for agent in range(rules.num_agents)
        ]
        self.trajectories: list[wire.Trajectory] = []
        self.messages = 0
        self._rng = np.random.default_rng(seed)

    def tick(self, observations: dict[int, wire.Observation], shift: int) -> None:
        """One moment: agents act in any order, and some are heard before others have acted."""
        held: list[tuple[int, list[Command]]] = []
        order: list[int] = self._rng.permutation(len(self.agents)).tolist()
        for agent in order:
            seen = observations[agent]
            tick = (seen.tick + shift) % MODULUS
            nothing = np.zeros_like(seen.in_masks)
            seen = replace(seen, tick=tick, in_masks=nothing, beacon_masks=nothing)
            commands = self.agents[agent].handle(seen)
            acted(commands)
            if self._rng.random() < 0.5:
                self._deliver(agent, commands)
            else:
                held.append((agent, commands))
        for agent, commands in held:
            self._deliver(agent, commands)

    def _deliver(self, agent: int, commands: list[Command]) -> None:
        num_agents = len(self.agents)
        for command in commands:
            match command:
                case SendMessage():
                    message = wire.Message(agent, command.tick, 0, command.copies, command.rows)
                    for k in command.edges:
                        self.messages += 1
                        self._hand(topology.out_neighbours(agent, num_agents)[k], message)
                case SendBeacon():
                    beacon = wire.Beacon(agent, command.tick, 0, command.copies, command.rows)
                    for peer in topology.in_neighbours(agent, num_agents):
                        self._hand(peer, beacon)
                case ToLearner():
                    self.trajectories.append(command.packet)
                case _:
                    pass

    def _hand(self, agent: int, packet: wire.Message | wire.Beacon) -> None:
        event = wire.decode(wire.encode(packet))
        assert isinstance(event, (wire.Message, wire.Beacon))
        assert self.agents[agent].handle(event) == []


def by_name(trajectories: list[wire.Trajectory]) -> dict[tuple[int, int], wire.Trajectory]:
    return {(part.episode, part.agent): part for part in trajectories}


def make_envs(name: str) -> Sequence[Env]:
    if name == "relay":
        return [Relay(16)]
    return [ScriptedEnv(5, 3, deaths={0: [1], 2: [3, 4]}), ScriptedEnv(4)]


@pytest.mark.parametrize("env", ["relay", "copies with deaths"])
@pytest.mark.parametrize("mode", ["learned", "closed"])
@pytest.mark.parametrize("shift", [0, -5], ids=["", "numbers wrap"])
def test_in_time_it_does_what_lock_step_does(env: str, mode: GateMode, shift: int) -> None:
    world = LockStep(make_envs(env), mode, episodes=6)
    ours = RealTime(realtime(world.rules), world.flat, seed=3)
    for tick in sorted(world.observations):
        ours.tick(world.observations[tick], shift)
    expected, got = by_name(world.trajectories), by_name(ours.trajectories)
    assert len(expected) > 5 * world.rules.num_agents
    assert expected.keys() == got.keys()
    for name, part in expected.items():
        assert_array_equal(got[name].observations, part.observations)
        assert_array_equal(got[name].actions, part.actions)
        assert_array_equal(got[name].columns["gates"], part.columns["gates"])
        # On some processors a product of matrices depends on where they lie in memory.
        q_values = part.columns["q_values"]
        assert_allclose(got[name].columns["q_values"], q_values, rtol=1e-6, atol=1e-6)
    assert ours.messages == world.messages
    gates = np.concatenate([part.columns["gates"] for part in expected.values()])
    assert len(np.unique(gates)) > (3 if mode == "learned" else 0), "gates must open and close"
    assert all(core.tally.late == 0 for core in ours.agents)


def test_with_an_open_gate_it_is_the_same_as_well() -> None:
    world = LockStep(make_envs("relay"), "open", episodes=3)
    ours = RealTime(realtime(world.rules), world.flat, seed=4)
    for tick in sorted(world.observations):
        ours.tick(world.observations[tick], 0)
    expected = by_name(world.trajectories)
    for name, part in by_name(ours.trajectories).items():
        assert_array_equal(part.columns["q_values"], expected[name].columns["q_values"])
        assert_array_equal(part.columns["gates"], expected[name].columns["gates"])


# --- nobody waits ---------------------------------------------------------------------------------


def played(rules: AgentRules, ticks: int) -> AgentCore:
    """An agent that has acted up to a tick, hearing nobody."""
    agent = make_agent(rules)
    for tick in range(FIRST_TICK, ticks + 1):
        acted(agent.handle(observation(rules, tick)))
    return agent


def unmoved(rules: AgentRules) -> FloatArray:
    """A policy whose beacon is always the same, and not zero."""
    flat = make_flat(rules.spec, score_bias=agents_helpers.OPEN_ALL)
    tensors = views(rules.spec, flat)
    tensors["beacon.weight"][...] = 0.0
    tensors["beacon.bias"][...] = 0.5
    return flat


def said(rules: AgentRules, agent: AgentCore, tick: int, *, step: int | None = None) -> bytes:
    """The message of a step, which depends on all that the step has used."""
    commands = agent.handle(observation(rules, tick, steps=step))
    acted(commands)
    return b"".join(command.rows.tobytes() for command in messages_of(commands))


ALWAYS = realtime(agents_helpers.make_rules(mode="open"))
ALWAYS_THREE = realtime(agents_helpers.make_rules(mode="open"), max_age=3)


def test_an_observation_is_answered_at_once_whatever_the_world_would_say() -> None:
    agent = make_agent(ONE)
    for tick in range(1, 5):
        acted(agent.handle(observation(ONE, tick, heard=0b111, beacons=0b111)))
        assert not agent.waits_for_peers


def test_a_message_in_time_is_used_and_without_one_its_edge_is_closed() -> None:
    def next_message(*ticks_heard: int) -> bytes:
        agent = played(ALWAYS, 4)
        for tick in ticks_heard:
            agent.handle(message(ALWAYS, in_neighbour(1), tick))
        return said(ALWAYS, agent, 5)

    assert next_message(4) != next_message()
    assert next_message(5) == next_message(), "what is sent at 5 is for step 6"


def test_an_edge_is_open_until_two_repeats_of_its_beacon_have_not_come() -> None:
    agent = played(ONE, 4)
    assert edges_of(agent.handle(observation(ONE, 5))) == set()
    agent.handle(beacon(ONE, out_neighbour(2), 5))
    last = 5 + 2 * REPEAT_TICKS + 1
    for tick in range(6, last + 1):
        assert edges_of(agent.handle(observation(ONE, tick))) == {2}
    assert edges_of(agent.handle(observation(ONE, last + 1))) == set()


def test_a_neighbour_that_says_it_has_gone_is_believed_at_once() -> None:
    agent = played(ONE, 4)
    agent.handle(beacon(ONE, out_neighbour(2), 4))
    assert edges_of(agent.handle(observation(ONE, 5))) == {2}
    agent.handle(beacon(ONE, out_neighbour(2), 5, copies=[False]))
    assert edges_of(agent.handle(observation(ONE, 6))) == set()


def test_a_beacon_is_said_again_now_and_then_and_to_whoever_comes_new() -> None:
    agent = make_agent(ONE, flat=unmoved(ONE))
    said_at = [tick for tick in range(1, 14) if beacons_of(agent.handle(observation(ONE, tick)))]
    assert said_at == [1, 5, 9, 13]
    agent.handle(Greeted())
    assert beacons_of(agent.handle(observation(ONE, 14)))
    assert not beacons_of(agent.handle(observation(ONE, 15)))


def test_an_agent_says_once_that_it_has_gone() -> None:
    agent = make_agent(ONE, flat=unmoved(ONE))
    assert beacons_of(agent.handle(observation(ONE, 1)))
    (gone,) = beacons_of(agent.handle(observation(ONE, 2, alive=False)))
    assert (gone.copies.tolist(), len(gone.rows)) == ([0], 0)
    for tick in range(3, 12):
        assert not beacons_of(agent.handle(observation(ONE, tick, alive=False)))


def test_an_older_message_is_used_while_its_age_allows() -> None:
    def next_message(tick_heard: int | None) -> bytes:
        agent = played(ALWAYS_THREE, 7)
        if tick_heard is not None:
            agent.handle(message(ALWAYS_THREE, in_neighbour(0), tick_heard))
        return said(ALWAYS_THREE, agent, 8)

    assert next_message(7) == next_message(6) == next_message(5) != next_message(None)
    assert next_message(4) == next_message(None)


def test_a_neighbour_that_is_ahead_is_heard_in_its_turn() -> None:
    def course(order: Sequence[int]) -> list[bytes]:
        agent = played(ALWAYS, 4)
        for tick in order:
            assert agent.handle(message(ALWAYS, in_neighbour(0), tick, value=0.1 * tick)) == []
        return [said(ALWAYS, agent, tick) for tick in (5, 6)]

    # A tick ahead: its message of 5 is here before we have played 5, where that of 4 counts.
    assert course([4, 5]) == course([5, 4])
    assert len(set(course([4, 5]))) == 2


def test_a_message_of_the_episode_before_is_not_used() -> None:
    def next_message(*ticks_heard: int) -> bytes:
        agent = played(ALWAYS_THREE, 7)
        for tick in ticks_heard:
            agent.handle(message(ALWAYS_THREE, in_neighbour(0), tick))
        said(ALWAYS_THREE, agent, 8, step=0)
        return said(ALWAYS_THREE, agent, 9, step=1)

    assert next_message(7) == next_message()
    assert next_message(8) != next_message()


@pytest.mark.parametrize(
    ("tick", "max_age", "reasons", "late"),
    [
        (9, 1, ["future"], 0),
        (8, 1, [], 0),
        (7, 1, [], 0),
        (6, 1, [], 1),
        (5, 1, ["stale"], 1),
        (9, 3, ["future"], 0),
        (6, 3, [], 1),
        (4, 3, [], 1),
        (3, 3, ["stale"], 1),
    ],
)
@pytest.mark.parametrize("make", [message, beacon])
def test_packets_are_late_or_stale_or_of_the_future(
    make: type, tick: int, max_age: int, reasons: list[str], late: int
) -> None:
    rules = realtime(LOCKSTEP, max_age)
    agent = played(rules, 7)
    peer = in_neighbour(0) if make is message else out_neighbour(0)
    if make is beacon and reasons == ["stale"]:
        reasons = []  # an old beacon is better than none
    assert reasons_of(agent.handle(make(rules, peer, tick))) == reasons
    assert agent.tally.late == late


def test_the_second_of_two_equal_packets_is_stale() -> None:
    agent = played(THREE, 5)
    assert agent.handle(message(THREE, in_neighbour(0), 5)) == []
    assert reasons_of(agent.handle(message(THREE, in_neighbour(0), 5))) == ["stale"]


def test_observations_of_the_past_are_refused_until_a_body_numbers_anew() -> None:
    agent = played(ONE, 5)
    assert reasons_of(agent.handle(observation(ONE, 5))) == ["stale"]
    assert reasons_of(agent.handle(observation(ONE, 2))) == ["stale"]
    assert agent.handle(Renumbered()) == []
    acted(agent.handle(observation(ONE, 2)))
    assert reasons_of(agent.handle(message(ONE, in_neighbour(0), 5))) == ["future"]


def test_a_renumbering_forgets_what_was_heard_under_other_numbers() -> None:
    def next_message(heard: bool) -> bytes:
        agent = played(ALWAYS, 5)
        if heard:
            agent.handle(message(ALWAYS, in_neighbour(0), 5))
        agent.handle(Renumbered())
        return said(ALWAYS, agent, 6)

    assert next_message(True) == next_message(False)


def test_the_papers_timing_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"gate\.timing paper needs two exchanges"):
        realtime(agents_helpers.make_rules(timing="paper"))


@pytest.mark.parametrize("max_age", [0, 101])
def test_an_age_out_of_range_is_refused(max_age: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 100, got {max_age}"):
        realtime(LOCKSTEP, max_age)
