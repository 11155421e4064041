"""Where the teams of Battle stand: the lattice of section 3 of the notes."""

import numpy as np
import pytest

from envs.battle.map import MAX_AGENTS, MIN_AGENTS, deploy, places


@pytest.mark.parametrize(
    ("map_size", "expected"),
    [
        *[(25, 20), (35, 42), (40, 64), (45, 81), (50, 100), (55, 121)],
        *[(60, 144), (70, 196), (80, 256), (90, 324), (100, 400)],
        (160, 1024),
    ],
)
def test_a_map_holds_as_many_agents_as_in_the_papers(map_size: int, expected: int) -> None:
    assert places(map_size) == expected
    assert deploy(expected).map_size == map_size


@pytest.mark.parametrize(("num_agents", "map_size"), [(4, 25), (21, 30), (31, 35), (101, 55)])
def test_the_smallest_map_that_holds_the_teams_is_taken(num_agents: int, map_size: int) -> None:
    assert deploy(num_agents).map_size == map_size


def test_first_and_last_places_of_20_agents_are_those_of_the_lattice() -> None:
    deployment = deploy(20)
    assert deployment.left[[0, 1, -1]].tolist() == [[1, 7], [1, 9], [7, 15]]
    assert deployment.right[[0, 1, -1]].tolist() == [[15, 7], [15, 9], [21, 15]]


@pytest.mark.parametrize("num_agents", [4, 5, 20, 33, 100, 399, 400, 401, 1000, 1024])
def test_nobody_shares_a_place_or_stands_in_a_wall(num_agents: int) -> None:
    deployment = deploy(num_agents)
    assert len(deployment.left) == len(deployment.right) == num_agents
    cells = np.concatenate([deployment.left, deployment.right])
    assert len(np.unique(cells, axis=0)) == 2 * num_agents
    assert cells.min() >= 1
    assert cells.max() <= deployment.map_size - 2


@pytest.mark.parametrize("num_agents", [4, 20, 50])
def test_every_agent_faces_one_in_its_own_row(num_agents: int) -> None:
    deployment = deploy(num_agents)
    assert (deployment.left[:, 1] == deployment.right[:, 1]).all()
    assert (deployment.left[:, 0] < deployment.right[:, 0].min()).all()


@pytest.mark.parametrize("num_agents", [MIN_AGENTS - 1, MAX_AGENTS + 1])
def test_an_impossible_population_is_refused_with_its_range(num_agents: int) -> None:
    with pytest.raises(ValueError, match=f"between 4 and 1024 agents, got {num_agents}"):
        deploy(num_agents)
