"""Rollouts of fixed length: where the world cuts, when it waits, and what it does in between."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.testing import assert_array_equal

from configs.columns import PIECE, PIECES, PRESENT, by_world
from learner.experience.episode import Piece
from runtime.net import wire
from runtime.world.commands import ToAgent
from runtime.world.lockstep import World
from runtime.world.pacing import RolloutPace
from tests.world_helpers import (
    ScriptedEnv,
    answer,
    explores,
    make_rules,
    make_world,
    observations_of,
    play,
    records_of,
    results_of,
)

STEPS = 4
COLUMNS = tuple(column.name for column in by_world(PIECES))


def piece_world(*envs: ScriptedEnv, **given: Any) -> World:
    rules = make_rules(ships="training", **given)
    rules = replace(rules, in_rounds=True, rollout_steps=STEPS, columns=COLUMNS)
    world = make_world(*envs, rules=rules)
    heard(world, 0)
    return world


def heard(world: World, taken: int, **given: Any) -> None:
    """The learner has taken in so many pieces and owes nothing."""
    world.learner.progress(updates_owed=0.0, episodes_taken=taken, **given)


def pieces(records: Sequence[wire.EpisodeRecord]) -> list[tuple[int, int, bool]]:
    """Copy, first step and whether the episode goes on."""
    found = [Piece.of(record.columns) for record in records]
    return [(piece.copy, piece.start, piece.goes_on) for piece in found]


def test_a_rollout_ends_in_all_copies_at_once_and_episodes_go_on_behind_it() -> None:
    world = piece_world(ScriptedEnv(3), ScriptedEnv(6))
    commands = play(world, STEPS, copies=2)
    records = records_of(commands)
    assert pieces(records) == [(0, 0, False), (0, 0, True), (1, 0, True)]
    assert [len(record.rewards) for record in records] == [3, 1, 4]
    assert [result.length for result in results_of(commands)] == [3]
    assert not world.may_tick
    heard(world, 3)
    seen = observations_of(world.begin_tick())[0]
    assert seen.steps.tolist() == [1, 4], "nothing has begun anew"
    commands = answer(world, copies=2) + play(world, STEPS - 1, copies=2)
    assert pieces(records_of(commands)) == [
        (0, 1, False),
        (1, 4, False),
        (0, 0, True),
        (1, 0, True),
    ]
    assert [result.length for result in results_of(commands)] == [3, 6]


def test_agents_hear_which_step_is_the_last_of_a_rollout() -> None:
    world = piece_world(ScriptedEnv(3), ScriptedEnv(6))
    told: list[bool] = []
    for tick in range(2 * STEPS):
        heard(world, 3 * (tick // STEPS))
        flags = observations_of(world.begin_tick())[0].flags
        assert len(set((flags & wire.LAST).tolist())) == 1
        told.append(bool(flags[0] & wire.LAST))
        answer(world, copies=2)
    assert told == 2 * [False, False, False, True]


def test_an_episode_that_ends_with_its_rollout_is_not_cut() -> None:
    world = piece_world(ScriptedEnv(4))
    records = records_of(play(world, STEPS))
    assert pieces(records) == [(0, 0, False)]
    assert records[0].terminated


def test_who_took_part_before_a_piece_is_said_with_it() -> None:
    # Agent 2 dies with the last step of the rollout, agent 1 before.
    world = piece_world(ScriptedEnv(6, deaths={1: [1], 3: [2]}))
    play(world, STEPS)
    heard(world, 1)
    (record,) = records_of(play(world, 2))
    assert_array_equal(record.columns[PRESENT.name], [[1, 0, 1, 1, 1, 1]])
    assert_array_equal(record.alive[0], [1, 0, 0, 1, 1, 1])
    assert record.columns[PIECE.name].shape == (1, 6, 4)


def test_evaluations_are_played_between_rollouts_and_training_begins_anew_behind_them() -> None:
    world = piece_world(ScriptedEnv(3), ScriptedEnv(9), interval=6, episodes=3)
    modes: list[str] = []
    taken = 0
    while len(modes) < 24:
        heard(world, taken)
        seen = observations_of(world.begin_tick())[0]
        if (seen.flags & wire.REST).all():
            modes.append("-")
        else:
            modes.append("t" if all(explores(seen)) else "e")
            assert all(explores(seen)) or not any(explores(seen))
        taken += len(records_of(answer(world, copies=2)))
    # Three episodes of 3 and 9 steps: the first copy plays two of them.
    first = 9 * "e" + "-"
    assert "".join(modes) == first + 4 * "t" + 9 * "e" + "-"
    assert world.episodes.env_steps == 8


def test_training_ends_with_a_rollout() -> None:
    world = piece_world(ScriptedEnv(3), ScriptedEnv(9), train_steps=9)
    play(world, STEPS, copies=2)
    heard(world, 3)
    assert world.episodes.env_steps == 8
    assert world.may_tick
    play(world, 1, copies=2)
    world.finish_training()
    assert world.phase.value == "training", "what has been begun is played to its end"
    play(world, STEPS - 1, copies=2)
    assert world.phase.value == "trained"
    assert world.episodes.env_steps == 16


def test_a_piece_is_not_whole_where_an_agent_was_missing_nor_the_one_that_follows_a_miss() -> None:
    world = piece_world(ScriptedEnv(20))
    for tick in range(2 * STEPS):
        heard(world, tick // STEPS)
        world.begin_tick()
        commands = answer(world, silent=[5] if tick == STEPS - 1 else [])
        if world.missing:
            commands += world.deadline()
            world.agent_state(5, up=True)
        for record in records_of(commands):
            assert not record.complete, "agent 5 missed the step before the second piece"
    heard(world, 2)
    assert [r.complete for r in records_of(play(world, STEPS))] == [1], "it has been there again"


# --- the pace -------------------------------------------------------------------------------------


def shipped(pace: RolloutPace, count: int) -> None:
    for _ in range(count):
        pace.shipped()
    pace.rollout_ends()


def says(pace: RolloutPace, taken: int, owed: int) -> bool:
    pace.progress(updates_owed=float(owed), episodes_taken=taken, rollouts_owed=owed)
    return pace.keeps_up


def test_the_next_rollout_waits_until_the_last_is_taken_in_and_worked_off() -> None:
    pace = RolloutPace(may_be_ahead=False)
    assert not pace.keeps_up, "there is no learner"
    assert says(pace, 0, 0)
    shipped(pace, 3)
    assert not pace.keeps_up
    assert not says(pace, 2, 0), "a piece is under way"
    assert not says(pace, 3, 1)
    assert says(pace, 3, 0)
    pace.gone()
    assert not pace.keeps_up
    assert says(pace, 1, 0), "another learner, which has lost what it took in"


def test_where_rollouts_overlap_one_may_be_worked_off_beside_the_next() -> None:
    pace = RolloutPace(may_be_ahead=True)
    assert says(pace, 0, 0)
    shipped(pace, 3)
    assert pace.keeps_up, "the first is on its way"
    assert says(pace, 3, 1)
    shipped(pace, 2)
    assert not pace.keeps_up, "two are on their way or worked off"
    assert not says(pace, 4, 1), "the one that is owed is the first"
    assert not says(pace, 5, 2)
    assert says(pace, 5, 1), "the one that is owed is the second"
    assert says(pace, 4, 0), "the first is done, and the second not here"


def test_agents_are_told_once_which_version_a_rollout_is_played_with() -> None:
    world = piece_world(ScriptedEnv(20))
    heard(world, 0, policy_version=3)
    due: list[list[int]] = []
    for tick in range(2 * STEPS):
        if tick >= STEPS:
            heard(world, 1, policy_version=7)
        told = [c.packet for c in world.begin_tick() if isinstance(c, ToAgent) and c.agent == 2]
        due.append([p.policy_version for p in told if isinstance(p, wire.PolicyDue)])
        assert isinstance(told[-1], wire.Observation), "with it the wait begins"
        answer(world)
        if tick == 1:
            heard(world, 0, policy_version=5)  # it comes within the rollout
    assert due == [[3], [], [], [], [7], [], [], []]
    assert np.all(world.episodes.steps_E == 2 * STEPS)
