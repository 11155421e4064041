"""A guide in the learner: asked once a tick, waited for, asked again, and followed."""

from dataclasses import replace

import numpy as np
import pytest

from runtime.net import wire
from runtime.world.commands import AskGuide, Refused, WorldCommand
from runtime.world.lockstep import World
from tests.world_helpers import NUM_AGENTS, ScriptedEnv, answer, make_rules, make_world, record_of

ADVICE = 2
LOG_PROB = -0.5
RULES = replace(make_rules(), asks="training", columns=("guided", "guide_log_prob"))


def asked_of(commands: list[WorldCommand]) -> list[wire.GuideQuestion]:
    return [command.packet for command in commands if isinstance(command, AskGuide)]


def says(
    question: wire.GuideQuestion, action: int = ADVICE, *, tick: int | None = None
) -> wire.GuideAnswer:
    shape = question.alive.shape
    return wire.GuideAnswer(
        tick=question.tick if tick is None else tick,
        actions=np.full(shape, action, dtype=np.uint8),
        log_probs=np.full(shape, LOG_PROB, dtype=np.float32),
    )


def step(world: World) -> list[WorldCommand]:
    """One tick in which agents and guide answer."""
    (question,) = asked_of(world.begin_tick())
    commands = answer(world)
    return commands + world.guide(says(question))


def test_it_is_shown_what_all_agents_see_in_every_copy() -> None:
    env = ScriptedEnv(5, deaths={0: [3]})
    world = make_world(env, rules=RULES)
    step(world)
    (question,) = asked_of(world.begin_tick())
    assert question.tick == 2
    assert question.steps.tolist() == [1]
    assert question.observations.shape == (1, NUM_AGENTS, 3)
    assert question.observations[0, :, 0].tolist() == [0, 1, 2, 0, 4, 5]  # the dead see zeros
    assert question.alive[0].tolist() == [1, 1, 1, 0, 1, 1]
    assert question.flags.tolist() == [wire.EXPLORE]
    assert question.action_masks.size == 0


@pytest.mark.parametrize("guide_first", [True, False])
def test_a_tick_ends_when_all_agents_and_the_guide_have_answered(guide_first: bool) -> None:
    env = ScriptedEnv(5)
    world = make_world(env, rules=RULES)
    (question,) = asked_of(world.begin_tick())
    if guide_first:
        world.guide(says(question))
        assert not env.played
        answer(world)
    else:
        answer(world)
        assert world.waits_for_guide
        assert not env.played
        world.guide(says(question))
    assert env.played == [[ADVICE] * NUM_AGENTS]
    assert world.may_tick


def test_what_it_plays_is_recorded_with_its_log_probability() -> None:
    env = ScriptedEnv(2, deaths={0: [4]})
    world = make_world(env, rules=RULES)
    record = record_of(step(world) + step(world))
    alive = record.alive[:-1].astype(bool)
    assert (record.actions[alive] == ADVICE).all()
    assert (record.columns["guided"] == alive).all()
    assert (record.columns["guide_log_prob"] == np.float32(LOG_PROB)).all()


def test_an_absent_agent_is_not_led() -> None:
    world = make_world(env := ScriptedEnv(5), rules=RULES)
    (question,) = asked_of(world.begin_tick())
    answer(world, silent=[2])
    world.guide(says(question))
    assert not env.played
    world.deadline()
    assert env.played[0][2] == env.spec.noop_action
    assert env.played[0][1] == ADVICE


def test_a_guide_that_does_not_answer_is_asked_again_and_nobody_is_blamed() -> None:
    world = make_world(env := ScriptedEnv(5), rules=RULES)
    (question,) = asked_of(world.begin_tick())
    answer(world)
    for _ in range(3):
        (again,) = asked_of(world.deadline())
        assert again is question
    assert world.missed_deadlines == 0
    assert not env.played
    world.guide(says(question))
    assert world.guide(says(question)) == [], "the second answer comes too late, and is no fault"
    assert len(env.played) == 1


def test_agents_that_miss_the_deadline_do_not_end_the_tick_before_the_guide_does() -> None:
    world = make_world(env := ScriptedEnv(5), rules=RULES)
    (question,) = asked_of(world.begin_tick())
    answer(world, silent=[0])
    world.deadline()
    assert world.missed_deadlines == 1
    assert not env.played
    world.guide(says(question))
    assert len(env.played) == 1


def test_answers_that_do_not_fit_change_nothing() -> None:
    world = make_world(env := ScriptedEnv(5), rules=RULES)
    (question,) = asked_of(world.begin_tick())
    answer(world)
    assert world.guide(says(question, 4)) == [Refused(None, "range")]
    narrow = replace(says(question), actions=np.zeros((1, 2), dtype=np.uint8))
    assert world.guide(narrow) == [Refused(None, "shape")]
    assert world.guide(says(question, tick=7)) == []
    assert not env.played
    plain = make_world(ScriptedEnv(5))
    plain.begin_tick()
    assert plain.guide(says(question)) == [Refused(None, "stale")]


@pytest.mark.parametrize("asks", ["training", "always"])
def test_evaluations_are_the_agents_own_unless_they_have_learnt_nothing(asks: str) -> None:
    rules = replace(RULES, asks=asks)  # type: ignore[arg-type]  # one of its words
    world = make_world(env := ScriptedEnv(2), rules=rules)
    world.evaluate(1)
    told = asked_of(world.begin_tick())
    answer(world)
    if asks == "training":
        assert told == []
    else:
        assert told[0].flags.tolist() == [0]
        world.guide(says(told[0]))
    assert env.played == [[0 if asks == "training" else ADVICE] * NUM_AGENTS]
