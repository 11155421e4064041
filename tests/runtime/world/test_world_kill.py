"""The world has agents killed: exactly when, what it waits for, and what goes on without them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.schema import GateTiming
from envs.copies import Copies
from runtime.run.serial import SerialRun
from runtime.world.commands import Kill, WorldCommand
from runtime.world.episodes import Phase
from runtime.world.lockstep import World
from runtime.world.rules import WorldRules
from tests import agents_helpers
from tests.agents_helpers import OPEN_ALL, make_flat, make_spec
from tests.world_helpers import (
    NOOP,
    NUM_AGENTS,
    ScriptedEnv,
    answer,
    make_rules,
    make_world,
    observations_of,
    results_of,
)

VICTIMS = (1, 4)
SPARED = [0, 2, 3, 5]
EVERY_EDGE = 0b111


def rules(kill_at: int, *, timing: GateTiming = "causal", relay: bool = False) -> WorldRules:
    base = make_rules(train_steps=0, timing=timing, relay=relay, ships="none")
    return dataclasses.replace(base, victims=VICTIMS, kill_at=kill_at)


def evaluating(
    *envs: ScriptedEnv, kill_at: int, episodes: int | None = None, relay: bool = False
) -> World:
    envs = envs or (ScriptedEnv(5),)
    world = make_world(*envs, rules=rules(kill_at, relay=relay))
    world.evaluate(len(envs) if episodes is None else episodes)
    return world


def tick(world: World, *, masks: int = 0) -> list[WorldCommand]:
    """A tick in which every agent plays 0 over these edges."""
    commands = world.begin_tick()
    copies = len(next(iter(observations_of(commands).values())).steps)
    commands += answer(world, copies=copies, masks=dict.fromkeys(range(NUM_AGENTS), masks))
    return commands


def bury(world: World, agents: Sequence[int] = VICTIMS) -> None:
    for agent in agents:
        assert world.agent_state(agent, up=False) == []


@pytest.mark.parametrize("kill_at", [0, 1, 3])
def test_the_world_stops_before_the_step_and_asks_for_the_kill_once(kill_at: int) -> None:
    env = ScriptedEnv(5)
    world = evaluating(env, kill_at=kill_at)
    for _ in range(kill_at):
        assert not any(isinstance(command, Kill) for command in tick(world))
    assert world.kill.killed == ()
    before = world.tick
    assert world.begin_tick() == [Kill(1), Kill(4)]
    assert world.kill.killed == VICTIMS
    assert world.tick == before, "no tick has begun"
    assert len(env.played) == kill_at, "and no step been played"
    assert not world.may_tick
    bury(world)
    for _ in range(5 - kill_at):
        assert not any(isinstance(command, Kill) for command in tick(world))
    assert world.phase is Phase.DONE


def test_nothing_moves_until_every_death_is_known() -> None:
    world = evaluating(kill_at=1)
    tick(world)
    world.begin_tick()
    world.agent_state(4, up=False)
    assert not world.may_tick
    world.agent_state(2, up=True)  # somebody else's news is no reason to go on
    assert not world.may_tick
    world.agent_state(1, up=False)
    assert world.may_tick


def test_who_is_down_already_is_not_waited_for() -> None:
    world = evaluating(kill_at=1)
    tick(world)
    world.agent_state(1, up=False)
    world.agent_state(4, up=False)
    assert world.begin_tick() == [Kill(1), Kill(4)], "or the node would start them again"
    assert world.may_tick


def test_the_rest_of_the_episode_is_played_without_the_killed_whose_bodies_stand_still() -> None:
    env = ScriptedEnv(4)
    world = evaluating(env, kill_at=2)
    tick(world)
    tick(world)
    world.begin_tick()
    bury(world)
    assert sorted(observations_of(world.begin_tick())) == SPARED
    assert world.missing == SPARED
    answer(world)
    tick(world)
    assert env.played[1] == [0] * NUM_AGENTS
    assert env.played[2] == env.played[3] == [0, NOOP, 0, 0, NOOP, 0]


@pytest.mark.parametrize("relay", [False, True])
def test_nobody_waits_for_the_last_words_of_the_killed_or_counts_on_their_beacons(
    relay: bool,
) -> None:
    world = evaluating(kill_at=1, relay=relay)
    tick(world, masks=EVERY_EDGE)
    world.begin_tick()
    bury(world)
    # Offsets 1, 2 and 4: in-neighbours of agent 0 are 5, 4 and 2, out-neighbours 1, 2 and 4.
    first = observations_of(world.begin_tick())
    assert_array_equal(first[0].in_masks, [0b101])
    assert_array_equal(first[0].beacon_masks, [0b010])
    # Those of agent 2: 1, 0 and 4, and 3, 4 and 0.
    assert_array_equal(first[2].in_masks, [0b010])
    assert_array_equal(first[2].beacon_masks, [0b101])
    answer(world, masks=dict.fromkeys(SPARED, EVERY_EDGE))
    later = observations_of(world.begin_tick())
    assert_array_equal(later[0].in_masks, [0b101])
    assert_array_equal(later[0].beacon_masks, [0b010])


def test_all_copies_see_the_kill_at_the_same_step() -> None:
    envs = ScriptedEnv(2), ScriptedEnv(5), ScriptedEnv(4)
    world = evaluating(*envs, kill_at=3)
    for _ in range(3):
        tick(world)
    assert world.begin_tick() == [Kill(1), Kill(4)]
    bury(world)
    # The first has ended after two steps, and rests since.
    assert [len(env.played) for env in envs] == [2, 3, 3]
    results = results_of([*tick(world), *tick(world)])
    assert [result.length for result in results] == [4, 5]


def test_no_episode_that_lasts_so_long_no_kill() -> None:
    world = evaluating(ScriptedEnv(2), ScriptedEnv(3), kill_at=3)
    for _ in range(3):
        assert not any(isinstance(command, Kill) for command in tick(world))
    assert world.phase is Phase.DONE
    assert world.kill.killed == ()
    assert not world.may_tick


def test_only_evaluations_kill() -> None:
    training = make_rules(train_steps=100, ships="none", max_backlog=1000)
    world = make_world(rules=dataclasses.replace(training, victims=VICTIMS, kill_at=0))
    for _ in range(5):
        assert not any(isinstance(command, Kill) for command in tick(world))


def test_figures_speak_of_the_episodes_that_count_before_and_after() -> None:
    world = evaluating(ScriptedEnv(2), ScriptedEnv(4), kill_at=2)
    tick(world, masks=0b1)
    tick(world, masks=0b1)
    world.begin_tick()
    bury(world)
    # The first copy's episode is over: from here on it only keeps the other one company.
    tick(world, masks=0b11)
    tick(world, masks=0b11)
    figures = world.kill.aftermath.figures()
    assert figures["evaluated_agent_steps"] == 2 * 2 * NUM_AGENTS + 2 * len(SPARED)
    assert figures["agent_steps_after_kill"] == 2 * len(SPARED)
    assert figures["edges_open_after_kill"] == 2 * 2 * len(SPARED)
    assert figures["evaluated_edges_open"] == 2 * 2 * NUM_AGENTS + 2 * 2 * len(SPARED)


def test_the_spared_return_leaves_the_idle_bodies_out() -> None:
    """An action is its reward here: the spared play 0, the bodies of the killed NOOP."""
    world = evaluating(ScriptedEnv(3), kill_at=1)
    tick(world)
    world.begin_tick()
    bury(world)
    (result,) = results_of([*tick(world), *tick(world)])
    assert result.episode_return == pytest.approx(2 * 2 * NOOP / NUM_AGENTS)
    assert world.kill.aftermath.figures()["spared_return_sum"] == 0.0


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_agents_play_on_among_themselves_and_nothing_is_late(timing: GateTiming) -> None:
    """Real cores: a message of the killed that dies with them must not cost a deadline."""
    env = ScriptedEnv(6)
    spec = make_spec(observation_dim=3, num_actions=4)
    agents = agents_helpers.make_rules(spec=spec, timing=timing, ships="none")
    run = SerialRun(
        Copies((env,), 0), agents, make_flat(spec, score_bias=OPEN_ALL), rules(3, timing=timing)
    )
    run.world.evaluate(1)
    for _ in range(3):
        run.tick()
    assert run.world.begin_tick() == [Kill(1), Kill(4)]
    bury(run.world)
    lost_words = {agent: run.agents[agent].tally.agent_steps for agent in VICTIMS}
    while run.world.may_tick:
        run.tick()
    assert run.world.missed_deadlines == 0
    assert [core.tally.late for core in run.agents] == [0] * NUM_AGENTS
    for agent, core in enumerate(run.agents):
        assert core.tally.agent_steps == (lost_words.get(agent) or 6)
    # Every gate opens, so from the kill on exactly the edges between the living are used.
    after = run.world.kill.aftermath.figures()["edges_open_after_kill"]
    between = sum((agent + 2**k) % NUM_AGENTS in SPARED for agent in SPARED for k in range(3))
    assert after == between * 3
    assert np.array(env.played).shape == (6, NUM_AGENTS)
