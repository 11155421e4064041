"""Agents that are down, that hang and that come back: the others are not kept waiting."""

from runtime.world import Phase
from tests.world_helpers import (
    NOOP,
    NUM_AGENTS,
    ScriptedEnv,
    action,
    answer,
    gates,
    in_masks_of,
    make_rules,
    make_world,
    observations_of,
    play,
    record_of,
    records_of,
    result_of,
)

EVERYBODY = list(range(NUM_AGENTS))
PAPER = make_rules(timing="paper")


def test_for_an_agent_that_is_down_a_noop_is_played_and_nobody_waits() -> None:
    env = ScriptedEnv(2)
    world = make_world(env, up=[0, 1, 2, 3, 4])
    commands = play(world, 2)
    assert env.played == [[0, 0, 0, 0, 0, NOOP]] * 2
    assert record_of(commands).complete == 0


def test_an_agent_that_goes_down_is_not_waited_for_any_longer() -> None:
    env = ScriptedEnv(1)
    world = make_world(env)
    world.begin_tick()
    answer(world, silent=[3])
    commands = world.agent_state(3, up=False)
    assert env.played == [[0, 0, 0, NOOP, 0, 0]]
    assert record_of(commands).complete == 0
    assert result_of(commands).length == 1


def test_an_agent_that_comes_back_joins_with_the_next_tick() -> None:
    env = ScriptedEnv(3, 2)
    world = make_world(env, up=[0, 1, 2, 3, 4])
    world.begin_tick()
    assert world.agent_state(5, up=True) == []
    assert 5 not in world.missing
    answer(world)
    world.begin_tick()
    assert 5 in world.missing
    answer(world)
    # The episode that it joined half-way is no use to the learner, the next one is.
    assert [record.complete for record in records_of(play(world, 3))] == [0, 1]


def test_who_goes_down_after_its_action_leaves_the_episode_incomplete_all_the_same() -> None:
    # Its trajectory is lost with it.
    world = make_world(ScriptedEnv(2))
    world.begin_tick()
    answer(world, silent=[0])
    world.agent_state(3, up=False)
    world.agent_state(3, up=True)
    answer(world)
    assert record_of(play(world)).complete == 0


def test_an_episode_in_which_only_the_dead_were_missing_is_complete() -> None:
    world = make_world(ScriptedEnv(3, deaths={0: [3]}))
    play(world)
    world.agent_state(3, up=False)
    assert record_of(play(world, 2)).complete == 1


def test_without_agents_no_tick_begins() -> None:
    world = make_world(up=[])
    assert not world.may_tick
    world.agent_state(0, up=True)
    assert world.may_tick


def test_after_the_deadline_a_noop_is_played_for_who_has_not_answered() -> None:
    env = ScriptedEnv(5)
    world = make_world(env)
    world.begin_tick()
    answer(world, silent=[1, 2])
    world.deadline()
    assert env.played == [[0, NOOP, NOOP, 0, 0, 0]]
    assert world.missed_deadlines == 2


def test_who_has_not_answered_has_used_no_edge() -> None:
    world = make_world(ScriptedEnv(5))
    world.begin_tick()
    answer(world, masks={1: 0b111})
    world.begin_tick()
    answer(world, silent=[1])
    world.deadline()
    told = observations_of(world.begin_tick())
    assert all(packet.in_masks.tolist() == [0] for packet in told.values())
    assert told[0].beacon_masks.tolist() == [0b110]


def test_a_hung_agent_is_told_everything_but_not_waited_for() -> None:
    world = make_world(ScriptedEnv(5))
    world.begin_tick()
    answer(world, silent=[1])
    world.deadline()
    assert sorted(observations_of(world.begin_tick())) == EVERYBODY
    assert world.missing == [0, 2, 3, 4, 5]


def test_a_hung_agent_is_waited_for_again_once_it_speaks() -> None:
    world = make_world(ScriptedEnv(5))
    world.begin_tick()
    answer(world, silent=[1])
    world.deadline()
    world.begin_tick()
    world.action(1, action(1))  # too late for anything, but a sign of life
    assert 1 not in world.missing
    answer(world)
    world.begin_tick()
    assert 1 in world.missing
    assert world.missed_deadlines == 1


def test_a_hung_agent_leaves_episodes_incomplete() -> None:
    world = make_world(ScriptedEnv(2))
    world.begin_tick()
    answer(world, silent=[1])
    world.deadline()
    assert record_of(play(world)).complete == 0


def test_paper_goes_on_without_those_who_give_no_gates() -> None:
    env = ScriptedEnv(5)
    world = make_world(env, rules=PAPER)
    world.begin_tick()
    for agent in EVERYBODY:
        world.gates(agent, gates(1))
    answer(world)
    world.begin_tick()
    for agent in EVERYBODY[1:]:
        world.gates(agent, gates(2))
    told = world.deadline()
    assert sorted(in_masks_of(told)) == world.missing == [1, 2, 3, 4, 5]
    answer(world)
    assert env.played[1] == [NOOP, 0, 0, 0, 0, 0]


def test_paper_steps_even_if_nobody_gives_gates() -> None:
    env = ScriptedEnv(5)
    world = make_world(env, rules=PAPER)
    world.begin_tick()
    world.deadline()
    assert env.played == [[NOOP] * NUM_AGENTS]
    assert world.phase is Phase.TRAINING


def test_paper_asks_nobody_for_an_action_who_came_up_in_the_middle_of_a_tick() -> None:
    env = ScriptedEnv(5)
    world = make_world(env, up=[0, 1, 2, 3, 4], rules=PAPER)
    world.begin_tick()
    world.agent_state(5, up=True)
    world.gates(0, gates(1))
    for up in (False, True):  # started again: its gates are those of the life before
        world.agent_state(0, up=up)
    for agent in (1, 2, 3):
        world.gates(agent, gates(1))
    told = world.gates(4, gates(1))
    assert sorted(in_masks_of(told)) == world.missing == [1, 2, 3, 4]
    answer(world)
    assert len(env.played) == 1
    world.begin_tick()
    assert world.missing == EVERYBODY


def test_paper_asks_nobody_for_an_action_who_speaks_again_in_the_middle_of_a_tick() -> None:
    world = make_world(rules=PAPER)
    world.begin_tick()
    world.deadline()
    world.begin_tick()
    assert world.missing == []
    world.gates(0, gates(1))
    assert in_masks_of(world.deadline()) == {}
    world.begin_tick()
    assert world.missing == [0]
