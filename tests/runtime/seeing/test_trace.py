"""A trace is the episode that an evaluation plays, whole."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from agents.insight import Insight
from agents.policy import PolicyFile
from configs.errors import UserError
from configs.schema import GateTiming
from envs import registry
from envs.relay import Relay
from envs.scene import NOWHERE, Map, Ring
from learner.simulate import simulate
from runtime.evaluate import play
from runtime.host import preflight
from runtime.run.serial import SerialRun
from runtime.seeing.trace import Trace, trace_episode
from tests.process.runs import SilentView, run_config, undecided_policy
from tests.runtime.seeing.traces import battle, episode, relay, resolved
from tests.scheme_cases import Case, cases
from tests.test_serial_run import make_run


def first_map(trace: Trace) -> Map:
    scene = trace.scenes[0]
    assert isinstance(scene, Map)
    return scene


@pytest.mark.parametrize(
    ("env", "agents", "options"),
    [("battle", 20, {"opponent": "idqn"}), ("relay", 16, {})],
)
def test_an_episode_is_the_one_that_a_simulation_plays(
    env: str, agents: int, options: dict[str, str]
) -> None:
    config, policy = resolved("shipped", env, agents, **options)
    trace = trace_episode(config, policy)
    copies = registry.make_copies(config.env, agents, config.seed)
    (same,) = simulate(config, policy, copies, 1, opponents=registry.opponents_of(config.env))
    assert trace.episode_return == pytest.approx(same.episode_return, rel=1e-12)
    assert (trace.steps, trace.won) == (same.length, same.won)
    assert trace.open_TNK.sum() == same.edges_open
    assert trace.open_TNK.sum() * trace.message_bytes == same.message_bytes
    assert trace.alive_TN.sum() == same.agent_steps


@pytest.mark.process
@pytest.mark.timeout(240)
@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_an_episode_is_the_one_that_real_processes_play(timing: GateTiming, tmp_path: Path) -> None:
    config = run_config("relay", 6, copies=1, timing=timing)
    policy = undecided_policy(config, loud=True)
    trace = trace_episode(config, policy)
    outcome, run = play(config, policy, 1, tmp_path, SilentView(), record=True)
    assert outcome.exit_code == 0, outcome.reason
    assert run.recorder is not None
    (recorded,) = run.recorder.episodes
    assert_array_equal(trace.actions_TN, recorded.actions)
    bits_K = 1 << np.arange(len(trace.offsets))
    assert_array_equal(trace.open_TNK @ bits_K, recorded.columns["gates"])
    assert 0 < trace.open_TNK.mean() < 1, "gates that all agree prove nothing"
    assert_array_equal(trace.observations_TND, recorded.observations[: trace.steps])
    assert_array_equal(trace.rewards_TN, recorded.rewards)


def test_equal_seeds_give_equal_traces_and_others_do_not() -> None:
    config, policy = resolved("untrained", "adversarial-pursuit", 4, opponent="random")
    first, again = (trace_episode(config, policy, max_steps=12) for _ in range(2))
    assert_array_equal(first.observations_TND, again.observations_TND)
    assert_array_equal(first.actions_TN, again.actions_TN)
    assert_array_equal(first_map(first).walls_W2, first_map(again).walls_W2)
    other = trace_episode(dataclasses.replace(config, seed=4), policy, max_steps=12)
    assert not np.array_equal(first_map(first).walls_W2, first_map(other).walls_W2)


@pytest.mark.parametrize("played", [battle, relay])
def test_what_is_heard_is_what_was_said_a_step_before(played: Callable[[], Trace]) -> None:
    trace = played()
    assert not trace.heard_TNK[0].any()
    for k, offset in enumerate(trace.offsets):
        said_TN = np.roll(trace.open_TNK[:-1, :, k], offset, axis=1)
        # The dead hear nothing.
        assert_array_equal(trace.heard_TNK[1:, :, k], said_TN & trace.alive_TN[1:])


@pytest.mark.parametrize("played", [battle, relay])
def test_attention_is_a_distribution_over_what_was_heard(played: Callable[[], Trace]) -> None:
    trace = played()
    weights_TNL = trace.weights_TNL
    assert weights_TNL is not None
    living_TN = trace.alive_TN
    assert_allclose(weights_TNL.sum(axis=-1)[living_TN], 1.0, rtol=1e-5)
    assert (weights_TNL[..., 1:][living_TN & ~trace.heard_TNK.any(axis=-1)] == 0.0).all()
    assert ((weights_TNL[..., 1:] > 0.0) == trace.heard_TNK)[living_TN].all()


def test_a_gate_is_open_where_its_score_is_above_zero() -> None:
    config = run_config("relay", 6, copies=1)
    trace = trace_episode(config, undecided_policy(config))
    assert trace.scores_TNK is not None
    assert_array_equal(trace.open_TNK, trace.scores_TNK > 0.0)
    assert 0 < trace.open_TNK.mean() < 1


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_scheme_that_agents_run_can_be_looked_at(case: Case) -> None:
    config = run_config(
        "battle",
        6,
        copies=1,
        timing=case.timing,
        env_options={"options": case.env_options},
        comm=case.scheme,
        comm_options=case.options,
    )
    try:
        preflight.require_scheme(config)
    except UserError as refusal:
        pytest.skip(str(refusal))
    trace = trace_episode(config, undecided_policy(config), max_steps=4)
    shape = (4, 6, len(trace.offsets))
    assert trace.open_TNK.shape == trace.heard_TNK.shape == shape
    assert trace.scores_TNK is None or trace.scores_TNK.shape == shape
    if trace.weights_TNL is not None:
        assert_allclose(trace.weights_TNL.sum(axis=-1), 1.0, rtol=1e-5)
        assert_array_equal(trace.weights_TNL[..., 1:] > 0.0, trace.heard_TNK)


def test_near_neighbours_are_chosen_by_how_near_they_are() -> None:
    config = run_config(
        "battle",
        6,
        copies=1,
        env_options={"options": "position=true"},
        comm="budget-k",
        comm_options="k=1",
    )
    trace = trace_episode(config, undecided_policy(config), max_steps=3)
    assert trace.scores_TNK is not None
    best_TN = trace.scores_TNK.argmax(axis=-1)
    assert_array_equal(trace.open_TNK[1:].argmax(axis=-1), best_TN[1:])
    assert (trace.open_TNK.sum(axis=-1) <= 1).all()


def test_an_insight_changes_nothing_of_what_follows() -> None:
    def course(*, looks: bool) -> tuple[SerialRun, list[Insight]]:
        run, seen = make_run(Relay(6)), list[Insight]()
        run.world.evaluate(1)
        while run.is_playing:
            run.tick()
            seen += [agent.look_back() for agent in run.agents] if looks else []
        run.farewell()
        return run, seen

    (unseen, _), (run, seen) = course(looks=False), course(looks=True)
    assert len(seen) == 6 * run.results[0].length
    columns = [[packet.columns for packet in r.trajectories] for r in (unseen, run)]
    for before, after in zip(*columns, strict=True):
        assert_array_equal(before["q_values"], after["q_values"])


def test_scenes_are_those_before_each_step_and_the_end() -> None:
    trace = battle()
    assert len(trace.scenes) == trace.steps + 1
    for moment, scene in enumerate(trace.scenes):
        assert isinstance(scene, Map)
        red, blue = scene.teams
        if moment < trace.steps:
            assert_array_equal(red.alive_U, trace.alive_TN[moment])
        for team in (red, blue):
            assert ((team.positions_U2 == NOWHERE).all(axis=1) == ~team.alive_U).all()
            assert (team.health_U[team.alive_U] > 0.0).all()
            assert (team.health_U <= 1.0).all()
    assert trace.won is True
    last = trace.scenes[-1]
    assert isinstance(last, Map)
    assert last.teams[1].alive_U.sum() < last.teams[0].alive_U.sum()


def test_health_and_places_are_those_that_agents_see() -> None:
    trace = battle()
    for moment, scene in enumerate(trace.scenes[: trace.steps]):
        assert isinstance(scene, Map)
        red = scene.teams[0]
        seen_NVV = trace.observations_TND[moment].reshape(-1, 7, 2, 7)[:, :, 0]
        assert_allclose(seen_NVV[:, 3, 3], red.health_U, rtol=1e-3)
        at = {
            tuple(place): health
            for place, health in zip(red.positions_U2.tolist(), red.health_U, strict=True)
        }
        for agent in np.flatnonzero(red.alive_U):
            x, y = red.positions_U2[agent]
            for dy, dx in ((0, 1), (1, 0), (-1, 0), (0, -1)):
                expected = at.get((x + dx, y + dy), 0.0)
                assert max(seen_NVV[agent, 3 + dy, 3 + dx], 0.0) == pytest.approx(
                    expected, rel=1e-3
                )


def test_predators_are_two_cells_wide_and_walls_surround_the_map() -> None:
    scene = first_map(episode("untrained", "adversarial-pursuit", 4, max_steps=2))
    predators, prey = scene.teams
    assert (predators.body, prey.body) == (2, 1)
    walls = {tuple(wall) for wall in scene.walls_W2.tolist()}
    assert {(0, y) for y in range(scene.height)} <= walls
    assert {(x, scene.height - 1) for x in range(scene.width)} <= walls
    taken = {
        (x + dx, y + dy)
        for x, y in predators.positions_U2.tolist()
        for dx in (0, 1)
        for dy in (0, 1)
    }
    assert len(taken) == 4 * 4
    assert not walls & taken


def test_food_that_is_eaten_is_gone() -> None:
    trace = episode("untrained", "gather", 6, max_steps=3)
    agents, food = first_map(trace).teams
    assert (len(agents.alive_U), len(food.alive_U)) == (6, 87)
    assert food.alive_U.all()


def test_relay_says_who_knows_the_colour() -> None:
    trace = relay()
    scene = trace.scenes[-1]
    assert isinstance(scene, Ring)
    assert trace.observations_TND[0, scene.source, 1 + scene.colour] == 1.0
    assert_array_equal(trace.rewards_TN[-1], trace.actions_TN[-1] == scene.colour)


def test_a_pettingzoo_environment_shows_its_frames() -> None:
    options = {"env_options": "N=3,max_cycles=4"}
    trace = episode("untrained", "pettingzoo:mpe2.simple_spread_v3", None, **options)
    assert len(trace.scenes) == 5
    frames = [scene for scene in trace.scenes if isinstance(scene, np.ndarray)]
    assert [frame.shape[2] for frame in frames] == [3] * 5
    assert len({frame.tobytes() for frame in frames}) > 1


def test_an_environment_that_shows_nothing_is_traced_all_the_same() -> None:
    trace = episode("untrained", "tests.foreign_envs:Foreign", None)
    assert trace.scenes == (None,) * (trace.steps + 1)


def test_a_trace_can_stop_early() -> None:
    trace = episode("shipped", "battle", 20, max_steps=5, opponent="scripted")
    assert (trace.steps, len(trace.scenes), trace.won) == (5, 6, None)
    assert_array_equal(trace.open_TNK, battle().open_TNK[:5])


def test_a_policy_file_without_messages_has_neither_edges_nor_weights() -> None:
    config, policy = resolved("shipped", "relay", 16)
    silent = PolicyFile(
        policy.spec, policy.flat, policy.version, {**policy.trained, "comm": "none"}
    )
    trace = trace_episode(dataclasses.replace(config, comm="none"), silent)
    assert not trace.open_TNK.any()
    assert not trace.heard_TNK.any()
    assert trace.weights_TNL is None
    assert trace.scores_TNK is None
