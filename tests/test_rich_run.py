"""What environments may have, from the environment through agents and world to an episode."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from agents.policy import bounds_to_text
from configs.columns import LOG_PROB, Q_VALUES, Column
from configs.schema import GateTiming
from envs.base import Env
from envs.copies import Copies
from envs.spaces import Box, Discrete
from learner.comm.gates import GateRule, gate, open_edges_of
from learner.comm.unroll import UnrollInput, begun_lives, unroll
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from learner.policy_gradient.distributions import distribution_of
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.agents_helpers import make_flat, make_spec
from tests.learner_helpers import make_network
from tests.rich_env import RichEnv

FLAT = partial(make_flat, score_bias=-1.5)
"""With this bias of the scorer some edges open and some stay shut."""
TIMINGS: tuple[GateTiming, ...] = ("causal", "paper")


def make_run(
    env: Env,
    *,
    timing: GateTiming = "causal",
    train_steps: int = 30,
    columns: tuple[Column, ...] = (Q_VALUES,),
    heads: int = 1,
    policies: int = 1,
    **given: object,
) -> SerialRun:
    """One copy in which agents explore, gates have noise and everything is recorded."""
    task = env.spec
    spec = make_spec(
        observation_dim=task.observation_dim,
        num_actions=task.num_actions,
        action_bounds="" if task.bounds is None else bounds_to_text(task.bounds),
        heads=heads,
        policies=policies,
    )
    rules = agents_helpers.make_rules(
        num_agents=task.num_agents, spec=spec, timing=timing, ships="all"
    )
    rules = replace(rules, columns=columns, comes_back=task.comes_back, **given)  # type: ignore[arg-type]  # fields of the rules
    world = world_helpers.make_rules(
        timing=timing, train_steps=train_steps, epsilon=lambda _: 0.3, max_backlog=10**6
    )
    return SerialRun(Copies([env], 0), rules, FLAT(spec), world)


def played(run: SerialRun) -> list[Episode]:
    """All episodes of a run, joined."""
    run.run()
    joiner = EpisodeJoiner(Dimensions.of(run.copies.spec, run.rules.columns))
    found = [joiner.add(packet) for packet in (*run.trajectories, *run.records)]
    assert not joiner.dropped_packets
    assert not joiner.dropped_episodes
    return [episode for episode in found if episode is not None]


def q_of_unroll(
    run: SerialRun, episode: Episode, *, recorded: bool, anew: bool = True
) -> np.ndarray:
    """[T, N, A] what the learner's unroll makes of an episode."""
    rules = run.rules
    network = make_network(rules.spec, rules.num_agents, FLAT(rules.spec))
    window = UnrollInput(
        torch.tensor(episode.observations[:-1].astype(np.float32)).unsqueeze(1),
        torch.tensor(episode.alive[:-1]).unsqueeze(1),
        begins_TBN=begun_lives(torch.tensor(episode.alive[:-1]).unsqueeze(1)) if anew else None,
    )
    rule = GateRule(rules.gate_timing, rules.gate_mode)
    if recorded:
        masks = torch.tensor(episode.columns["gates"].astype(np.int64)).unsqueeze(1)
        rule = replace(rule, recorded_TBNK=open_edges_of(masks, 3))
    with torch.no_grad():
        return unroll(network, window, rule).q_TBNA[:, 0].numpy()


def furthest(
    run: SerialRun, episodes: list[Episode], *, recorded: bool, anew: bool = True
) -> float:
    """Largest difference of the agents' values from those of the unroll."""
    differences: list[float] = []
    for episode in episodes:
        again_TNA = q_of_unroll(run, episode, recorded=recorded, anew=anew)
        apart_TNA = np.abs(again_TNA - episode.columns["q_values"])
        differences.append(float(apart_TNA[episode.alive[:-1]].max()))
    return max(differences)


# --- gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", TIMINGS)
def test_recorded_gates_give_the_values_that_exploring_agents_had(timing: GateTiming) -> None:
    run = make_run(RichEnv(), timing=timing)
    episodes = played(run)
    assert len(episodes) == 5
    assert furthest(run, episodes, recorded=True) < 1e-3
    # Without them the noise that opened and closed edges is not known.
    assert furthest(run, episodes, recorded=False) > 0.02


def test_recorded_gates_leave_the_steps_behind_them_to_the_scores() -> None:
    scores = torch.tensor([1.0, -1.0]).expand(3, 1, 1, 2)
    allowed = torch.ones(3, 1, 1, 2, dtype=torch.bool)
    recorded = torch.tensor([[[[False, True]]], [[[True, True]]]])
    rule = GateRule("causal", "learned", recorded_TBNK=recorded)
    gates = gate(scores, allowed, rule)
    expected = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    assert torch.equal(gates[:, 0, 0], expected)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("acting", ["epsilon-greedy", "sample", "random"])
def test_nothing_is_played_that_the_environment_does_not_allow(acting: str) -> None:
    env = RichEnv(masks=True)
    run = make_run(env, acting=acting)
    for episode in played(run):
        allowed_TNA = episode.columns["action_mask"].astype(bool)
        assert allowed_TNA.shape == (7, 6, 4)
        np.testing.assert_array_equal(allowed_TNA[:-1].sum(-1), 2)
        chosen_TN1 = episode.actions[..., None].astype(np.int64)
        assert np.take_along_axis(allowed_TNA[:-1], chosen_TN1, axis=-1).all()
    assert not run.dropped


def test_the_action_of_an_absent_agent_is_one_that_is_allowed() -> None:
    env = RichEnv(masks=True)
    world = world_helpers.make_world(env)  # type: ignore[arg-type]  # an environment like any other
    world.begin_tick()
    world.deadline()
    allowed_NA = env.seen[0].action_masks_NA
    assert allowed_NA is not None
    assert allowed_NA[np.arange(6), env.played[0]].all()
    assert (env.played[0][allowed_NA[:, 0]] == 0).all()


# --- actions and observations of other types ------------------------------------------------------


def test_more_than_256_actions_arrive_whole() -> None:
    env = RichEnv(actions=Discrete(1000))
    run = make_run(env, acting="random")
    episodes = played(run)
    actions = np.concatenate([episode.actions for episode in episodes])
    assert actions.dtype == np.uint16
    assert actions.max() > 600
    np.testing.assert_array_equal(actions, np.array(env.played))


def test_real_numbers_reach_the_environment_and_the_learner() -> None:
    space = Box((-1.0, 0.0), (1.0, 5.0))
    env = RichEnv(actions=space)
    run = make_run(env, acting="random")
    episodes = played(run)
    actions = np.concatenate([episode.actions for episode in episodes])
    assert (actions.shape, actions.dtype) == ((30, 6, 2), np.float32)
    np.testing.assert_array_equal(actions, np.array(env.played))
    assert actions[..., 1].max() > 4.0
    assert (actions >= space.low).all()
    assert (actions <= space.high).all()


def test_who_draws_real_numbers_records_how_likely_they_were() -> None:
    env = RichEnv(actions=Box((-1.0, 0.0), (1.0, 5.0)))
    run = make_run(env, acting="sample", columns=(Q_VALUES, LOG_PROB))
    for episode in played(run):
        said = torch.tensor(episode.columns["q_values"])
        assert said.shape == (6, 6, 4), "two means and two log deviations"
        found = distribution_of(said, run.rules.spec).log_prob(torch.tensor(episode.actions))
        np.testing.assert_allclose(episode.columns["log_prob"], found, atol=1e-5)
        assert np.unique(episode.actions).size > 60, "of 72 numbers; some are at the border"


def test_numbers_beyond_the_box_are_brought_into_it() -> None:
    env = RichEnv(actions=Box((-1.0,), (1.0,)), num_agents=2)
    world = world_helpers.make_world(env)  # type: ignore[arg-type]  # an environment like any other
    world.begin_tick()
    for agent, number in enumerate((7.0, -7.0)):
        packet = replace(world_helpers.action(1), actions=np.array([[number]], np.float32))
        world.action(agent, packet)
    assert env.played[0].tolist() == [[1.0], [-1.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_observations_keep_the_type_that_the_environment_gives_them(dtype: str) -> None:
    env = RichEnv(dtype=dtype)  # type: ignore[arg-type]  # one of the three
    run = make_run(env)
    (first, *_) = played(run)
    assert first.observations.dtype == dtype
    for step, snapshot in enumerate(env.seen[:6]):
        np.testing.assert_array_equal(first.observations[step], snapshot.observations_ND)


# --- lives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", TIMINGS)
def test_an_agent_may_live_several_times_in_an_episode(timing: GateTiming) -> None:
    away = {1: [0, 3], 2: [0], 4: [0, 5], 5: [5], 6: [2]}
    run = make_run(RichEnv(away=away), timing=timing)
    episodes = played(run)
    assert len(episodes) == 5
    for episode in episodes:
        assert episode.alive[:, 0].tolist() == [True, False, False, True, False, True, True]
        assert (episode.actions[~episode.alive[:-1]] == 0).all()
        assert (episode.observations[~episode.alive] == 0).all()
    assert furthest(run, episodes, recorded=True) < 1e-3
    # Each life begins with a memory of nothing.
    assert furthest(run, episodes, recorded=True, anew=False) > 0.02


# --- columns --------------------------------------------------------------------------------------


def test_who_samples_records_how_likely_the_action_was() -> None:
    run = make_run(RichEnv(), acting="sample", columns=(Q_VALUES, LOG_PROB))
    for episode in played(run):
        logits = torch.tensor(episode.columns["q_values"])
        actions = torch.tensor(episode.actions.astype(np.int64)).unsqueeze(-1)
        expected = logits.log_softmax(-1).gather(-1, actions).squeeze(-1)
        np.testing.assert_allclose(episode.columns["log_prob"], expected, atol=1e-5)
