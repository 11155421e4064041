import dataclasses

import numpy as np
import pytest

from envs.opponent_schedule import OpponentSchedule
from runtime.world.lockstep import World
from tests.world_helpers import ScriptedEnv, make_rules, make_world, play_out, results_of

THREE = "random@0, random+scripted@50, scripted+file.safetensors+scripted@150"


def drawn(schedule: OpponentSchedule, env_steps: int) -> list[str]:
    """Who is drawn at even chances."""
    return [schedule.names[schedule.draw(env_steps, chance)] for chance in np.arange(6) / 6]


def test_a_name_alone_is_met_from_beginning_to_end() -> None:
    schedule = OpponentSchedule.parse("random")
    assert drawn(schedule, 0) == drawn(schedule, 10**9) == ["random"] * 6
    assert [schedule.in_turn(i) for i in range(3)] == [0, 0, 0]


def test_each_phase_begins_at_its_step() -> None:
    schedule = OpponentSchedule.parse(THREE)
    assert schedule.names == ("random", "scripted", "file.safetensors")
    assert drawn(schedule, 0) == drawn(schedule, 49) == ["random"] * 6
    assert drawn(schedule, 50) == drawn(schedule, 149) == ["random"] * 3 + ["scripted"] * 3


def test_who_is_named_twice_plays_twice_as_often() -> None:
    last = drawn(OpponentSchedule.parse(THREE), 150)
    assert last == ["scripted"] * 2 + ["file.safetensors"] * 2 + ["scripted"] * 2


def test_evaluations_meet_the_last_phase_or_whom_they_are_told_to() -> None:
    schedule = OpponentSchedule.parse(THREE)
    assert [schedule.names[schedule.in_turn(i)] for i in range(4)] == [
        "scripted",
        "file.safetensors",
        "scripted",
        "scripted",
    ]
    other = OpponentSchedule.parse(THREE, "random+another.safetensors")
    assert other.names[-1] == "another.safetensors"
    assert [other.names[other.in_turn(i)] for i in range(3)] == [
        "random",
        "another.safetensors",
        "random",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("random@5", "begin at 0"),
        ("random@0,scripted@0", "rise"),
        ("random@9,scripted@3", "rise"),
        ("random,scripted", "when it begins"),
        ("random@x", "when it begins"),
        ("random+@0", "unnamed"),
        ("@0", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OpponentSchedule.parse(text)


# --- in the world ---------------------------------------------------------------------------------


def scheduled(text: str, *, seed: int = 0) -> World:
    schedule = OpponentSchedule.parse(text)
    rules = dataclasses.replace(make_rules(train_steps=40), opponents=schedule, seed=seed)
    return make_world(ScriptedEnv(1), ScriptedEnv(1), rules=rules)


def opponents_met(world: World) -> list[int]:
    return [
        result.opponent for result in results_of(play_out(world, copies=2)) if not result.evaluation
    ]


def test_episodes_meet_whom_the_schedule_says() -> None:
    met = opponents_met(scheduled("random@0,scripted@20"))
    assert met[:20] == [0] * 20
    assert met[24:] == [1] * len(met[24:])
    assert len(met) == 40


def test_the_draw_depends_on_seed_and_episode_alone() -> None:
    mixed = "random+scripted@0"
    first, again = opponents_met(scheduled(mixed)), opponents_met(scheduled(mixed))
    assert first == again
    assert set(first) == {0, 1}
    assert opponents_met(scheduled(mixed, seed=1)) != first


def test_every_evaluation_gives_each_opponent_the_same_share() -> None:
    rules = make_rules(interval=2, episodes=2, train_steps=6)
    schedule = OpponentSchedule.parse("random+scripted+idqn")
    world = make_world(ScriptedEnv(1), rules=dataclasses.replace(rules, opponents=schedule))
    met = [(r.evaluated_at, r.opponent) for r in results_of(play_out(world)) if r.evaluation]
    assert met == [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1)]
