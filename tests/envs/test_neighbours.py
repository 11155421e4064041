"""Who is whose neighbour on a map (envs/neighbours.py)."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.arrays import BoolArray
from configs.load import preset_for
from configs.schema import EnvConfig
from envs import registry
from envs.gather.gather import NOOP, Gather
from envs.gather.layout import Layout
from envs.neighbours import neighbours

Cell = tuple[int, int]


def pairs_of(*cells: Cell) -> set[tuple[int, int]]:
    """The neighbours among agents on these cells, each pair once."""
    return pairs_in(neighbours(len(cells), np.arange(len(cells)), np.array(cells)))


def pairs_in(pairs_NN: BoolArray) -> set[tuple[int, int]]:
    return {(i, j) for i, j in np.argwhere(pairs_NN).tolist() if i < j}


def test_in_a_row_everybody_has_the_next_on_either_side() -> None:
    assert pairs_of((1, 1), (4, 1), (6, 1), (9, 1)) == {(0, 1), (1, 2), (2, 3)}


def test_each_direction_has_its_own_nearest() -> None:
    middle, east, west, south, north = (5, 5), (9, 5), (2, 5), (5, 6), (5, 1)
    behind_east, behind_south = (10, 5), (5, 11)
    found = pairs_of(middle, east, west, south, north, behind_east, behind_south)
    of_the_middle = {pair for pair in found if 0 in pair}
    assert of_the_middle == {(0, 1), (0, 2), (0, 3), (0, 4)}


def test_a_diagonal_lies_to_the_east_or_the_west() -> None:
    # South of the middle one is nobody but who is further down than across.
    assert pairs_of((5, 5), (7, 7), (6, 8)) == {(0, 1), (0, 2), (1, 2)}
    # Both lie to the east of it, and the nearer one counts; the other one chooses it back.
    assert pairs_of((5, 5), (7, 7), (9, 5)) == {(0, 1), (1, 2)}


def test_the_nearest_is_that_of_the_smallest_distance_and_not_of_the_fewest_cells_across() -> None:
    # (8, 8) is 3 across and 3 down, (9, 5) 4 across: squared distances are 18 and 16.
    found = pairs_of((5, 5), (8, 8), (9, 5))
    assert (0, 2) in found
    assert (0, 1) in found, "it is to the west of the second one, which has chosen it"
    far = pairs_of((5, 5), (8, 8), (9, 5), (7, 8))
    assert (0, 1) not in far, "another is nearer to the west of it"


def test_of_two_at_the_same_distance_the_smaller_number_counts() -> None:
    # All of these see both others in one direction, but those at the ends one of them only.
    east_up, east_down, middle = (9, 3), (9, 7), (5, 5)
    third = (6, 8)  # so that those in the east find somebody nearer in the west
    fourth = (6, 2)
    first = pairs_of(middle, east_up, east_down, third, fourth)
    second = pairs_of(middle, east_down, east_up, third, fourth)
    assert (0, 1) in first
    assert (0, 2) not in first
    assert (0, 1) in second
    assert (0, 2) not in second


def test_whoever_is_chosen_is_a_neighbour_of_all_who_chose_it() -> None:
    """Six on one column chose the one beside them, who has chosen two of them itself."""
    cells = [(5, 10), *((9, y) for y in (8, 9, 10, 11, 12))]
    found = pairs_of(*cells)
    assert {(0, j) for j in range(1, 6)} <= found


def test_agents_on_the_same_cell_lie_in_no_direction_of_each_other() -> None:
    assert pairs_of((3, 3), (3, 3)) == set()
    assert pairs_of((3, 3), (3, 3), (5, 3)) == {(0, 2), (1, 2)}


@pytest.mark.parametrize("living", [0, 1])
def test_nobody_or_a_single_agent_has_no_neighbours(living: int) -> None:
    found = neighbours(3, np.arange(living), np.ones((living, 2), dtype=np.int64))
    assert found.shape == (3, 3)
    assert not found.any()


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_the_rule_says_pair_by_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    living_L = np.flatnonzero(rng.random(20) < 0.7)
    cells_L2 = rng.integers(0, 12, size=(len(living_L), 2))
    wanted: BoolArray = np.zeros((20, 20), dtype=np.bool_)
    for i, (x, y) in zip(living_L.tolist(), cells_L2.tolist(), strict=True):
        chosen: dict[str, tuple[int, int]] = {}
        for j, (u, v) in zip(living_L.tolist(), cells_L2.tolist(), strict=True):
            dx, dy = u - x, v - y
            if (dx, dy) == (0, 0):
                continue
            if abs(dx) >= abs(dy):
                direction = "east" if dx > 0 else "west"
            else:
                direction = "south" if dy > 0 else "north"
            best = (dx * dx + dy * dy, j)
            chosen[direction] = min(chosen.get(direction, best), best)
        for _, j in chosen.values():
            wanted[i, j] = wanted[j, i] = True
    assert_array_equal(neighbours(20, living_L, cells_L2), wanted)


# --- environments that say it ---------------------------------------------------------------------


def test_gather_says_it_of_the_living() -> None:
    hit_right = 31
    layout = Layout(
        map_size=12,
        agents=np.array([(2, 5), (3, 5), (6, 5), (9, 5)]),
        food=np.array([(10, 10)]),
    )
    gather = Gather(layout)
    first = gather.reset(0)
    assert first.neighbours_NN is not None
    assert pairs_in(first.neighbours_NN) == {(0, 1), (1, 2), (2, 3)}
    after = gather.step(np.array([hit_right, NOOP, NOOP, NOOP])).after
    assert after.alive_N.tolist() == [True, False, True, True]
    assert after.neighbours_NN is not None
    assert pairs_in(after.neighbours_NN) == {(0, 2), (2, 3)}


def test_battle_says_it_where_it_is_asked_to() -> None:
    config = replace(preset_for("battle").env, options="neighbours=true")
    family = registry.family_of("battle")
    battle = family.make(family.read(config), 20)
    assert registry.spec_of(config, 20).has_neighbours
    assert battle.spec.has_neighbours
    pairs_NN = battle.reset(0).neighbours_NN
    assert pairs_NN is not None
    assert_array_equal(pairs_NN, pairs_NN.T)
    assert not pairs_NN.diagonal().any()
    assert pairs_NN.any(axis=1).all()
    battle.close()


def test_others_say_nothing() -> None:
    config = EnvConfig(name="battle")
    family = registry.family_of("battle")
    battle = family.make(family.read(config), 20)
    assert not battle.spec.has_neighbours
    assert battle.reset(0).neighbours_NN is None
    battle.close()
