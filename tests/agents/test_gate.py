"""Which edges an agent uses, and with whom it speaks at all."""

import numpy as np
import pytest

from agents.core import AgentCore
from agents.events import Command
from agents.policy import views
from agents.rules import AgentRules
from configs.arrays import FloatArray
from tests.agents_helpers import (
    EVERYONE,
    OPEN_ALL,
    SHUT_ALL,
    SPEC,
    acted,
    beacon,
    beacons_of,
    edges_of,
    gates_of,
    in_mask,
    kinds_of,
    make_agent,
    make_flat,
    make_rules,
    messages_of,
    observation,
    out_neighbour,
)


def beacon_reader() -> FloatArray:
    """A policy whose score is positive if and only if the receiver's beacon is."""
    flat = make_flat(score_bias=-1.0)
    tensors = views(SPEC, flat)
    for name in ("scorer_hidden.weight", "scorer_hidden.bias", "scorer_out.weight"):
        tensors[name][...] = 0.0
    tensors["scorer_hidden.weight"][:, SPEC.beacon : 2 * SPEC.beacon] = 1.0
    tensors["scorer_out.weight"][...] = 1.0
    return flat


def steady(score: float) -> FloatArray:
    """A policy that gives every edge the same score."""
    flat = make_flat(score_bias=score)
    views(SPEC, flat)["scorer_out.weight"][...] = 0.0
    return flat


def hear_beacons(agent: AgentCore, tick: int, values: tuple[float, ...]) -> None:
    rules = make_rules()
    for k, value in enumerate(values):
        agent.handle(beacon(rules, out_neighbour(k), tick, value=value))


# --- modes ----------------------------------------------------------------------------------------


def test_a_shut_gate_sends_nothing_but_its_beacon() -> None:
    rules = make_rules()
    agent = make_agent(rules, flat=make_flat(score_bias=SHUT_ALL))
    commands = agent.handle(observation(rules, 1))
    assert kinds_of(commands) == ["SendBeacon", "Action"]
    assert acted(commands).out_masks.tolist() == [0]
    assert agent.tally.edges_open == 0


def test_an_open_gate_uses_every_edge() -> None:
    rules = make_rules()
    agent = make_agent(rules, flat=make_flat(score_bias=OPEN_ALL))
    commands = agent.handle(observation(rules, 1))
    assert edges_of(commands) == {0, 1, 2}
    assert acted(commands).out_masks.tolist() == [0b111]
    assert (agent.tally.agent_steps, agent.tally.edge_slots, agent.tally.edges_open) == (1, 3, 3)


def test_mode_open_uses_every_edge_whatever_the_scores_and_needs_no_beacon() -> None:
    rules = make_rules(mode="open")
    agent = make_agent(rules, flat=make_flat(score_bias=SHUT_ALL))
    for tick in (1, 2):
        commands = agent.handle(observation(rules, tick, beacons=EVERYONE))
        assert kinds_of(commands) == ["SendMessage", "Action"]
        assert edges_of(commands) == {0, 1, 2}


@pytest.mark.parametrize(
    "rules", [make_rules(mode="closed"), make_rules(comm="none")], ids=["closed", "none"]
)
def test_mode_closed_and_comm_none_say_nothing_and_wait_for_nobody(rules: AgentRules) -> None:
    agent = make_agent(rules)
    for tick in (1, 2):
        now = observation(rules, tick, heard=EVERYONE, beacons=EVERYONE)
        assert kinds_of(agent.handle(now)) == ["Action"]


@pytest.mark.parametrize(
    "rules",
    [make_rules(timing="paper", mode="closed"), make_rules(timing="paper", comm="none")],
    ids=["closed", "none"],
)
def test_paper_tells_the_world_its_gates_even_if_it_never_speaks(rules: AgentRules) -> None:
    agent = make_agent(rules)
    for tick in (1, 2):
        commands = agent.handle(observation(rules, tick, beacons=EVERYONE))
        assert kinds_of(commands) == ["Gates"]
        assert gates_of(commands).out_masks.tolist() == [0]
        assert kinds_of(agent.handle(in_mask(tick, EVERYONE))) == ["Action"]


# --- scores ---------------------------------------------------------------------------------------


def test_an_edge_is_open_if_and_only_if_its_receivers_beacon_scores() -> None:
    rules = make_rules()
    agent = make_agent(rules, flat=beacon_reader())
    agent.handle(observation(rules, 1))
    hear_beacons(agent, 1, (1.0, -1.0, 1.0))
    commands = agent.handle(observation(rules, 2, beacons=EVERYONE))
    assert edges_of(commands) == {0, 2}
    assert acted(commands).out_masks.tolist() == [0b101]


def test_a_peer_that_the_world_calls_gone_is_not_written_to() -> None:
    rules = make_rules()
    agent = make_agent(rules, flat=beacon_reader())
    agent.handle(observation(rules, 1))
    hear_beacons(agent, 1, (1.0, 1.0, 1.0))
    assert edges_of(agent.handle(observation(rules, 2, beacons=0b110))) == {1, 2}


def test_at_the_first_step_everybody_counts_as_there_with_a_beacon_of_zeros() -> None:
    rules = make_rules()
    assert edges_of(make_agent(rules, flat=steady(1.0)).handle(observation(rules, 1))) == {0, 1, 2}
    # Zeros do not score with this one, and what was heard in the episode before is not read.
    for mask in (0, EVERYONE):
        agent = make_agent(rules, flat=beacon_reader())
        agent.handle(observation(rules, 1))
        hear_beacons(agent, 1, (1.0, 1.0, 1.0))
        first = observation(rules, 2, steps=0, episodes=1, beacons=mask)
        assert edges_of(agent.handle(first)) == set()


def test_after_the_first_step_a_peer_without_beacon_is_not_there() -> None:
    rules = make_rules()
    agent = make_agent(rules, flat=steady(1.0))
    agent.handle(observation(rules, 1))
    assert edges_of(agent.handle(observation(rules, 2))) == set()


def test_causal_scores_with_the_beacon_of_the_last_tick_and_not_of_this_one() -> None:
    rules = make_rules()
    agent = make_agent(rules, flat=beacon_reader())
    agent.handle(observation(rules, 1))
    hear_beacons(agent, 2, (1.0, 1.0, 1.0))  # these peers are a tick ahead
    hear_beacons(agent, 1, (-1.0, -1.0, 1.0))
    assert edges_of(agent.handle(observation(rules, 2, beacons=EVERYONE))) == {2}
    assert edges_of(agent.handle(observation(rules, 3, beacons=EVERYONE))) == {0, 1, 2}


def test_paper_scores_with_the_beacon_of_this_tick() -> None:
    rules = make_rules(timing="paper")
    agent = make_agent(rules, flat=beacon_reader())
    agent.handle(observation(rules, 1))
    agent.handle(in_mask(1, 0))
    hear_beacons(agent, 1, (1.0, 1.0, -1.0))
    hear_beacons(agent, 2, (-1.0, -1.0, 1.0))
    commands = agent.handle(observation(rules, 2, beacons=EVERYONE))
    assert edges_of(commands) == {2}
    assert gates_of(commands).out_masks.tolist() == [0b100]


def test_paper_has_no_message_to_send_at_the_first_step() -> None:
    rules = make_rules(timing="paper")
    agent = make_agent(rules, flat=steady(1.0))
    for tick, episode in ((1, 0), (2, 1)):
        hear_beacons(agent, tick, (1.0, 1.0, 1.0))
        now = observation(rules, tick, steps=0, episodes=episode, beacons=EVERYONE)
        commands = agent.handle(now)
        assert edges_of(commands) == set()
        agent.handle(in_mask(tick, 0))


# --- noise ----------------------------------------------------------------------------------------

MANY = make_rules(copies=1000)


def share_open(*, explore: bool, score: float) -> float:
    agent = make_agent(MANY, flat=steady(score))
    agent.handle(observation(MANY, 1, explore=explore, epsilon=0.0))
    return agent.tally.edges_open / agent.tally.edge_slots


def test_an_agent_that_explores_opens_edges_with_the_probability_of_their_score() -> None:
    # 3000 edges, five standard errors.
    assert share_open(explore=True, score=-1.0) == pytest.approx(1 / (1 + np.e), abs=0.04)


@pytest.mark.parametrize(("score", "share"), [(-0.01, 0.0), (0.01, 1.0), (0.0, 0.0)])
def test_an_agent_that_does_not_explore_opens_edges_by_the_sign_of_their_score(
    score: float, share: float
) -> None:
    assert share_open(explore=False, score=score) == share


def test_only_copies_that_explore_have_noise() -> None:
    explores = [copy % 2 == 0 for copy in range(MANY.copies)]
    agent = make_agent(MANY, flat=steady(-0.01))
    masks = acted(agent.handle(observation(MANY, 1, explore=explores))).out_masks
    assert (masks[1::2] == 0).all()
    assert (masks[0::2] != 0).mean() > 0.5


# --- copies and the dead --------------------------------------------------------------------------


def packets(commands: list[Command]) -> dict[tuple[int, ...], tuple[list[int], int]]:
    """Edges of each message -> its bitmap and its number of rows."""
    return {m.edges: (m.copies.tolist(), len(m.rows)) for m in messages_of(commands)}


def test_a_message_carries_the_copies_in_which_its_edge_is_open() -> None:
    rules = make_rules(copies=9, mode="open")
    masks = [0b001] + [0b011] * 7 + [0b111]
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    commands = agent.handle(observation(rules, 2, beacons=masks))
    assert packets(commands) == {
        (0,): ([0b1111_1111, 1], 9),
        (1,): ([0b1111_1110, 1], 8),
        (2,): ([0, 1], 1),
    }
    assert acted(commands).out_masks.tolist() == masks


def test_edges_that_are_open_in_the_same_copies_share_a_packet() -> None:
    rules = make_rules(copies=2, mode="open")
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    commands = agent.handle(observation(rules, 2, beacons=[0b101, 0b111]))
    assert packets(commands) == {(0, 2): ([0b11], 2), (1,): ([0b10], 1)}


def test_a_dead_agent_sends_nothing_waits_for_nobody_and_plays_zero() -> None:
    rules = make_rules()
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    dead = observation(rules, 2, alive=False, heard=EVERYONE, beacons=EVERYONE)
    commands = agent.handle(dead)
    assert kinds_of(commands) == ["Action"]
    assert acted(commands).actions.tolist() == [0]
    assert acted(commands).out_masks.tolist() == [0]
    assert agent.tally.agent_steps == 1


def test_a_dead_agent_goes_on_relaying_if_asked_to() -> None:
    rules = make_rules(relay=True)
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    assert agent.handle(observation(rules, 2, alive=False, beacons=EVERYONE)) == []
    for k in range(2):
        assert agent.handle(beacon(rules, out_neighbour(k), 1)) == []
    commands = agent.handle(beacon(rules, out_neighbour(2), 1))
    assert kinds_of(commands) == ["SendMessage", "SendBeacon", "Action"]
    assert edges_of(commands) == {0, 1, 2}
    assert acted(commands).actions.tolist() == [0]


def test_an_agent_that_is_dead_in_one_copy_speaks_in_the_others() -> None:
    rules = make_rules(copies=3)
    agent = make_agent(rules)
    commands = agent.handle(observation(rules, 1, alive=[True, False, True]))
    assert packets(commands) == {(0, 1, 2): ([0b101], 2)}
    ((bitmap, rows),) = ((b.copies.tolist(), len(b.rows)) for b in beacons_of(commands))
    assert (bitmap, rows) == ([0b101], 2)
    assert acted(commands).out_masks.tolist() == [0b111, 0, 0b111]


def test_packets_under_way_in_a_copy_where_it_is_dead_are_not_waited_for() -> None:
    rules = make_rules(copies=2)
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    now = observation(rules, 2, alive=[True, False], heard=[0, 0b1], beacons=[0, 0b10])
    assert acted(agent.handle(now)).tick == 2
