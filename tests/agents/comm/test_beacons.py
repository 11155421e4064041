"""A beacon is said when it is news, and what was heard last holds until then."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.core import AgentCore
from agents.events import Greeted, PeersLate, SendBeacon
from agents.policy import views
from agents.rules import AgentRules
from configs.arrays import FloatArray
from runtime.net import wire
from tests.agents_helpers import (
    EVERYONE,
    OPEN_ALL,
    SPEC,
    acted,
    beacon,
    beacons_of,
    edges_of,
    make_agent,
    make_flat,
    make_rules,
    make_spec,
    observation,
    out_neighbour,
)

RULES = make_rules()
THREE_COPIES = make_rules(copies=3)


def course(rules: AgentRules, steps: int, flat: FloatArray | None = None) -> list[FloatArray]:
    """[Z] of each step the beacon by the network, whatever is said of it."""
    every = make_rules(spec=rules.spec, timing="paper")  # says one in every step
    agent = make_agent(every, flat=flat)
    return [
        only(agent, observation(every, tick)).rows[0].astype(np.float32) / 127.0
        for tick in range(1, steps + 1)
    ]


def only(agent: AgentCore, now: wire.Observation) -> SendBeacon:
    commands = agent.handle(now)
    agent.handle(wire.InMask(now.tick, np.zeros(1, np.uint16)))
    (said,) = beacons_of(commands)
    return said


def says(agent: AgentCore, now: wire.Observation) -> list[bool]:
    """By copy, whether a beacon goes out; the action must tell the world the same."""
    commands = agent.handle(now)
    told = np.unpackbits(acted(commands).beacons, count=len(now.steps), bitorder="little")
    sent = np.zeros_like(told)
    for command in beacons_of(commands):
        sent |= np.unpackbits(command.copies, count=len(now.steps), bitorder="little")
        assert len(command.rows) == sent.sum()
    assert_array_equal(told, sent)
    return sent.astype(bool).tolist()


def unmoved(rules: AgentRules = RULES) -> FloatArray:
    """A policy whose beacon is always the same, and not zero."""
    flat = make_flat(rules.spec, score_bias=OPEN_ALL)
    tensors = views(rules.spec, flat)
    tensors["beacon.weight"][...] = 0.0
    tensors["beacon.bias"][...] = 0.5
    return flat


def receiver_of(value: float) -> FloatArray:
    """A policy that opens an edge if and only if the receiver's beacon is above a value."""
    flat = make_flat(score_bias=-(1.0 + value) * SPEC.beacon * SPEC.scorer)
    tensors = views(SPEC, flat)
    tensors["scorer_hidden.weight"][...] = 0.0
    tensors["scorer_hidden.bias"][...] = SPEC.beacon  # what is summed up is never negative
    tensors["scorer_hidden.weight"][:, SPEC.beacon : 2 * SPEC.beacon] = 1.0
    tensors["scorer_out.weight"][...] = 1.0
    return flat


# --- saying ---------------------------------------------------------------------------------------


def test_an_equal_beacon_is_not_said_again() -> None:
    agent = make_agent(flat=unmoved())
    assert [says(agent, observation(RULES, tick)) for tick in range(1, 5)] == [
        [True],
        [False],
        [False],
        [False],
    ]


@pytest.mark.parametrize("delta", [0.0, 0.3, 0.6])
def test_a_beacon_is_said_when_an_entry_has_moved_by_more_than_the_threshold(delta: float) -> None:
    rules = make_rules(spec=make_spec(beacon_delta=delta))
    agent, last, steps = make_agent(rules), np.zeros(SPEC.beacon, np.float32), 30
    expected: list[bool] = []
    for z in course(rules, steps):
        expected.append(bool(np.abs(z - last).max() > delta))
        last = z if expected[-1] else last
    got = [says(agent, observation(rules, tick))[0] for tick in range(1, steps + 1)]
    assert got == expected
    assert any(got)
    assert delta == 0.0 or not all(got)


def test_between_the_steps_of_its_period_an_agent_keeps_its_beacon() -> None:
    rules = make_rules(copies=2, spec=make_spec(beacon_period=3))
    agent = make_agent(rules)
    got = [says(agent, observation(rules, tick, steps=[tick - 1, tick])) for tick in (1, 2, 3)]
    assert got == [[True, True], [False, False], [False, True]]


def test_who_joins_in_the_middle_waits_for_no_period() -> None:
    rules = make_rules(spec=make_spec(beacon_period=3))
    agent = make_agent(rules)
    said = [says(agent, observation(rules, tick, steps=tick - 1))[0] for tick in range(6, 11)]
    assert said == [True, True, False, False, True]


def test_slow_drift_is_measured_against_what_was_said_and_not_against_the_step_before() -> None:
    rules = make_rules(spec=make_spec(beacon_delta=0.3))
    flat = unmoved(rules)
    agent = make_agent(rules, flat=flat)
    tensors = views(rules.spec, flat)
    said: list[bool] = []
    for tick in range(1, 12):
        tensors["beacon.bias"][...] = 0.5 + 0.1 * tick  # tanh moves by less than 0.1 a step
        agent._policy_version = -1  # pyright: ignore[reportPrivateUsage]  # a version a step
        said.append(says(agent, observation(rules, tick))[0])
    assert 2 <= sum(said) < 6


def test_copies_say_their_news_apart() -> None:
    agent, same = make_agent(THREE_COPIES, flat=unmoved(THREE_COPIES)), [3, 3, 3]
    assert says(agent, observation(THREE_COPIES, 1, steps=[0, 0, 0])) == [True] * 3
    assert says(agent, observation(THREE_COPIES, 2, steps=[1, 0, 1])) == [False, True, False]
    dead = [True, True, False]
    assert says(agent, observation(THREE_COPIES, 3, steps=same, alive=dead)) == [False] * 3


def test_an_episode_begins_with_nothing_said() -> None:
    agent = make_agent(flat=unmoved())
    says(agent, observation(RULES, 1))
    assert says(agent, observation(RULES, 2)) == [False]
    assert says(agent, observation(RULES, 3, steps=0, episodes=1)) == [True]


def test_who_joins_in_the_middle_says_its_beacon_whatever_it_is() -> None:
    rules = make_rules(spec=make_spec(beacon_delta=2.0))
    agent = make_agent(rules)
    assert says(agent, observation(rules, 7, steps=6)) == [True]
    assert says(agent, observation(rules, 8, steps=7)) == [False]


def test_a_neighbour_that_comes_new_is_told_what_the_others_know() -> None:
    rules = make_rules(spec=make_spec(beacon_delta=0.3))
    agent, known = make_agent(rules), None
    for tick in range(1, 9):
        for command in beacons_of(agent.handle(observation(rules, tick))):
            known = command.rows
    agent.handle(Greeted())
    moved = course(rules, 9)
    (again,) = beacons_of(agent.handle(observation(rules, 9)))
    assert known is not None
    moves = np.abs(moved[8] - known[0] / 127.0).max() > 0.3
    assert moves or np.array_equal(again.rows, known)


def test_where_packets_get_lost_a_beacon_is_said_in_every_step() -> None:
    lossy = replace(RULES, drop_edges=0.2)
    agent = make_agent(lossy, flat=unmoved())
    assert all(says(agent, observation(lossy, tick))[0] for tick in range(1, 6))


# --- hearing --------------------------------------------------------------------------------------


def hears(agent: AgentCore, tick: int, values: Sequence[float | None]) -> None:
    for k, value in enumerate(values):
        if value is not None:
            assert agent.handle(beacon(RULES, out_neighbour(k), tick, value=value)) == []


def test_what_was_heard_last_holds() -> None:
    agent = make_agent(flat=receiver_of(0.5))
    agent.handle(observation(RULES, 1))
    hears(agent, 1, (1.0, 0.0, 1.0))
    assert edges_of(agent.handle(observation(RULES, 2, beacons=EVERYONE))) == {0, 2}
    assert edges_of(agent.handle(observation(RULES, 3, beacons=0, peers=EVERYONE))) == {0, 2}
    hears(agent, 3, (None, 1.0, 0.0))
    now = observation(RULES, 4, beacons=0b110, peers=EVERYONE)
    assert edges_of(agent.handle(now)) == {0, 1}


def test_silence_of_a_neighbour_that_takes_no_part_closes_its_edge() -> None:
    agent = make_agent(flat=receiver_of(0.5))
    agent.handle(observation(RULES, 1))
    hears(agent, 1, (1.0, 1.0, 1.0))
    agent.handle(observation(RULES, 2, beacons=EVERYONE))
    assert edges_of(agent.handle(observation(RULES, 3, peers=0b101))) == {0, 2}


def test_an_episode_begins_with_beacons_of_zeros() -> None:
    agent = make_agent(flat=receiver_of(-0.5))
    agent.handle(observation(RULES, 1))
    hears(agent, 1, (-1.0, -1.0, -1.0))
    assert edges_of(agent.handle(observation(RULES, 2, beacons=EVERYONE))) == set()
    hears(agent, 2, (-1.0, -1.0, -1.0))  # of the episode before
    commands = agent.handle(observation(RULES, 3, steps=0, episodes=1))
    assert edges_of(commands) == {0, 1, 2}
    now = observation(RULES, 4, steps=1, episodes=1, peers=EVERYONE)
    assert edges_of(agent.handle(now)) == {0, 1, 2}


def test_of_neighbours_that_a_new_life_has_not_heard_nothing_is_assumed() -> None:
    agent = make_agent(flat=receiver_of(-0.5))
    assert edges_of(agent.handle(observation(RULES, 7, steps=6, peers=EVERYONE))) == set()
    hears(agent, 7, (None, 0.0, None))
    now = observation(RULES, 8, steps=7, beacons=0b010, peers=EVERYONE)
    assert edges_of(agent.handle(now)) == {1}


def test_news_that_comes_too_late_closes_its_edge_once_and_counts_from_then_on() -> None:
    agent = make_agent(flat=receiver_of(0.5))
    agent.handle(observation(RULES, 1))
    hears(agent, 1, (1.0, 1.0, 1.0))
    agent.handle(observation(RULES, 2, beacons=EVERYONE))
    assert agent.handle(observation(RULES, 3, beacons=0b001, peers=EVERYONE)) == []
    assert edges_of(agent.handle(PeersLate())) == {1, 2}
    hears(agent, 2, (0.0, None, None))
    assert edges_of(agent.handle(observation(RULES, 4, peers=EVERYONE))) == {1, 2}
    hears(agent, 4, (1.0, None, None))
    now = observation(RULES, 5, beacons=0b001, peers=EVERYONE)
    assert edges_of(agent.handle(now)) == EVERYBODY


EVERYBODY = {0, 1, 2}
