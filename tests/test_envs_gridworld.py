"""The door to the engine: what it promises beyond what Battle shows."""

import os
import subprocess
import sys

import numpy as np
import pytest

from envs.battle import CHARACTER, NOOP
from envs.gridworld import GridWorld

HIT_RIGHT = 17


@pytest.fixture
def world() -> GridWorld:
    return GridWorld(
        map_size=15, character=CHARACTER, view_radius=3, attack_radius=1.5, hit_reward=0.2
    )


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


@pytest.mark.process
@pytest.mark.parametrize(("before", "expected"), [(None, "1"), ("2", "2")])
def test_the_engine_gets_one_thread_unless_told_otherwise(
    before: str | None, expected: str
) -> None:
    question = (
        "import os\n"
        "from envs.battle import Battle\n"
        "from envs.battle_map import deploy\n"
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
