"""The order of a step, what it waits for, what it refuses, and when a policy takes effect."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.core import AgentCore
from agents.events import Command, Event, PeersLate, ToNode
from runtime.net import wire
from runtime.net.traffic import REASONS
from tests.agents_helpers import (
    EVERYONE,
    acted,
    action_of,
    beacon,
    beacons_of,
    dense,
    edges_of,
    gates_of,
    in_mask,
    in_neighbour,
    kinds_of,
    make_agent,
    make_flat,
    make_rules,
    message,
    messages_of,
    observation,
    out_neighbour,
    reasons_of,
)

CAUSAL = make_rules()
PAPER = make_rules(timing="paper")


def after_first_step() -> AgentCore:
    """A causal agent that has acted at tick 1."""
    agent = make_agent(CAUSAL)
    acted(agent.handle(observation(CAUSAL, 1)))
    return agent


def said(commands: list[Command]) -> bytes:
    """The message vector of a causal step, which depends on all that was heard."""
    (command,) = messages_of(commands)
    return command.rows.tobytes()


# --- order ----------------------------------------------------------------------------------------


def test_causal_sends_message_then_beacon_then_action() -> None:
    # Messages go out before the action, so that a receiver finds them when the world goes on.
    commands = make_agent(CAUSAL).handle(observation(CAUSAL, 1))
    assert kinds_of(commands) == ["SendMessage", "SendBeacon", "Action"]


def test_paper_sends_beacon_then_message_then_gates_then_action() -> None:
    agent = make_agent(PAPER)
    assert kinds_of(agent.handle(observation(PAPER, 1))) == ["SendBeacon", "Gates"]
    assert kinds_of(agent.handle(in_mask(1, 0))) == ["Action"]
    assert kinds_of(agent.handle(observation(PAPER, 2, beacons=0b001))) == ["SendBeacon"]
    heard = agent.handle(beacon(PAPER, out_neighbour(0), 2))
    assert kinds_of(heard) == ["SendMessage", "Gates"]
    assert kinds_of(agent.handle(in_mask(2, 0b001))) == []
    assert kinds_of(agent.handle(message(PAPER, in_neighbour(0), 2))) == ["Action"]


def test_packets_carry_the_tick_they_were_made_at() -> None:
    agent = after_first_step()
    commands = agent.handle(observation(CAUSAL, 2))
    assert (acted(commands).tick, agent.tick) == (2, 2)
    assert [command.tick for command in beacons_of(commands)] == [2]
    later = make_agent(CAUSAL).handle(observation(CAUSAL, 77, steps=0))
    assert [command.tick for command in messages_of(later)] == [77]


def test_paper_sends_over_its_edges_what_it_thought_one_step_earlier() -> None:
    agent, other = make_agent(PAPER), make_agent(PAPER)
    for ours, rows in ((agent, None), (other, np.ones((1, 5), np.float16))):
        ours.handle(observation(PAPER, 1))
        ours.handle(in_mask(1, 0))
        ours.handle(observation(PAPER, 2, beacons=0b001, rows=rows))
    sent = [ours.handle(beacon(PAPER, out_neighbour(0), 2)) for ours in (agent, other)]
    # What is seen at step 1 cannot be in a message of step 0.
    assert said(sent[0]) == said(sent[1])


# --- waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_causal_waits_for_exactly_the_packets_under_way(order: tuple[int, ...]) -> None:
    agent = after_first_step()
    now = observation(CAUSAL, 2, heard=0b101, beacons=0b010)
    awaited: list[Event] = [
        message(CAUSAL, in_neighbour(0), 1),
        message(CAUSAL, in_neighbour(2), 1),
        beacon(CAUSAL, out_neighbour(1), 1),
    ]
    assert action_of(agent.handle(now)) is None
    for which in order[:2]:
        assert agent.waits_for_peers
        assert agent.handle(awaited[which]) == []
    assert acted(agent.handle(awaited[order[2]])).tick == 2
    assert not agent.waits_for_peers


def test_causal_acts_at_once_if_everything_came_before_the_observation() -> None:
    agent = after_first_step()
    agent.handle(message(CAUSAL, in_neighbour(0), 1))
    agent.handle(beacon(CAUSAL, out_neighbour(0), 1))
    acted(agent.handle(observation(CAUSAL, 2, heard=0b001, beacons=0b001)))


def test_causal_does_not_take_a_packet_of_this_tick_for_one_of_the_last() -> None:
    agent = after_first_step()
    agent.handle(observation(CAUSAL, 2, heard=0b001))
    assert agent.handle(message(CAUSAL, in_neighbour(0), 2)) == []
    acted(agent.handle(message(CAUSAL, in_neighbour(0), 1)))


def test_a_message_from_a_peer_one_tick_ahead_is_kept_for_the_next_step() -> None:
    agent = after_first_step()
    agent.handle(message(CAUSAL, in_neighbour(0), 2))
    acted(agent.handle(observation(CAUSAL, 2)))
    acted(agent.handle(observation(CAUSAL, 3, heard=0b001)))


def test_paper_waits_for_beacons_then_for_the_world_then_for_messages() -> None:
    agent = make_agent(PAPER)
    agent.handle(observation(PAPER, 1))
    assert not agent.waits_for_peers  # the world is no peer: it has its own deadline
    agent.handle(in_mask(1, 0))
    agent.handle(observation(PAPER, 2, beacons=0b011))
    assert agent.waits_for_peers
    assert agent.handle(beacon(PAPER, out_neighbour(0), 2)) == []
    gates = gates_of(agent.handle(beacon(PAPER, out_neighbour(1), 2)))
    assert gates.out_masks.tolist() == [0b011]
    assert not agent.waits_for_peers
    agent.handle(in_mask(2, 0b100))
    assert agent.waits_for_peers
    acted(agent.handle(message(PAPER, in_neighbour(2), 2)))


def test_a_message_over_an_edge_that_the_world_calls_closed_is_not_heard() -> None:
    agent, other = after_first_step(), after_first_step()
    agent.handle(message(CAUSAL, in_neighbour(0), 1, value=1.0))
    now = observation(CAUSAL, 2, beacons=EVERYONE)
    for peer in (out_neighbour(k) for k in range(3)):
        agent.handle(beacon(CAUSAL, peer, 1))
        other.handle(beacon(CAUSAL, peer, 1))
    assert said(agent.handle(now)) == said(other.handle(now))


def test_a_message_over_an_open_edge_is_heard() -> None:
    heard: list[bytes] = []
    for value in (1.0, -1.0):
        agent = after_first_step()
        agent.handle(observation(CAUSAL, 2, heard=0b001, beacons=0b001))
        agent.handle(beacon(CAUSAL, out_neighbour(0), 1))
        heard.append(said(agent.handle(message(CAUSAL, in_neighbour(0), 1, value=value))))
    assert heard[0] != heard[1]


# --- late peers -----------------------------------------------------------------------------------


def test_a_late_message_is_a_closed_edge_and_counted() -> None:
    agent, other = after_first_step(), after_first_step()
    for ours in (agent, other):
        ours.handle(beacon(CAUSAL, out_neighbour(0), 1))
        ours.handle(message(CAUSAL, in_neighbour(0), 1))
    assert agent.handle(observation(CAUSAL, 2, heard=0b101, beacons=0b001)) == []
    late = agent.handle(PeersLate())
    assert said(late) == said(other.handle(observation(CAUSAL, 2, heard=0b001, beacons=0b001)))
    assert (agent.tally.late, other.tally.late) == (1, 0)


def test_a_late_beacon_is_a_closed_edge_and_counted() -> None:
    agent = after_first_step()
    agent.handle(observation(CAUSAL, 2, beacons=0b111))
    agent.handle(beacon(CAUSAL, out_neighbour(1), 1))
    commands = agent.handle(PeersLate())
    assert edges_of(commands) == {1}
    assert acted(commands).out_masks.tolist() == [0b010]
    assert agent.tally.late == 2


def test_paper_pays_a_deadline_for_beacons_and_one_for_messages() -> None:
    agent = make_agent(PAPER)
    agent.handle(observation(PAPER, 1))
    agent.handle(in_mask(1, 0))
    agent.handle(observation(PAPER, 2, beacons=0b011))
    agent.handle(beacon(PAPER, out_neighbour(0), 2))
    assert edges_of(agent.handle(PeersLate())) == {0}
    assert agent.tally.late == 1
    agent.handle(in_mask(2, 0b101))
    acted(agent.handle(PeersLate()))
    assert agent.tally.late == 3


def test_a_deadline_means_nothing_to_an_agent_that_waits_for_nobody() -> None:
    agent = after_first_step()
    assert agent.handle(PeersLate()) == []
    assert agent.tally.late == 0


def test_a_new_observation_overrides_a_step_that_was_never_finished() -> None:
    agent = after_first_step()
    assert agent.handle(observation(CAUSAL, 2, heard=0b001)) == []
    assert acted(agent.handle(observation(CAUSAL, 3))).tick == 3


# --- what is refused ------------------------------------------------------------------------------

GOOD = message(CAUSAL, in_neighbour(0), 4)
GOOD_BEACON = beacon(CAUSAL, out_neighbour(0), 4)
NOW = observation(CAUSAL, 6, heard=0b001)
"""The agent of these tests is at tick 5 and waits for nothing."""

REFUSED: dict[str, tuple[Event, str]] = {
    "observation of this tick": (observation(CAUSAL, 5), "stale"),
    "observation of an earlier tick": (observation(CAUSAL, 1), "stale"),
    "observation of other copies": (observation(make_rules(copies=2), 6), "shape"),
    "one step too many": (replace(NOW, steps=np.array([5, 5], np.uint16)), "shape"),
    "one episode too many": (replace(NOW, episodes=np.array([0, 0], np.uint32)), "shape"),
    "one in-mask too many": (replace(NOW, in_masks=np.array([0, 0], np.uint16)), "shape"),
    "one beacon mask too many": (replace(NOW, beacon_masks=np.array([0, 0], np.uint16)), "shape"),
    "observation too narrow": (replace(NOW, observations=np.zeros((1, 4), np.float16)), "shape"),
    "observation of a dead copy": (replace(NOW, flags=np.array([0], np.uint8)), "shape"),
    "message of two ticks ago": (replace(GOOD, tick=3), "stale"),
    "message of two ticks ahead": (replace(GOOD, tick=7), "future"),
    "message of far ahead": (replace(GOOD, tick=2**32 - 1), "stale"),
    "message of a stranger": (replace(GOOD, sender=3), "unknown_sender"),
    "message of an out-neighbour": (replace(GOOD, sender=out_neighbour(0)), "unknown_sender"),
    "message of oneself": (replace(GOOD, sender=0), "unknown_sender"),
    "message of nobody": (replace(GOOD, sender=60_000), "unknown_sender"),
    "message without bitmap": (replace(GOOD, copies=np.zeros(0, np.uint8)), "shape"),
    "message of too many copies": (replace(GOOD, copies=np.ones(2, np.uint8)), "shape"),
    "message with a row too few": (replace(GOOD, rows=np.zeros((0, 7), np.float16)), "shape"),
    "message with a row too many": (replace(GOOD, rows=np.zeros((2, 7), np.float16)), "shape"),
    "message as wide as a beacon": (replace(GOOD, rows=np.zeros((1, 6), np.float16)), "shape"),
    "message in another format": (replace(GOOD, rows=np.zeros((1, 7), np.float32)), "dtype"),
    "beacon of an in-neighbour": (replace(GOOD_BEACON, sender=in_neighbour(0)), "unknown_sender"),
    "beacon as wide as a message": (replace(GOOD_BEACON, rows=np.zeros((1, 7), np.int8)), "shape"),
    "beacon in another format": (replace(GOOD_BEACON, rows=np.zeros((1, 6), np.float32)), "dtype"),
    "in-mask in causal timing": (in_mask(5, 0), "stale"),
}


def at_tick_five() -> AgentCore:
    agent = make_agent(CAUSAL)
    for tick in range(1, 6):
        agent.handle(observation(CAUSAL, tick))
    return agent


def next_steps(agent: AgentCore) -> list[tuple[bytes, int]]:
    """What it says and does at ticks 6 and 7, hearing everybody."""
    steps: list[tuple[bytes, int]] = []
    for tick in (6, 7):
        agent.handle(observation(CAUSAL, tick, heard=EVERYONE, beacons=EVERYONE))
        for k in range(3):
            agent.handle(message(CAUSAL, in_neighbour(k), tick - 1, value=0.1 * k))
        heard = [agent.handle(beacon(CAUSAL, out_neighbour(k), tick - 1)) for k in range(3)]
        steps.append((said(heard[-1]), int(acted(heard[-1]).actions[0])))
    return steps


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(kind: str) -> None:
    packet, reason = REFUSED[kind]
    agent, undisturbed = at_tick_five(), at_tick_five()
    assert reasons_of(agent.handle(packet)) == [reason]
    assert reason in REASONS
    assert next_steps(agent) == next_steps(undisturbed)


def test_the_second_of_two_equal_packets_is_stale() -> None:
    agent = after_first_step()
    assert agent.handle(message(CAUSAL, in_neighbour(0), 1, value=1.0)) == []
    assert reasons_of(agent.handle(message(CAUSAL, in_neighbour(0), 1, value=2.0))) == ["stale"]


def test_an_in_mask_counts_once_and_for_its_own_tick() -> None:
    agent = make_agent(PAPER)
    assert reasons_of(agent.handle(in_mask(0, 0))) == ["stale"]
    agent.handle(observation(PAPER, 1))
    assert reasons_of(agent.handle(in_mask(2, 0))) == ["stale"]
    assert reasons_of(agent.handle(in_mask(1, 0, 0))) == ["shape"]
    acted(agent.handle(in_mask(1, 0)))
    assert reasons_of(agent.handle(in_mask(1, 0))) == ["stale"]


# --- policy versions ------------------------------------------------------------------------------


def test_a_newer_policy_takes_effect_with_the_next_observation() -> None:
    agent, other = after_first_step(), after_first_step()
    for ours in (agent, other):
        ours.handle(observation(CAUSAL, 2, heard=0b001, beacons=0b001))
        ours.handle(beacon(CAUSAL, out_neighbour(0), 1))
    assert agent.handle(dense(make_flat(seed=1, score_bias=50.0), 9)) == []
    last = message(CAUSAL, in_neighbour(0), 1)
    commands = agent.handle(last)
    assert acted(commands).policy_version == agent.policy_version == 1
    assert said(commands) == said(other.handle(last))
    following = [ours.handle(observation(CAUSAL, 3, steps=0)) for ours in (agent, other)]
    assert acted(following[0]).policy_version == agent.policy_version == 9
    assert said(following[0]) != said(following[1])


def test_recurrent_state_outlives_the_policy_that_has_written_it() -> None:
    """The same parameters as another version go on where they were: so does an update in place."""
    agent, other, fresh = (make_agent(CAUSAL, flat=make_flat()) for _ in range(3))
    for ours in (agent, other):
        ours.handle(observation(CAUSAL, 1))
        ours.handle(observation(CAUSAL, 2))
    agent.handle(dense(make_flat(), 9))
    beacons = [
        beacons_of(ours.handle(observation(CAUSAL, 3)))[0].rows.tobytes()
        for ours in (agent, other, fresh)
    ]
    assert agent.policy_version == 9
    assert beacons[0] == beacons[1] != beacons[2]


def delta(base: int) -> wire.DeltaParameters:
    flat = make_flat(score_bias=50.0)
    flat[0] += 1.0
    changed = dense(flat, 2)
    return wire.DeltaParameters(2, base, changed.crc32, np.array([0], np.uint32), flat[:1])


def test_a_delta_to_our_version_is_applied() -> None:
    agent = make_agent(CAUSAL)
    assert agent.handle(delta(base=1)) == []
    assert acted(agent.handle(observation(CAUSAL, 1))).policy_version == 2


def test_a_delta_gap_asks_for_a_snapshot() -> None:
    agent = make_agent(CAUSAL)
    assert agent.handle(delta(base=0)) == [ToNode(wire.SnapshotRequest(1))]
    assert agent.tally.snapshots_requested == 1
    assert acted(agent.handle(observation(CAUSAL, 1))).policy_version == 1


def test_an_old_version_is_ignored_in_silence() -> None:
    agent = make_agent(CAUSAL)
    assert agent.handle(dense(make_flat(seed=1), 1)) == []
    assert_array_equal([agent.tally.snapshots_requested, agent.policy_version], [0, 1])
