import pytest

from runtime.host.start_patience import StartPatience
from runtime.net import wire
from runtime.run.conductor import (
    SETTLE_S,
    Conductor,
    End,
    RestartLearner,
    Role,
    Stage,
    StartNode,
    Tell,
)
from runtime.world.episodes import Phase

DEADLINE_S = 120.0
START = Tell("world", wire.Instruction("start"))
FINISH = Tell("learner", wire.Instruction("finish"))
EVALUATE = Tell("world", wire.Instruction("evaluate", 20))
RESUBSCRIBE = Tell("node", wire.Instruction("resubscribe"))
LEARNER_GONE = Tell("world", wire.Instruction("learner_gone"))
EVALUATED = wire.Evaluated(300, 0.75)


def make_conductor(
    *, trains: bool = True, has_learner: bool = True, episodes: int = 20, restarts: int = 2
) -> Conductor:
    return Conductor(
        trains=trains,
        has_learner=has_learner,
        evaluation_episodes=episodes,
        max_learner_restarts=restarts,
        patience=StartPatience(DEADLINE_S, 0.0),
    )


def world_says(phase: Phase) -> wire.WorldState:
    return wire.WorldState(phase.value)


def node_says(version: int) -> wire.NodeState:
    return wire.NodeState(6, version)


def at(stage: Stage, *, episodes: int = 20) -> Conductor:
    """A training run in this stage; the learner's last version is 7, told at 100 s."""
    conductor = make_conductor(episodes=episodes)
    if stage is Stage.STARTING:
        return conductor
    conductor.hello("world", "w")
    conductor.hello("learner", "l")
    conductor.node_ready()
    if stage is not Stage.RUNNING:
        conductor.world_state(world_says(Phase.TRAINED))
    if stage in (Stage.SETTLING, Stage.EVALUATING, Stage.ENDED):
        conductor.trained(7, 100.0)
    if stage in (Stage.EVALUATING, Stage.ENDED):
        conductor.node_state("local", node_says(7))
    if stage is Stage.ENDED:
        conductor.world_state(world_says(Phase.DONE))
    assert conductor.stage is stage
    return conductor


# --- the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("world", "learner"), ("learner", "world")])
def test_the_node_is_started_when_world_and_learner_listen(order: tuple[str, str]) -> None:
    conductor = make_conductor()
    assert conductor.hello(order[0], f"at-{order[0]}") == []
    assert conductor.hello(order[1], f"at-{order[1]}") == [StartNode("at-world", "at-learner")]


def test_without_a_learner_only_the_world_is_awaited() -> None:
    conductor = make_conductor(trains=False, has_learner=False)
    assert conductor.hello("world", "w") == [StartNode("w", "")]


def test_the_node_is_started_once() -> None:
    conductor = at(Stage.RUNNING)
    assert conductor.hello("world", "w") == []
    assert conductor.hello("node", "n") == []


def test_training_begins_when_the_agents_are_ready() -> None:
    conductor = make_conductor()
    conductor.hello("world", "w")
    conductor.hello("learner", "l")
    assert conductor.node_ready() == [START]
    assert conductor.stage is Stage.RUNNING
    assert conductor.node_ready() == []


def test_a_run_that_only_evaluates_begins_with_the_evaluation() -> None:
    conductor = make_conductor(trains=False, has_learner=False)
    conductor.hello("world", "w")
    assert conductor.node_ready() == [START, EVALUATE]
    assert conductor.stage is Stage.EVALUATING
    assert conductor.world_state(world_says(Phase.DONE)) == [End("finished", 0)]


def test_a_start_that_takes_too_long_ends_the_run_and_names_who_is_missing() -> None:
    conductor = make_conductor()
    conductor.hello("world", "w")
    assert conductor.due(DEADLINE_S - 0.1) == []
    more = "--runtime.start-timeout-s gives more time"
    reason = f"not ready in time: the learner process has not started ({more})"
    assert conductor.due(DEADLINE_S) == [End(reason, 1)]


def test_a_start_that_stands_still_says_how_far_it_came_and_how_fast() -> None:
    conductor = make_conductor()
    conductor.hello("world", "w")
    conductor.hello("learner", "l")
    words = ["host local: 3 of 9 agents are up", "3 have not started"]
    conductor.due(0.0, words)
    assert conductor.due(20.0, words, started=6, up=3) == []
    assert conductor.due(20.0 + DEADLINE_S - 0.1, words, started=6, up=3) == []
    reason = (
        "not ready in time: host local: 3 of 9 agents are up, 3 have not started; 0.3 a second "
        "started in the first 20 s, and none has moved on for 120 s (--runtime.start-timeout-s "
        "gives more time, fewer agents need less)"
    )
    assert conductor.due(20.0 + DEADLINE_S, words, started=6, up=3) == [End(reason, 1)]


def test_a_host_that_joins_is_progress_and_the_pace_of_agents_says_nothing_about_others() -> None:
    conductor = make_conductor()
    conductor.hello("world", "w")
    conductor.hello("learner", "l")
    conductor.due(0.0, unjoined=2)
    assert conductor.due(100.0, unjoined=1) == []
    assert conductor.due(DEADLINE_S, unjoined=1) == []
    reason = "not ready in time: host c has not joined (--runtime.start-timeout-s gives more time)"
    assert conductor.due(100.0 + DEADLINE_S, ["host c has not joined"], unjoined=1) == [
        End(reason, 1)
    ]


def test_a_launcher_that_was_suspended_starts_its_patience_anew() -> None:
    conductor = make_conductor()
    conductor.forgive(DEADLINE_S)
    assert conductor.due(2 * DEADLINE_S - 0.1) == []


def test_the_deadline_of_the_start_means_nothing_afterwards() -> None:
    assert at(Stage.RUNNING).due(DEADLINE_S + 1) == []


# --- the course -----------------------------------------------------------------------------------


def test_the_world_hears_what_the_learner_owes() -> None:
    state = wire.LearnerState(updates_owed=3.0, episodes_taken=8)
    assert at(Stage.RUNNING).learner_state(state) == [Tell("world", state)]
    assert at(Stage.EVALUATING).learner_state(state) == []


def test_a_world_that_still_trains_moves_nothing() -> None:
    assert at(Stage.RUNNING).world_state(world_says(Phase.TRAINING)) == []


def test_the_learner_finishes_when_the_world_has_trained() -> None:
    conductor = at(Stage.RUNNING)
    assert conductor.world_state(world_says(Phase.TRAINED)) == [FINISH]
    assert conductor.stage is Stage.FINISHING
    assert conductor.world_state(world_says(Phase.TRAINED)) == []


def test_training_that_is_good_enough_ends_before_all_steps_are_played() -> None:
    conductor, told = at(Stage.RUNNING), Tell("learner", EVALUATED)
    commands = conductor.evaluated(EVALUATED, good_enough=True)
    assert commands == [told, Tell("world", wire.Instruction("finish"))]
    assert conductor.stage is Stage.RUNNING, "the world says when it has trained"
    last = at(Stage.EVALUATING).evaluated(EVALUATED, good_enough=True)
    assert last == [told], "the last evaluation is played to its end"


def test_the_learner_hears_of_every_evaluation_that_has_a_figure() -> None:
    conductor = at(Stage.RUNNING)
    assert conductor.evaluated(EVALUATED, good_enough=False) == [Tell("learner", EVALUATED)]
    assert conductor.evaluated(None, good_enough=False) == []
    alone = make_conductor(trains=False, has_learner=False)
    assert alone.evaluated(EVALUATED, good_enough=False) == []


def test_a_world_is_not_taken_at_its_word_before_the_run_begins() -> None:
    conductor = at(Stage.STARTING)
    assert conductor.world_state(world_says(Phase.TRAINED)) == []
    assert conductor.world_state(world_says(Phase.DONE)) == []


def test_the_last_evaluation_waits_until_every_agent_has_the_last_version() -> None:
    conductor = at(Stage.FINISHING)
    assert conductor.trained(7, 100.0) == []
    assert conductor.stage is Stage.SETTLING
    assert conductor.node_state("local", node_says(6)) == []
    assert conductor.node_state("local", node_says(7)) == [EVALUATE]
    assert conductor.stage is Stage.EVALUATING


def test_the_last_evaluation_does_not_wait_for_ever() -> None:
    conductor = at(Stage.SETTLING)
    assert conductor.due(100.0 + SETTLE_S - 0.1) == []
    assert conductor.due(100.0 + SETTLE_S) == [EVALUATE]
    assert conductor.due(100.0 + SETTLE_S) == []


def test_a_run_without_evaluation_ends_when_the_agents_have_settled() -> None:
    conductor = at(Stage.SETTLING, episodes=0)
    assert conductor.node_state("local", node_says(7)) == [End("finished", 0)]


def test_the_run_is_finished_when_the_world_is_done() -> None:
    conductor = at(Stage.EVALUATING)
    assert conductor.world_state(world_says(Phase.EVALUATING)) == []
    assert conductor.world_state(world_says(Phase.DONE)) == [End("finished", 0)]
    assert conductor.stage is Stage.ENDED


def test_only_the_first_end_counts() -> None:
    conductor = at(Stage.ENDED)
    assert conductor.failed("too late") == []
    assert conductor.interrupted() == []
    assert conductor.died("world", 1) == []


def test_the_world_hears_of_agents_that_come_and_go() -> None:
    state = wire.AgentState(agent=3, incarnation=1, up=0)
    assert at(Stage.RUNNING).agent_state(state) == [Tell("world", state)]


def test_the_last_evaluation_waits_for_the_slowest_host() -> None:
    conductor = at(Stage.FINISHING)
    conductor.node_state("b", node_says(6))
    conductor.trained(7, 100.0)
    assert conductor.node_state("a", node_says(7)) == []
    assert conductor.node_state("b", node_says(7)) == [EVALUATE]


def test_the_words_of_the_wire_are_the_worlds_phases() -> None:
    assert tuple(phase.value for phase in Phase) == wire.PHASES


# --- deaths and interruptions ---------------------------------------------------------------------


@pytest.mark.parametrize("role", ["world", "node"])
def test_without_world_or_node_there_is_no_run(role: Role) -> None:
    reason = f"the {role} process died (signal 9), see logs/{role}-0.log"
    assert at(Stage.RUNNING).died(role, -9) == [End(reason, 1)]


def test_a_learner_that_dies_is_started_again_and_nobody_waits_for_it() -> None:
    conductor = at(Stage.RUNNING)
    assert conductor.died("learner", -9) == [RestartLearner(), LEARNER_GONE]
    assert (conductor.learner_restarts, conductor.stage) == (1, Stage.RUNNING)
    assert conductor.hello("learner", "elsewhere") == [RESUBSCRIBE]


def test_a_learner_that_dies_while_it_finishes_is_told_again_to_finish() -> None:
    conductor = at(Stage.FINISHING)
    conductor.died("learner", 1)
    assert conductor.hello("learner", "elsewhere") == [RESUBSCRIBE, FINISH]
    conductor.trained(7, 100.0)
    assert conductor.stage is Stage.SETTLING


def test_a_learner_that_keeps_dying_ends_the_run() -> None:
    conductor = at(Stage.RUNNING)
    for _ in range(2):
        conductor.died("learner", 1)
        conductor.hello("learner", "l")
    assert conductor.died("learner", 1) == [
        End("the learner process died (exit code 1), see logs/learner-0.log, after 2 restarts", 1)
    ]


def test_a_learner_that_dies_before_the_node_was_started_ends_the_run() -> None:
    conductor = at(Stage.STARTING)
    (command,) = conductor.died("learner", 1)
    assert isinstance(command, End)
    assert command.exit_code == 1


def test_a_failure_ends_the_run_with_its_own_words() -> None:
    assert at(Stage.RUNNING).failed("agent 3 is gone") == [End("agent 3 is gone", 1)]


def test_ctrl_c_ends_the_run_with_its_own_exit_code() -> None:
    assert at(Stage.RUNNING).interrupted() == [End("interrupted", 130)]


@pytest.mark.parametrize("role", ["world", "node"])
def test_who_was_killed_for_its_silence_is_said_to_have_hung(role: Role) -> None:
    (command,) = at(Stage.RUNNING).died(role, -9, is_hung=True)
    assert command == End(f"the {role} process hung and was killed, see logs/{role}-0.log", 1)
