"""Episodes: which train, which evaluate, what is reported of them, when the world is done."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.schema import GateTiming
from runtime.net import wire
from runtime.world.commands import Refused, WorldCommand
from runtime.world.episodes import Phase
from runtime.world.lockstep import World
from tests.world_helpers import (
    NUM_AGENTS,
    ScriptedEnv,
    action,
    answer,
    explores,
    lives,
    make_rules,
    make_world,
    observations_of,
    play,
    play_out,
    record_of,
    records_of,
    result_of,
    results_of,
)

ALL = [1.0] * NUM_AGENTS


def kinds_at(world: World) -> list[bool]:
    """[E] whether each copy trains, as the agents are told; plays one tick."""
    told = observations_of(world.begin_tick())
    copies = len(told[0].steps)
    kinds = explores(told[0])
    answer(world, copies=copies)
    return kinds


# --- what an episode leaves behind ----------------------------------------------------------------


def test_a_record_has_one_more_state_than_rewards_and_the_last_observations() -> None:
    world = make_world(ScriptedEnv(3, deaths={0: [4]}))
    commands = []
    for step in range(3):
        world.begin_tick()
        commands = answer(world, actions={1: step, 4: 2})
    record = record_of(commands)
    assert_array_equal(record.states, [[0], [1], [2], [3]])
    assert_array_equal(record.rewards, [[0, 0, 0, 0, 2, 0], [0, 1, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0]])
    assert_array_equal(record.alive, [ALL] + [[1, 1, 1, 1, 0, 1]] * 3)
    # What would be seen at step 3, of this episode and not of the next.
    assert_array_equal(record.final_observations[:, 1], [3, 3, 3, 3, 0, 3])
    assert_array_equal(record.final_observations[:, 2], np.zeros(NUM_AGENTS))
    assert record.final_observations.dtype == np.float16
    assert record.complete == 1


def test_a_record_survives_the_wire() -> None:
    record = record_of(play(make_world(ScriptedEnv(2)), 2))
    decoded = wire.decode(wire.encode(record))
    assert isinstance(decoded, wire.EpisodeRecord)
    assert_array_equal(decoded.states, record.states)


@pytest.mark.parametrize("terminates", [True, False])
def test_a_record_says_whether_the_task_ended_or_time_ran_out(terminates: bool) -> None:
    world = make_world(ScriptedEnv(2, terminates=terminates))
    assert record_of(play(world, 2)).terminated == int(terminates)


def test_a_return_is_the_sum_over_steps_of_the_mean_over_all_agents() -> None:
    # Agent 4 dies with the first step; the dead count as zero and stay in the mean.
    world = make_world(ScriptedEnv(2, deaths={0: [4]}))
    commands = []
    for _ in range(2):
        world.begin_tick()
        commands = answer(world, actions=dict.fromkeys(range(NUM_AGENTS), 2))
    result = result_of(commands)
    assert result.episode_return == pytest.approx(2 * (6 + 5) / 6)
    assert (result.length, result.env_steps, result.won) == (2, 2, 0)


def test_a_won_episode_is_reported_as_won() -> None:
    assert result_of(play(make_world(ScriptedEnv(1, won=True)))).won == 1


def test_records_and_results_go_by_the_number_that_agents_were_told() -> None:
    world = make_world(ScriptedEnv(2), ScriptedEnv(1), episodes=10)
    told = observations_of(world.begin_tick())
    assert told[0].episodes.tolist() == [10, 11]
    commands = answer(world, copies=2)
    assert (record_of(commands).episode, result_of(commands).episode) == (11, 11)
    commands = play(world, copies=2)
    assert [record.episode for record in records_of(commands)] == [10, 12]
    assert world.episodes.num_begun == 15


# --- training -------------------------------------------------------------------------------------


def test_every_copy_that_trains_counts_its_steps() -> None:
    world = make_world(ScriptedEnv(9), ScriptedEnv(9), env_steps=100)
    play(world, 3, copies=2)
    assert world.episodes.env_steps == 106


def test_epsilon_follows_the_training_steps() -> None:
    rules = make_rules(epsilon=lambda steps: 1.0 / (1 + steps))
    world = make_world(ScriptedEnv(9), ScriptedEnv(9), rules=rules)
    assert observations_of(world.begin_tick())[0].epsilon == 1.0
    answer(world, copies=2)
    assert observations_of(world.begin_tick())[3].epsilon == pytest.approx(1 / 3)


def test_training_ends_when_its_steps_are_done() -> None:
    world = make_world(ScriptedEnv(3), ScriptedEnv(3), rules=make_rules(train_steps=5))
    play_out(world, copies=2)
    assert (world.phase, world.episodes.env_steps) == (Phase.TRAINED, 6)
    assert not world.may_tick


def test_a_run_that_continues_a_finished_one_has_nothing_to_train() -> None:
    world = make_world(rules=make_rules(train_steps=5), env_steps=5)
    assert world.phase is Phase.TRAINED
    assert not world.may_tick


@pytest.mark.parametrize(
    ("ships", "shipped"), [("training", [False]), ("all", [True, False]), ("none", [])]
)
def test_what_is_shipped_to_the_learner(ships: str, shipped: list[bool]) -> None:
    # One evaluation episode, then training.
    rules = make_rules(ships=ships, interval=1000, episodes=1)
    commands = play(make_world(ScriptedEnv(2), rules=rules), 4)
    kind = {result.episode: bool(result.evaluation) for result in results_of(commands)}
    assert list(kind.values()) == [True, False]
    assert [kind[record.episode] for record in records_of(commands)] == shipped


# --- the learner keeps up, or is waited for -------------------------------------------------------


def test_a_backlog_holds_the_world_until_it_is_worked_off() -> None:
    world = make_world(ScriptedEnv(9), rules=make_rules(max_backlog=2))
    world.learner.progress(updates_owed=3.0, episodes_taken=0)
    assert not world.may_tick
    world.learner.progress(updates_owed=2.0, episodes_taken=0)
    assert world.may_tick


def test_episodes_under_way_to_the_learner_count_as_updates_owed() -> None:
    rules = make_rules(max_backlog=2, updates_per_episode=0.5)
    world = make_world(ScriptedEnv(1), rules=rules)
    world.learner.progress(updates_owed=1.0, episodes_taken=0)
    play(world, 4)
    assert world.learner.backlog == 1.0 + 4 * 0.5
    assert not world.may_tick
    world.learner.progress(updates_owed=1.0, episodes_taken=2)
    assert world.learner.backlog == 2.0


def test_episodes_that_end_together_do_not_hold_up_the_tick_that_has_agents_ship_them() -> None:
    rules = make_rules(max_backlog=2)
    world = make_world(*(ScriptedEnv(2) for _ in range(5)), rules=rules)
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    play(world, 2, copies=5)
    assert world.learner.backlog == 5.0, "no agent knows yet that its episodes have ended"
    assert world.may_tick
    play(world, copies=5)
    assert not world.may_tick
    world.learner.progress(updates_owed=0.0, episodes_taken=5)
    assert world.may_tick


def test_evaluation_episodes_owe_nothing() -> None:
    rules = make_rules(ships="training", interval=1000, episodes=3)
    world = make_world(ScriptedEnv(1), rules=rules)
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    play(world, 3)
    assert world.learner.backlog == 0.0
    play(world)
    assert world.learner.backlog == 1.0


def test_a_world_without_a_learner_waits_for_none() -> None:
    world = make_world(ScriptedEnv(1), rules=make_rules(max_backlog=2))
    play(world, 9)
    assert world.learner.backlog == 0.0
    world.learner.progress(updates_owed=99.0, episodes_taken=0)
    world.learner.gone()
    assert world.may_tick


def test_a_learner_that_was_started_again_owes_only_what_came_after() -> None:
    world = make_world(ScriptedEnv(1), rules=make_rules(max_backlog=2))
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    play(world, 2)
    world.learner.gone()
    play(world, 5)
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    assert world.learner.backlog == 0.0
    play(world)
    assert world.learner.backlog == 1.0


def test_a_dead_learners_last_word_does_not_make_the_world_wait_for_ever() -> None:
    world = make_world(ScriptedEnv(1), rules=make_rules(max_backlog=2))
    world.learner.progress(updates_owed=0.0, episodes_taken=500)
    world.learner.gone()
    world.learner.progress(updates_owed=1.0, episodes_taken=510)  # it was still on its way
    world.learner.progress(updates_owed=0.0, episodes_taken=480)  # back to its checkpoint
    assert world.learner.backlog == 0.0
    play(world, 2)
    world.learner.progress(updates_owed=0.0, episodes_taken=482)
    assert world.learner.backlog == 0.0


def test_episodes_that_a_new_learner_gets_again_do_not_let_the_world_run_away() -> None:
    world = make_world(ScriptedEnv(1), rules=make_rules(max_backlog=2))
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    play(world, 2)
    world.learner.gone()
    world.learner.progress(updates_owed=0.0, episodes_taken=0)
    world.learner.progress(updates_owed=0.0, episodes_taken=2)  # those two, sent once more
    play(world, 4)
    assert world.learner.backlog == 4.0
    assert not world.may_tick


def test_the_last_evaluation_waits_for_no_learner() -> None:
    world = make_world(rules=make_rules(train_steps=0))
    world.learner.progress(updates_owed=99.0, episodes_taken=0)
    world.evaluate(1)
    assert world.may_tick


# --- evaluation -----------------------------------------------------------------------------------


def test_training_begins_with_an_evaluation_and_repeats_it_after_the_interval() -> None:
    rules = make_rules(interval=4, episodes=1, train_steps=9)
    world = make_world(ScriptedEnv(2), rules=rules)
    kinds = [bool(result.evaluation) for result in results_of(play_out(world))]
    # The third training episode has begun with the very step that completed the interval.
    assert kinds == [True, False, False, False, True, False]
    assert world.episodes.env_steps == 9


def test_steps_of_evaluation_copies_are_not_counted_and_not_explored() -> None:
    world = make_world(ScriptedEnv(2), ScriptedEnv(2), rules=make_rules(interval=1000, episodes=1))
    assert [kinds_at(world) for _ in range(3)] == [[False, True]] * 2 + [[True, True]]
    assert world.episodes.env_steps == 1 + 1 + 2


def test_evaluation_episodes_are_counted_in_the_order_in_which_they_began() -> None:
    # The first copy plays long episodes, the second short ones: the short ones must not be
    # preferred, so the long one that began first counts.
    world = make_world(ScriptedEnv(5), ScriptedEnv(1), rules=make_rules(interval=1000, episodes=3))
    results = results_of(play(world, 6, copies=2))
    assert [r.length for r in results if r.evaluation] == [1, 1, 5]
    assert [r.episode for r in results if r.evaluation] == [1, 2, 0]
    assert world.episodes.evaluations_left == 0


def test_without_an_interval_there_is_no_evaluation_until_it_is_asked_for() -> None:
    world = make_world(ScriptedEnv(2), rules=make_rules(episodes=5, train_steps=8))
    assert not any(result.evaluation for result in results_of(play_out(world)))


def test_the_last_evaluation_plays_its_episodes_and_then_the_world_is_done() -> None:
    world = make_world(ScriptedEnv(2), ScriptedEnv(3), rules=make_rules(train_steps=4))
    play_out(world, copies=2)
    world.evaluate(3)
    assert world.phase is Phase.EVALUATING
    results = results_of(play_out(world, copies=2))
    assert [(r.evaluation, r.length) for r in results] == [(1, 2), (1, 3), (1, 2)]
    assert (world.phase, world.episodes.env_steps) == (Phase.DONE, 4)
    assert not world.may_tick


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_copies_that_an_evaluation_does_not_need_rest(timing: GateTiming, relay: bool) -> None:
    envs = ScriptedEnv(3), ScriptedEnv(1), ScriptedEnv(5)
    rules = make_rules(train_steps=0, timing=timing, relay=relay)
    world = make_world(*envs, rules=rules)
    world.evaluate(2)
    told: list[list[list[bool]]] = []
    commands: list[WorldCommand] = []
    while world.may_tick:
        asked = world.begin_tick()
        if timing == "paper":
            for agent in range(NUM_AGENTS):
                world.gates(agent, wire.Gates(world.tick, np.zeros(3, np.uint16)))
        observation = observations_of(asked)[0]
        told.append([lives(observation), ((observation.flags & wire.REST) != 0).tolist()])
        assert not explores(observation)[2]
        # With the dead relaying, somebody who is not alive may be there all the same.
        present = observation.peer_masks != 0
        assert not present[1:].any() or world.tick == 1 or timing == "paper"
        assert not present[2]
        commands += answer(world, copies=3)
    assert told[0] == [[True, True, False], [False, False, True]]
    assert told[1:] == [[[True, False, False], [False, True, True]]] * 2
    assert [result.length for result in results_of(commands)] == [1, 3]
    assert [record.episode for record in records_of(commands)] == [1, 0]
    assert [len(env.played) for env in envs] == [3, 1, 0]
    figures = world.kill.aftermath.figures()
    assert figures["evaluated_agent_steps"] == (3 + 1) * NUM_AGENTS


def test_the_last_evaluation_begins_with_fresh_episodes() -> None:
    world = make_world(ScriptedEnv(9), rules=make_rules(train_steps=1))
    world.begin_tick()
    answer(world, masks=dict.fromkeys(range(NUM_AGENTS), 0b111))
    assert world.phase is Phase.TRAINED
    world.evaluate(1)
    told = observations_of(world.begin_tick())[0]
    assert (told.steps.tolist(), told.episodes.tolist()) == ([0], [1])
    assert (told.in_masks.tolist(), told.beacon_masks.tolist()) == ([0], [0])


def test_an_evaluation_under_way_at_the_end_of_training_is_not_counted_twice() -> None:
    rules = make_rules(interval=2, episodes=1, train_steps=6)
    world = make_world(ScriptedEnv(9), ScriptedEnv(1), rules=rules)
    play_out(world, copies=2)
    world.evaluate(2)
    results = results_of(play_out(world, copies=2))
    assert [result.evaluation for result in results] == [1, 1]
    assert world.phase is Phase.DONE


def test_an_episode_says_at_which_training_step_its_evaluation_fell_due() -> None:
    # Two evaluations that overlap: the second falls due while the first still plays.
    rules = make_rules(interval=4, episodes=2, train_steps=12)
    world = make_world(ScriptedEnv(9), ScriptedEnv(1), rules=rules)
    played = [(r.evaluation, r.evaluated_at) for r in results_of(play_out(world, copies=2))]
    assert [at for evaluation, at in played if evaluation][:4] == [0, 4, 4, 0]
    assert {at for evaluation, at in played if not evaluation} == {0}
    world.evaluate(3)
    assert [r.evaluated_at for r in results_of(play_out(world, copies=2))] == [12, 12, 12]


def test_a_farewell_tells_agents_what_is_over_and_asks_for_nothing() -> None:
    world = make_world(ScriptedEnv(2), rules=make_rules(train_steps=2))
    play_out(world)
    told = observations_of(world.farewell())
    assert sorted(told) == list(range(NUM_AGENTS))
    assert (told[0].tick, told[0].steps.tolist(), told[0].episodes.tolist()) == (3, [0], [1])
    assert not world.waits_for_agents
    assert world.missing == []
    # Agents answer, once: that is nothing to be refused.
    assert world.action(2, action(world.tick)) == []
    assert world.action(2, action(world.tick)) == [Refused(2, "stale")]


def test_training_that_is_good_enough_ends_at_once_or_with_the_tick_under_way() -> None:
    world = make_world(ScriptedEnv(9), rules=make_rules(train_steps=100))
    play(world)
    world.finish_training()
    assert world.phase is Phase.TRAINED
    assert not world.may_tick
    world = make_world(ScriptedEnv(9), rules=make_rules(train_steps=100))
    world.begin_tick()
    world.finish_training()
    assert world.phase is Phase.TRAINING, "agents are about to answer"
    answer(world)
    assert (world.phase, world.episodes.env_steps) == (Phase.TRAINED, 1)
    world.evaluate(1)
    world.finish_training()
    assert len(results_of(play_out(world))) == 1


def test_a_world_waits_for_its_learner_only_where_it_could_play() -> None:
    world = make_world(ScriptedEnv(1), rules=make_rules(train_steps=4, max_backlog=2))
    world.learner.progress(updates_owed=3.0, episodes_taken=0)
    assert world.waits_for_learner
    world.learner.progress(updates_owed=1.0, episodes_taken=0)
    assert not world.waits_for_learner
    world.begin_tick()
    world.learner.progress(updates_owed=3.0, episodes_taken=0)
    assert not world.waits_for_learner, "it waits for agents"
    answer(world)
    world.finish_training()
    assert not world.waits_for_learner, "there is nothing to be played"
