"""Copies that wait for each other, so that all training episodes of a round begin together."""

from dataclasses import replace

from tests.world_helpers import (
    ScriptedEnv,
    answer,
    make_rules,
    make_world,
    observations_of,
    records_of,
)

LENGTHS = (2, 4, 3)


def steps_told(in_rounds: bool, ticks: int) -> list[list[int]]:
    """[E] steps of the copies that play, tick by tick; -1 of one that rests."""
    rules = replace(make_rules(max_backlog=1000), in_rounds=in_rounds)
    world = make_world(*(ScriptedEnv(length) for length in LENGTHS), rules=rules)
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    told: list[list[int]] = []
    for _ in range(ticks):
        seen = observations_of(world.begin_tick())[0]
        rests = (seen.flags & 8).astype(bool).tolist()
        told.append([-1 if r else s for r, s in zip(rests, seen.steps.tolist(), strict=True)])
        answer(world, copies=len(LENGTHS))
    return told


def test_without_rounds_every_copy_goes_on_at_once() -> None:
    assert steps_told(False, 4) == [[0, 0, 0], [1, 1, 1], [0, 2, 2], [1, 3, 0]]


def test_in_rounds_a_copy_rests_until_the_longest_episode_is_over() -> None:
    one = [[0, 0, 0], [1, 1, 1], [-1, 2, 2], [-1, 3, -1], [-1, -1, -1]]
    assert steps_told(True, 10) == [*one, *one], "with the last agents hear that all has ended"


def test_every_episode_of_a_round_is_recorded_once() -> None:
    rules = replace(make_rules(max_backlog=1000), in_rounds=True)
    world = make_world(*(ScriptedEnv(length) for length in LENGTHS), rules=rules)
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    numbers: list[int] = []
    for _ in range(9):
        world.begin_tick()
        numbers += [r.episode for r in records_of(answer(world, copies=len(LENGTHS)))]
    assert sorted(numbers) == list(range(6))


def test_rounds_end_with_the_training() -> None:
    rules = replace(make_rules(train_steps=9, max_backlog=1000), in_rounds=True)
    world = make_world(*(ScriptedEnv(length) for length in LENGTHS), rules=rules)
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    while world.may_tick:
        world.begin_tick()
        answer(world, copies=len(LENGTHS))
    assert world.phase.value == "trained"
    assert world.episodes.env_steps == 9
