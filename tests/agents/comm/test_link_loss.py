"""Link loss: how much is lost, that nothing else changes, and what an agent makes of it."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.comm.link_loss import LinkLoss
from agents.core import AgentCore
from agents.events import SendMessage, ToWorld
from agents.rules import AgentRules
from configs.schema import GateMode, GateTiming
from envs.copies import Copies
from envs.relay import Relay
from runtime.net import wire
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.agents_helpers import (
    EVERYONE,
    OFFSETS,
    OPEN_ALL,
    beacon,
    in_mask,
    in_neighbour,
    make_agent,
    make_flat,
    make_rules,
    make_spec,
    message,
    observation,
    out_neighbour,
)

TIMINGS: tuple[GateTiming, ...] = ("causal", "paper")


def losing(probability: float, rules: AgentRules | None = None) -> AgentRules:
    return dataclasses.replace(rules or make_rules(), drop_edges=probability)


# --- the draw -------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
def test_as_much_is_lost_as_was_asked_for(probability: float) -> None:
    loss = LinkLoss(probability, 8, 5, np.random.default_rng(0))
    draws = np.array([loss.draw() for _ in range(500)])  # [steps, 2, E, K]
    error = np.sqrt(probability * (1.0 - probability) / draws.size)
    assert abs(draws.mean() - probability) <= 5 * error
    # Messages and beacons, copies and edges are all treated alike.
    per_link = draws.mean(axis=0)
    assert np.abs(per_link - probability).max() <= 5 * np.sqrt(probability / 500)


def test_links_lose_independently_of_each_other_and_of_the_step_before() -> None:
    loss = LinkLoss(0.5, 4, 3, np.random.default_rng(1))
    draws = np.array([loss.draw() for _ in range(4000)]).reshape(4000, -1).astype(float)
    correlations = np.corrcoef(draws, rowvar=False) - np.eye(draws.shape[1])
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 5 / np.sqrt(4000)


def test_the_agents_own_generator_is_left_alone() -> None:
    rng, untouched = np.random.default_rng(2), np.random.default_rng(2)
    loss = LinkLoss(0.5, 4, 3, rng)
    for _ in range(10):
        loss.draw()
    assert_array_equal(rng.random(20), untouched.random(20))


def test_equal_seeds_lose_the_same() -> None:
    one, other = (LinkLoss(0.5, 4, 3, np.random.default_rng(3)) for _ in range(2))
    for _ in range(20):
        assert_array_equal(one.draw(), other.draw())


# --- an agent -------------------------------------------------------------------------------------


def q_after(
    agent: AgentCore, rules: AgentRules, *, order: list[int], copies: int = 1
) -> wire.Action:
    """The action at tick 2 with messages and beacons of everybody, arriving in this order."""
    agent.handle(observation(rules, 1))
    commands = agent.handle(observation(rules, 2, heard=EVERYONE, beacons=EVERYONE))
    for k in order:
        commands += agent.handle(message(rules, in_neighbour(k), 1, value=0.3 + 0.2 * k))
        commands += agent.handle(beacon(rules, out_neighbour(k), 1, value=1.0 + k))
    (action,) = [c.packet for c in commands if isinstance(c, ToWorld)]
    assert isinstance(action, wire.Action)
    assert action.out_masks.shape == (copies,)
    return action


def test_an_agent_still_waits_for_what_it_will_lose() -> None:
    rules = losing(1.0)
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    assert agent.handle(observation(rules, 2, heard=1, beacons=0)) == []
    assert agent.waits_for_peers
    assert agent.handle(message(rules, in_neighbour(0), 1)) != []


def test_a_lost_beacon_closes_its_edge_and_only_that() -> None:
    rules = losing(0.5)
    masks: set[int] = set()
    for seed in range(20):
        agent = make_agent(rules, seed=seed)
        action = q_after(agent, rules, order=[0, 1, 2])
        masks.add(int(action.out_masks[0]))
        open_edges = int(action.out_masks[0]).bit_count()
        # All scores are far above zero: an edge is open exactly if its beacon was heard.
        assert agent.tally.lost_beacons == OFFSETS - open_edges
    assert len(masks) > 4


def test_the_first_step_needs_no_beacon_and_so_loses_none() -> None:
    rules = losing(1.0)
    commands = make_agent(rules).handle(observation(rules, 1))
    assert sorted(k for c in commands if isinstance(c, SendMessage) for k in c.edges) == [0, 1, 2]


def test_the_order_of_arrival_does_not_matter() -> None:
    rules = losing(0.5)
    for seed in range(10):
        actions = [
            q_after(make_agent(rules, seed=seed), rules, order=order)
            for order in ([0, 1, 2], [2, 0, 1])
        ]
        assert_array_equal(actions[0].out_masks, actions[1].out_masks)


def test_messages_of_copies_that_share_a_packet_are_lost_independently() -> None:
    rules = losing(0.5, make_rules(copies=40))
    agent = make_agent(rules)
    action = q_after(agent, rules, order=[0, 1, 2], copies=40)
    assert len(set(action.out_masks.tolist())) == 1 << OFFSETS, "every pattern occurs"
    assert 30 < agent.tally.lost_messages < 90  # of 120, standard deviation 5.5
    assert 30 < agent.tally.lost_beacons < 90


def test_nothing_is_lost_unless_asked_for() -> None:
    rules = make_rules()
    agent = make_agent(rules)
    assert q_after(agent, rules, order=[0, 1, 2]).out_masks.tolist() == [EVERYONE]
    assert agent.tally.lost_messages == agent.tally.lost_beacons == 0


def test_exploration_draws_what_it_drew_without_losses() -> None:
    """Random actions of an agent that never hears anybody are the same either way."""
    kept: list[list[list[int]]] = []
    for probability in (0.0, 0.7):
        rules = losing(probability, make_rules(copies=30))
        agent = make_agent(rules)
        taken: list[list[int]] = []
        for tick in range(1, 6):
            commands = agent.handle(observation(rules, tick, explore=True, epsilon=1.0))
            (action,) = [c.packet for c in commands if isinstance(c, ToWorld)]
            assert isinstance(action, wire.Action)
            taken.append(action.actions.tolist())
        kept.append(taken)
    assert kept[0] == kept[1]


def test_in_paper_timing_a_lost_beacon_closes_its_edge_within_the_step() -> None:
    rules = losing(1.0, make_rules(timing="paper"))
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    agent.handle(in_mask(1, 0))
    agent.handle(observation(rules, 2, beacons=EVERYONE))
    commands = [
        command
        for k in range(OFFSETS)
        for command in agent.handle(beacon(rules, out_neighbour(k), 2))
    ]
    (gates,) = [c.packet for c in commands if isinstance(c, ToWorld)]
    assert gates.out_masks.tolist() == [0]
    assert agent.tally.lost_beacons == OFFSETS


# --- a whole run ----------------------------------------------------------------------------------


def play(
    timing: GateTiming, mode: GateMode, drop_edges: float, *, seed: int = 0, copies: int = 6
) -> SerialRun:
    """Relay with 6 agents, everything recorded."""
    envs = [Relay(6) for _ in range(copies)]
    spec = make_spec(observation_dim=envs[0].spec.observation_dim, num_actions=4)
    rules = agents_helpers.make_rules(
        copies=copies, spec=spec, timing=timing, mode=mode, ships="all", record_q=True
    )
    run = SerialRun(
        Copies(envs, seed),
        losing(drop_edges, rules),
        make_flat(spec, score_bias=OPEN_ALL),
        world_helpers.make_rules(timing=timing, train_steps=0),
        seed,
    )
    run.evaluate(copies)
    assert len(run.trajectories) == 6 * copies
    assert run.world.missed_deadlines == 0
    assert all(core.tally.late == 0 for core in run.agents)
    return run


def q_values(run: SerialRun) -> dict[tuple[int, int], np.ndarray]:
    return {(t.agent, t.episode): t.columns["q_values"] for t in run.trajectories}


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("mode", ["learned", "open"])
def test_to_lose_everything_is_to_have_closed_gates(timing: GateTiming, mode: GateMode) -> None:
    lost, closed = play(timing, mode, 1.0), play(timing, "closed", 0.0)
    whole = play(timing, mode, 0.0)
    for key, q in q_values(closed).items():
        np.testing.assert_allclose(q_values(lost)[key], q, atol=1e-6)
    differences = [np.abs(q_values(whole)[key] - q).max() for key, q in q_values(closed).items()]
    assert max(differences) > 1e-2, "messages must matter for this test to mean something"


def test_losses_are_those_of_the_edges_that_were_used() -> None:
    run = play("causal", "open", 0.3, copies=60)
    used = sum(core.tally.edges_open for core in run.agents)
    steps = run.copies.spec.episode_limit
    heard = used * (steps - 1) / steps  # nobody is left to hear the last step's
    lost = sum(core.tally.lost_messages for core in run.agents)
    assert abs(lost / heard - 0.3) < 5 * np.sqrt(0.3 * 0.7 / heard)
    assert all(core.tally.lost_beacons == 0 for core in run.agents), "open gates ask for none"


def test_the_same_seed_plays_the_same_losses() -> None:
    one, other = play("causal", "learned", 0.5), play("causal", "learned", 0.5)
    for key, q in q_values(one).items():
        assert_array_equal(q_values(other)[key], q)
