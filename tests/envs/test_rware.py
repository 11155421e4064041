"""The robotic warehouse against its package."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.schema import EnvConfig
from envs import registry
from envs.rware import NUM_ACTIONS, Warehouse, WarehouseOptions
from envs.scene import Map
from envs.spaces import Discrete
from tests.envs.serial_runs import run_serially

AGENTS = 4


def package(**options: Any) -> Any:
    from rware.warehouse import RewardType
    from rware.warehouse import Warehouse as Theirs

    usual: dict[str, Any] = {
        "shelf_columns": 3,
        "column_height": 8,
        "shelf_rows": 1,
        "n_agents": AGENTS,
        "msg_bits": 0,
        "sensor_range": 1,
        "request_queue_size": AGENTS,
        "max_inactivity_steps": None,
        "max_steps": 500,
        "reward_type": RewardType.GLOBAL,
    }
    return Theirs(**usual | options)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"max_cycles": 90}, {"max_steps": 90}),
        (
            {"difficulty": "easy", "sensor_range": 2, "max_cycles": 60},
            {"request_queue_size": 2 * AGENTS, "sensor_range": 2, "max_steps": 60},
        ),
        (
            {"size": "small", "difficulty": "hard", "column_height": 3, "max_cycles": 60},
            {
                "shelf_rows": 2,
                "column_height": 3,
                "request_queue_size": AGENTS // 2,
                "max_steps": 60,
            },
        ),
    ],
)
def test_an_episode_is_that_of_the_package(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    options = WarehouseOptions(**ours)
    env, other = Warehouse(options, AGENTS), package(**theirs)
    for seed in (0, 1):
        seen, _ = other.reset(seed=seed)
        assert_array_equal(env.reset(seed).observations_ND, np.stack(seen))
        rng = np.random.default_rng(seed)
        for cycle in range(options.max_cycles):
            actions_N = rng.integers(NUM_ACTIONS, size=AGENTS)
            seen, paid, over, _, _ = other.step(actions_N.tolist())
            step = env.step(actions_N)
            assert_array_equal(step.after.observations_ND, np.stack(seen))
            assert_array_equal(step.rewards_N, np.float32(paid))
            assert (step.terminated, step.truncated) == (False, over)
            assert over == (cycle + 1 == options.max_cycles)


@pytest.mark.parametrize(
    ("reward_type", "paid"),
    [("global", [1, 1, 1, 1]), ("individual", [0, 1, 0, 0]), ("two_stage", [0, 0.5, 0, 0])],
)
def test_who_is_paid_for_a_delivery(reward_type: Any, paid: list[float]) -> None:
    from rware.warehouse import Direction

    env = Warehouse(WarehouseOptions(reward_type=reward_type), AGENTS)
    env.reset(0)
    world: Any = env._env  # pyright: ignore[reportPrivateUsage]  # chance hardly ever delivers
    robot, shelf = world.agents[1], world.request_queue[0]
    robot.dir, robot.carrying_shelf = Direction.DOWN, shelf
    x, y = world.goals[0]
    robot.x = shelf.x = x
    robot.y = shelf.y = y - 1
    world._recalc_grid()
    step = env.step(np.array([0, 1, 0, 0]))
    assert step.rewards_N.tolist() == paid
    assert env.spec.shared_reward == (reward_type == "global")


def test_the_state_tells_of_robots_and_of_the_shelves_that_are_asked_for() -> None:
    env = Warehouse(WarehouseOptions(), AGENTS)
    snapshot = env.reset(2)
    robots, cells = snapshot.state_S[: 8 * AGENTS], snapshot.state_S[8 * AGENTS :]
    assert_array_equal(robots.reshape(AGENTS, 8), snapshot.observations_ND[:, :8])
    shelves, asked = cells.reshape(2, 11, 10)
    assert (shelves.sum(), asked.sum()) == (32, AGENTS)
    assert (shelves >= asked).all()
    scene = env.scene()
    assert isinstance(scene, Map)
    robot, shelf = scene.teams
    assert_array_equal(robot.positions_U2, robots.reshape(AGENTS, 8)[:, :2])
    full = shelf.positions_U2[shelf.health_U == 1.0]
    assert {(y, x) for x, y in full.tolist()} == set(zip(*np.nonzero(asked), strict=True))


def test_places_may_be_told_as_shares() -> None:
    places = Warehouse(WarehouseOptions(), AGENTS).reset(2).observations_ND[:, :2]
    shares = Warehouse(WarehouseOptions(normalised_coordinates=True), AGENTS)
    told = shares.reset(2).observations_ND[:, :2]
    np.testing.assert_allclose(told * [9, 10], places, atol=0.01)  # float16


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
@pytest.mark.parametrize("height", [1, 8])
def test_what_was_promised_is_what_there_is(size: Any, height: int) -> None:
    options = WarehouseOptions(size=size, column_height=height, sensor_range=2)
    env = Warehouse(options, 3)
    snapshot = env.reset(0)
    assert snapshot.observations_ND.shape == (3, env.spec.observation_dim)
    assert snapshot.state_S.shape == (env.spec.state_dim,)
    _, shelves = snapshot.state_S[3 * 8 :].reshape(2, *options.grid), options.shelves
    assert snapshot.state_S[3 * 8 :].reshape(2, -1)[0].sum() == shelves
    assert env.spec.actions == Discrete(5)


def test_copies_differ_and_follow_from_the_seed() -> None:
    config = EnvConfig(name="rware", options="max_cycles=5", copies=2)
    first, second = registry.make_copies(config, 3, seed=3).reset()
    assert first.state_S.tolist() != second.state_S.tolist()
    copies = registry.make_copies(config, 3, seed=3)
    (again, _) = copies.reset()
    assert_array_equal(first.state_S, again.state_S)
    rng = np.random.default_rng(0)
    plays = [copies.step(rng.integers(NUM_ACTIONS, size=(2, 3))) for _ in range(5)]
    ends = [[step.transition.truncated for step in steps] for steps in plays]
    assert ends == [[False, False]] * 4 + [[True, True]]


@pytest.mark.parametrize(
    ("options", "agents", "says"),
    [
        ("", 28, r"between 1 and 27 agents with size=tiny and column_height=8, got 28"),
        ("difficulty=hard", 1, r"1 agents and difficulty=hard asks for 0 shelves at a time"),
        ("difficulty=easy", 16, r"asks for 32 shelves at a time, which must be between 1 and 31"),
        ("size=huge", 4, "size"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(options: str, agents: int, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        registry.check(EnvConfig(name="rware", options=options), agents)
    assert "\n" not in str(refused.value)


def test_mappo_learns_on_it_serially(tmp_path: Any) -> None:
    run_serially(
        "rware", tmp_path, "--agents", "2", "--comm", "none", "--env.options", "max_cycles=30"
    )
