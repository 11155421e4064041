"""Agents that are down, that hang and that come back: the others are not kept waiting."""

from collections.abc import Callable

import pytest

from runtime.net import wire
from runtime.world.episodes import Phase
from runtime.world.pacing import RELIABLE_AFTER, Patience
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


@pytest.mark.parametrize("misfit", [action(9, copies=2), action(9, 4), action(9, 0, 0b1000)])
def test_a_hung_agent_that_says_what_does_not_fit_keeps_nobody_waiting(misfit: wire.Action) -> None:
    world = make_world(ScriptedEnv(5))
    world.begin_tick()
    answer(world, silent=[1])
    world.deadline()
    for _ in range(20):
        world.begin_tick()
        world.action(1, misfit)
        assert 1 not in world.missing
        answer(world)
    assert world.missed_deadlines == 1


def test_a_hung_agent_that_gives_gates_which_do_not_fit_keeps_nobody_waiting() -> None:
    world = make_world(ScriptedEnv(5), rules=PAPER)
    world.begin_tick()
    world.deadline()
    world.gates(1, gates(1, copies=3))
    assert world.begin_tick()
    assert world.missing == []


def missed_of(ticks: int, *, answers: Callable[[int], bool]) -> int:
    """Deadlines that an agent costs in so many ticks: it speaks in each of them, but answers in
    time only in those that it likes."""
    patience, missed = Patience(2), 0
    for tick in range(1, ticks + 1):
        if patience.waits_for(tick)[1]:
            if answers(tick):
                patience.answered(1)
            else:
                patience.missed(1, tick)
                missed += 1
        patience.spoke(1)
    return missed


def test_who_is_late_once_loses_no_tick_by_it() -> None:
    assert missed_of(3, answers=lambda tick: tick != 1) == 1
    world = make_world(ScriptedEnv(5))
    world.begin_tick()
    answer(world, silent=[1])
    world.deadline()
    world.action(1, action(1))
    world.begin_tick()
    assert 1 in world.missing


def test_who_is_late_every_time_is_waited_for_ever_more_rarely() -> None:
    assert missed_of(3000, answers=lambda _: False) == 12  # 1 + 2 + 4 + … + 1024 ticks, and once


@pytest.mark.parametrize("period", [2, 3, 10, 50])
def test_who_is_late_now_and_then_costs_a_deadline_in_a_hundred_ticks(period: int) -> None:
    ticks = 5000
    missed = missed_of(ticks, answers=lambda tick: tick % period != 0)
    assert missed <= ticks / RELIABLE_AFTER + 11


def test_who_is_rarely_late_is_always_forgiven() -> None:
    assert missed_of(5050, answers=lambda tick: tick % 101 != 0) == 50


def test_a_new_life_does_not_wash_off_what_the_old_one_has_cost() -> None:
    world = make_world(ScriptedEnv(5))
    missed = 0
    for _ in range(200):
        world.begin_tick()
        answer(world, silent=[1])
        if world.missing:
            world.deadline()
            missed += 1
        for up in (False, True):
            world.agent_state(1, up=up)
    assert missed == 8  # 1 + 2 + 4 + … + 64 ticks, and once


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
