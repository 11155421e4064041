"""What an agent does over whole episodes: it begins afresh, explores, and ships what it saw."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from agents.core import AgentCore
from agents.events import Command
from agents.rounding import message_from_wire, message_to_wire
from agents.rules import AgentRules
from configs.arrays import FloatArray
from runtime.net import wire
from tests.agents_helpers import (
    EVERYONE,
    OPEN_ALL,
    acted,
    beacon,
    in_mask,
    in_neighbour,
    kinds_of,
    make_agent,
    make_flat,
    make_network,
    make_rules,
    make_spec,
    message,
    messages_of,
    observation,
    out_neighbour,
    sops,
    trajectories_of,
)

SOLO = make_rules(comm="none", record_q=True, ships="all")
"""An agent that depends on nobody and tells everything."""


def play(
    agent: AgentCore,
    rules: AgentRules,
    steps: Sequence[int],
    *,
    episode: int = 0,
    first_tick: int = 1,
    explore: bool = False,
    epsilon: float = 0.0,
) -> list[Command]:
    """Hand out observations of these steps; all commands."""
    commands: list[Command] = []
    for tick, step in enumerate(steps, start=first_tick):
        now = observation(
            rules, tick, steps=step, episodes=episode, explore=explore, epsilon=epsilon
        )
        commands += agent.handle(now)
    return commands


def ended(agent: AgentCore, rules: AgentRules, tick: int) -> list[wire.Trajectory]:
    """What is shipped when all copies begin the episode with number 1000."""
    return trajectories_of(agent.handle(observation(rules, tick, steps=0, episodes=1000)))


def only(trajectories: list[wire.Trajectory]) -> wire.Trajectory:
    (trajectory,) = trajectories
    return trajectory


# --- a new episode --------------------------------------------------------------------------------


def test_the_state_of_the_episode_before_is_forgotten() -> None:
    rows = np.ones((1, 5), np.float16)
    rules = make_rules()
    experienced, fresh = make_agent(rules), make_agent(rules)
    play(experienced, rules, range(3))
    said = [
        agent.handle(observation(rules, 4, steps=0, episodes=1, rows=rows))
        for agent in (experienced, fresh)
    ]
    ours, theirs = (messages_of(commands)[0].rows for commands in said)
    assert_array_equal(ours, theirs)


def test_only_the_copies_that_begin_are_emptied() -> None:
    rules, alone = make_rules(copies=2), make_rules()
    agent = make_agent(rules)
    play(agent, rules, range(3))
    rows = np.ones((2, 5), np.float16)
    now = observation(rules, 4, steps=[0, 3], episodes=[1, 0], beacons=EVERYONE, rows=rows)
    for k in range(3):
        agent.handle(beacon(rules, out_neighbour(k), 3))
    first, second = messages_of(agent.handle(now))[0].rows
    fresh = make_agent(alone)
    begun = fresh.handle(observation(alone, 4, steps=0, rows=rows[:1]))
    assert_allclose(first, messages_of(begun)[0].rows[0], atol=1e-3)  # float16 on the wire
    assert np.abs(second.astype(np.float32) - first.astype(np.float32)).max() > 0.01


def test_a_message_of_the_episode_before_is_not_sent_in_the_next() -> None:
    rules = make_rules(timing="paper", mode="open")
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    acted(agent.handle(in_mask(1, 0)))
    agent.handle(observation(rules, 2, steps=0, episodes=1))  # and no time to act
    commands = agent.handle(observation(rules, 3, steps=1, episodes=1, beacons=EVERYONE))
    assert not messages_of(commands)[0].rows.any()


def test_an_agent_remembers_its_own_message_as_the_others_heard_it() -> None:
    agent = make_agent(SOLO)
    play(agent, SOLO, range(4))
    trajectory = only(ended(agent, SOLO, 5))
    network = make_network(flat=make_flat(score_bias=OPEN_ALL))
    for rounded in (True, False):
        hidden, own = np.zeros((1, 8), np.float32), np.zeros((1, 7), np.float32)
        q: list[FloatArray] = []
        for row in trajectory.observations:
            before = network.parts(hidden)
            hidden = network.recur(row[None].astype(np.float32), hidden, before)
            parts = network.parts(hidden)
            said = sops(network).message_of(parts, sops(network).attend(parts, own[:, None], None))
            q.append(network.q_values(parts, said)[0])
            own = message_from_wire(message_to_wire(said, "float16")) if rounded else said
        assert np.allclose(trajectory.columns["q_values"], q, rtol=0, atol=1e-6) == rounded


# --- actions --------------------------------------------------------------------------------------


def test_an_agent_that_does_not_explore_is_greedy_whatever_epsilon() -> None:
    agent = make_agent(SOLO)
    play(agent, SOLO, range(30), epsilon=1.0)
    trajectory = only(ended(agent, SOLO, 31))
    assert_array_equal(trajectory.actions, trajectory.columns["q_values"].argmax(axis=1))
    assert len(set(trajectory.actions.tolist())) > 1


def test_without_epsilon_an_agent_that_explores_is_greedy_too() -> None:
    agent = make_agent(SOLO)
    play(agent, SOLO, range(30), explore=True, epsilon=0.0)
    trajectory = only(ended(agent, SOLO, 31))
    assert_array_equal(trajectory.actions, trajectory.columns["q_values"].argmax(axis=1))


MANY = make_rules(copies=1000, comm="none", ships="none")


def test_epsilon_one_plays_every_action_equally_often() -> None:
    agent = make_agent(MANY)
    rows = np.ones((1000, 5), np.float16)  # greedily all copies would do the same
    now = observation(MANY, 1, explore=True, epsilon=1.0, rows=rows)
    counts = np.bincount(acted(agent.handle(now)).actions, minlength=4)
    # Five standard errors of 1000 draws.
    assert_allclose(counts / 1000, [0.25] * 4, atol=0.07)


def test_epsilon_is_the_share_of_steps_that_are_random() -> None:
    agent = make_agent(MANY)
    rows = np.ones((1000, 5), np.float16)
    now = observation(MANY, 1, explore=True, epsilon=0.4, rows=rows)
    counts = np.bincount(acted(agent.handle(now)).actions, minlength=4)
    assert counts.max() / 1000 == pytest.approx(0.6 + 0.4 / 4, abs=0.08)


def test_only_copies_that_explore_play_at_random() -> None:
    agent = make_agent(MANY)
    rows = np.ones((1000, 5), np.float16)
    explores = [copy % 2 == 0 for copy in range(1000)]
    now = observation(MANY, 1, explore=explores, epsilon=1.0, rows=rows)
    actions = acted(agent.handle(now)).actions
    assert len(set(actions[1::2].tolist())) == 1
    assert len(set(actions[0::2].tolist())) == 4


# --- trajectories ---------------------------------------------------------------------------------


def test_a_trajectory_is_shipped_when_the_next_episode_begins() -> None:
    agent = make_agent(SOLO, identity=3)
    assert trajectories_of(play(agent, SOLO, range(4), episode=17)) == []
    trajectory = only(ended(agent, SOLO, 5))
    assert (trajectory.agent, trajectory.episode) == (3, 17)
    sent = [observation(SOLO, tick).observations[0] for tick in range(1, 5)]
    assert_array_equal(trajectory.observations, sent)
    assert trajectory.observations.dtype == np.float16


def test_a_trajectory_holds_the_actions_and_gates_that_went_to_the_world() -> None:
    rules = make_rules(ships="all")
    agent = make_agent(rules, flat=make_flat(seed=4))
    actions: list[int] = []
    masks: list[int] = []
    for tick in range(1, 8):
        for k in range(3):
            agent.handle(beacon(rules, out_neighbour(k), tick - 1, value=(-1.0) ** (tick + k)))
        action = acted(agent.handle(observation(rules, tick, beacons=EVERYONE)))
        actions += action.actions.tolist()
        masks += action.out_masks.tolist()
    trajectory = only(ended(agent, rules, 8))
    assert_array_equal(trajectory.actions, actions)
    assert_array_equal(trajectory.columns["gates"], masks)
    assert len(set(masks)) > 1


def test_a_trajectory_is_shipped_at_death_and_not_again() -> None:
    agent = make_agent(SOLO)
    play(agent, SOLO, range(3))
    dead = observation(SOLO, 4, alive=False)
    commands = agent.handle(dead)
    assert kinds_of(commands) == ["ToLearner", "Action"]
    assert len(only(trajectories_of(commands)).actions) == 3
    assert trajectories_of(agent.handle(observation(SOLO, 5, alive=False))) == []
    assert ended(agent, SOLO, 6) == []


def test_each_copy_ships_its_own_episode() -> None:
    rules = make_rules(copies=2, comm="none")
    agent = make_agent(rules)
    agent.handle(observation(rules, 1, steps=0, episodes=[5, 6], explore=True))
    now = observation(rules, 2, steps=[1, 0], episodes=[5, 7], explore=True)
    assert only(trajectories_of(agent.handle(now))).episode == 6
    now = observation(rules, 3, steps=[0, 1], episodes=[8, 7], explore=True)
    trajectory = only(trajectories_of(agent.handle(now)))
    assert (trajectory.episode, len(trajectory.actions)) == (5, 2)


@pytest.mark.parametrize(
    ("ships", "explore", "shipped"),
    [
        ("training", True, 1),
        ("training", False, 0),
        ("all", True, 1),
        ("all", False, 1),
        ("none", True, 0),
        ("none", False, 0),
    ],
)
def test_training_episodes_are_shipped_and_others_if_asked_for(
    ships: str, explore: bool, shipped: int
) -> None:
    rules = make_rules(comm="none", ships=ships)
    agent = make_agent(rules)
    play(agent, rules, range(3), explore=explore)
    assert len(ended(agent, rules, 4)) == shipped


def test_half_an_episode_is_not_shipped_but_the_next_whole_one_is() -> None:
    agent = make_agent(SOLO)
    play(agent, SOLO, range(2, 5))
    assert trajectories_of(play(agent, SOLO, range(3), episode=1, first_tick=4)) == []
    trajectory = only(ended(agent, SOLO, 7))
    assert (trajectory.episode, len(trajectory.actions)) == (1, 3)


def test_a_step_without_time_to_act_leaves_no_trace_in_the_trajectory() -> None:
    rules = make_rules(ships="all")
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    assert agent.handle(observation(rules, 2, heard=EVERYONE)) == []
    agent.handle(observation(rules, 3))
    # The world marks such an episode incomplete; the joiner drops it.
    assert len(only(ended(agent, rules, 4)).actions) == 2


# --- copies ---------------------------------------------------------------------------------------

COPIES, TICKS = 3, 8
# float32 on the wire, so that nothing but the order of additions tells a batch from one row.
EXACT = make_spec(message_dtype="float32", beacon_dtype="float32")


def test_copies_handled_together_are_agents_of_their_own() -> None:
    rng = np.random.default_rng(0)
    together = make_rules(copies=COPIES, spec=EXACT, ships="all", record_q=True)
    alone = make_rules(spec=EXACT, ships="all", record_q=True)
    agent = make_agent(together, flat=make_flat(EXACT))
    loners = [make_agent(alone, flat=make_flat(EXACT)) for _ in range(COPIES)]
    by_agent: list[wire.Trajectory] = []
    by_loner: list[wire.Trajectory] = []
    for tick in range(1, TICKS + 1):
        over = tick == TICKS
        heard_E, peers_E = rng.integers(0, EVERYONE + 1, (2, COPIES)) * (1 < tick < TICKS)
        alive_E = np.array([True, tick < 5, True])
        rows_ED = rng.normal(size=(COPIES, 5)).astype(np.float16)
        for k in range(3):
            said, shown = rng.uniform(-1, 1, 2)
            open_E = ((heard_E >> k) & 1) == 1
            sent = message(together, in_neighbour(k), tick - 1, value=said, copies=open_E.tolist())
            agent.handle(sent)
            agent.handle(beacon(together, out_neighbour(k), tick - 1, value=shown))
            for e, loner in enumerate(loners):
                if open_E[e]:
                    loner.handle(message(alone, in_neighbour(k), tick - 1, value=said))
                loner.handle(beacon(alone, out_neighbour(k), tick - 1, value=shown))
        commands = agent.handle(
            observation(
                together,
                tick,
                steps=0 if over else None,
                episodes=[e + 10 * over for e in range(COPIES)],
                alive=alive_E.tolist(),
                heard=heard_E.tolist(),
                beacons=peers_E.tolist(),
                rows=rows_ED[alive_E],
            )
        )
        acted(commands)
        by_agent += trajectories_of(commands)
        for e, loner in enumerate(loners):
            commands = loner.handle(
                observation(
                    alone,
                    tick,
                    steps=0 if over else None,
                    episodes=e + 10 * over,
                    alive=bool(alive_E[e]),
                    heard=int(heard_E[e]),
                    beacons=int(peers_E[e]),
                    rows=rows_ED[e : e + 1][alive_E[e : e + 1]],
                )
            )
            by_loner += trajectories_of(commands)
    assert [(t.episode, len(t.actions)) for t in by_agent] == [(1, 4), (0, 7), (2, 7)]
    for ours, theirs in zip(by_agent, by_loner, strict=True):
        assert ours.episode == theirs.episode
        assert_allclose(ours.columns["q_values"], theirs.columns["q_values"], atol=1e-5)
        assert_array_equal(ours.columns["gates"], theirs.columns["gates"])
        assert_array_equal(ours.actions, theirs.actions)
        assert_array_equal(ours.observations, theirs.observations)
    # It would prove nothing if every edge were open, or none.
    assert len({gates for t in by_agent for gates in t.columns["gates"].tolist()}) > 2
