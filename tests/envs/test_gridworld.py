"""The door to the engine: what it promises beyond what Battle shows."""

import os
import subprocess
import sys

import numpy as np
import pytest

from envs.battle.battle import HITS_PAY, NOOP, SOLDIER
from envs.magent import OTHER_HP, WALL, GridWorld, HitRule, Kind

HIT_LEFT, HIT_RIGHT = 16, 17


@pytest.fixture
def world() -> GridWorld:
    return GridWorld(map_size=15, kinds=(SOLDIER, SOLDIER), hits=HITS_PAY)


def test_agents_keep_their_number_within_the_team_after_a_death(world: GridWorld) -> None:
    world.reset(0, [np.array([[2, 2], [8, 8]]), np.array([[6, 6], [3, 2], [10, 10]])])
    assert world.living(0).tolist() == [0, 1]
    assert world.living(1).tolist() == [0, 1, 2]
    for hit in range(1, 7):
        world.order(0, np.array([HIT_RIGHT, NOOP]))
        world.order(1, np.array([NOOP] * 3))
        world.step()
        assert world.survivors(1).tolist() == [True, hit < 6, True]
        world.bury()
    assert world.living(1).tolist() == [0, 2]
    assert world.positions(1).tolist() == [[6, 6], [10, 10]]
    world.reset(0, [np.array([[2, 2]]), np.array([[6, 6], [3, 2]])])
    assert world.living(1).tolist() == [0, 1]


def test_two_agents_on_one_place_are_a_programming_error(world: GridWorld) -> None:
    with pytest.raises(AssertionError, match="taken"):
        world.reset(0, [np.array([[2, 2], [2, 2]]), np.array([[6, 6]])])


def test_calling_the_engine_directly_tells_what_magents_own_class_tells() -> None:
    rows = np.arange(4, 14)
    places = [np.stack([np.full(10, x), rows], axis=1) for x in (10, 11)]
    ours = GridWorld(map_size=25, kinds=(SOLDIER, SOLDIER), hits=HITS_PAY)
    theirs = GridWorld(map_size=25, kinds=(SOLDIER, SOLDIER), hits=HITS_PAY)
    engine = theirs._engine  # pyright: ignore[reportPrivateUsage]  # the class itself
    handles = engine.get_handles()
    ours.reset(3, places)
    theirs.reset(3, places)
    rng = np.random.default_rng(0)
    fallen = 0
    for _ in range(40):
        for team, handle in enumerate(handles):
            num_living = int(engine.get_num(handle))
            # Mostly blows at whoever stands opposite, now and then anything at all.
            anything, blow = rng.integers(21, size=num_living), (HIT_RIGHT, HIT_LEFT)[team]
            actions = np.where(rng.random(num_living) < 0.8, blow, anything)
            ours.order(team, actions)
            engine.set_action(handle, actions.astype(np.int32))
        ours.step()
        engine.step()
        for team, handle in enumerate(handles):
            np.testing.assert_array_equal(ours.rewards(team), engine.get_reward(handle))
            np.testing.assert_array_equal(ours.survivors(team), engine.get_alive(handle))
            fallen += int((~ours.survivors(team)).sum())
        ours.bury()
        engine.clear_dead()
        if 0 in (engine.get_num(handle) for handle in handles):
            break
        for team, handle in enumerate(handles):
            np.testing.assert_array_equal(ours.views(team), engine.get_observation(handle)[0])
            np.testing.assert_array_equal(ours.positions(team), engine.get_pos(handle))
            first = (0, 10)[team]
            np.testing.assert_array_equal(ours.living(team) + first, engine.get_agent_id(handle))
    assert fallen > 3, "without deaths the ranks never close"


def test_the_engine_places_teams_and_walls_by_the_seed() -> None:
    wide = Kind({"width": 2, "length": 2, "hp": 1, "speed": 1}, view_radius=4, attack_radius=2)
    small = Kind({"width": 1, "length": 1, "hp": 1, "speed": 1}, view_radius=20, attack_radius=0)
    world = GridWorld(map_size=15, kinds=(wide, small), hits=())

    def placed(seed: int) -> tuple[object, ...]:
        world.reset(seed, [10, 5], walls=12)
        return *(world.positions(team).tolist() for team in (0, 1)), world.views(1).tobytes()

    first = placed(1)
    # The whole map is in view: its border of 56 cells, and ten bodies of four.
    assert world.views(1)[..., WALL].sum(axis=(1, 2)).tolist() == [56 + 12] * 5
    assert world.views(1)[..., OTHER_HP - 1].sum(axis=(1, 2)).tolist() == [40] * 5
    assert placed(2) != first
    assert placed(1) == first


def test_a_hit_can_cost_its_victim(world: GridWorld) -> None:
    hunter = Kind({"width": 1, "length": 1, "hp": 1, "speed": 1}, view_radius=3, attack_radius=1)
    world = GridWorld(map_size=9, kinds=(hunter, hunter), hits=[HitRule(0, 1, 1.0, -0.5)])
    world.reset(0, [np.array([[3, 3]]), np.array([[4, 3]])])
    hit_right = 7
    world.order(0, np.array([hit_right]))
    world.step()
    assert (world.rewards(0).tolist(), world.rewards(1).tolist()) == ([1.0], [-0.5])


@pytest.mark.process
@pytest.mark.parametrize(("before", "expected"), [(None, "1"), ("2", "2")])
def test_the_engine_gets_one_thread_unless_told_otherwise(
    before: str | None, expected: str
) -> None:
    question = (
        "import os\n"
        "from envs.battle.battle import Battle\n"
        "from envs.battle.map import deploy\n"
        "Battle(deploy(4))\n"
        "print(os.environ['OMP_NUM_THREADS'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if before is not None:
        environment["OMP_NUM_THREADS"] = before
    done = subprocess.run(
        [sys.executable, "-c", question], env=environment, capture_output=True, text=True
    )
    # Nothing else is printed: pygame keeps its greeting to itself.
    assert done.stdout == f"{expected}\n", done.stderr
