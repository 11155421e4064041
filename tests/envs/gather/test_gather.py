"""Gather: NVIF's counts, rewards, deaths, ends, observations, state and seeds."""

import numpy as np
import pytest

from envs.base import Transition
from envs.gather.gather import MINIMAP, NOOP, NUM_ACTIONS, PLANES, VIEW, Gather
from envs.gather.layout import Layout, Scattered, lay_out, scatter

UP, LEFT, RIGHT, DOWN = 29, 30, 31, 32
MOVES = np.array([(dx, dy) for dy in range(-3, 4) for dx in range(-3, 4) if dx * dx + dy * dy <= 9])
"""dx and dy of actions 0 to 28."""
HITS = {UP: (0, -1), LEFT: (-1, 0), RIGHT: (1, 0), DOWN: (0, 1)}

Cell = tuple[int, int]


def field(
    agents: list[Cell], food: list[Cell], map_size: int = 12, max_cycles: int = 100
) -> Gather:
    gather = Gather(
        Layout(map_size=map_size, agents=np.array(agents), food=np.array(food)), max_cycles
    )
    gather.reset(seed=0)
    return gather


def play(gather: Gather, *actions: int) -> Transition:
    return gather.step(np.array(actions))


def cells_of(team: int, transition: Transition) -> set[Cell]:
    """Where a team is on a map of 12×12, where a square of the minimap is one cell."""
    ys, xs = np.nonzero(transition.after.state_S.reshape(MINIMAP, 2, MINIMAP)[:, team])
    return {(int(x), int(y)) for x, y in zip(xs, ys, strict=True)}


# --- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("map_size", "agents", "food"), [(24, 27, 87), (48, 56, 237), (96, 115, 521)]
)
def test_nvifs_maps_have_nvifs_agents_and_food(map_size: int, agents: int, food: int) -> None:
    layout = lay_out(agents)
    assert (layout.map_size, len(layout.agents), len(layout.food)) == (map_size, agents, food)
    # One more does not fit.
    assert lay_out(agents + 1).map_size == map_size + 24
    cells = {tuple(cell) for cell in np.concatenate([layout.agents, layout.food]).tolist()}
    assert len(cells) == agents + food
    assert all(0 < x < map_size - 1 and 0 < y < map_size - 1 for x, y in cells)


@pytest.mark.parametrize(
    ("agents", "map_size", "food"), [(24, 24, 87), (48, 48, 237), (96, 96, 521)]
)
def test_fewer_agents_surround_the_whole_field(agents: int, map_size: int, food: int) -> None:
    layout = lay_out(agents)
    assert (layout.map_size, len(layout.agents), len(layout.food)) == (map_size, agents, food)
    assert len(np.unique(layout.agents, axis=0)) == agents
    per_side = agents // 4
    middle = map_size // 2
    for axis in (0, 1):
        low, high = layout.agents[:, axis].min(), layout.agents[:, axis].max()
        assert low < middle < high
        for edge in (low, high):
            on_edge = int((layout.agents[:, axis] == edge).sum())
            assert 0.7 * per_side < on_edge < 1.4 * per_side + 2


@pytest.mark.parametrize("agents", [1, 1025])
def test_other_numbers_are_refused(agents: int) -> None:
    with pytest.raises(ValueError, match="between 2 and 1024 agents"):
        lay_out(agents)


def test_the_largest_number_has_a_map() -> None:
    assert len(lay_out(1024).agents) == 1024


@pytest.mark.parametrize(
    ("agents", "map_size", "food"),
    [(15, 24, 17), (10, 24, 17), (16, 48, 49), (29, 48, 49), (30, 96, 161), (49, 96, 161)],
)
def test_random_maps_have_nvifs_agents_and_food_on_cells_of_their_own(
    agents: int, map_size: int, food: int
) -> None:
    scattered = scatter(agents)
    assert scattered == Scattered(map_size=map_size, agents=agents, food=food)
    one, again, other = (scattered.at(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.agents, again.agents)
    np.testing.assert_array_equal(one.food, again.food)
    assert (one.agents != other.agents).any()
    cells = np.concatenate([one.agents, one.food])
    assert len(np.unique(cells, axis=0)) == agents + food
    assert cells.min() >= 1
    assert cells.max() <= map_size - 2


def test_random_places_reach_every_cell_inside_the_walls() -> None:
    scattered = Scattered(map_size=5, agents=4, food=5)
    layout = scattered.at(3)
    found = {tuple(cell) for cell in np.concatenate([layout.agents, layout.food]).tolist()}
    assert found == {(x, y) for x in (1, 2, 3) for y in (1, 2, 3)}


def test_clustered_food_lies_around_a_cell_that_the_seed_has_drawn() -> None:
    clustered, middles = scatter(29, clustered=True), set[tuple[int, ...]]()
    for seed in range(5):
        layout = clustered.at(seed)
        np.testing.assert_array_equal(layout.food, clustered.at(seed).food)
        assert len(np.unique(np.concatenate([layout.agents, layout.food]), axis=0)) == 29 + 49
        assert layout.food.min() >= 1
        assert layout.food.max() <= clustered.map_size - 2
        # 49 cells of a full circle reach four cells from its middle; walls and agents push on.
        far = np.abs(layout.food - layout.food[0]).max()
        assert far <= 10
        middles.add(tuple(layout.food[0].tolist()))
    assert len(middles) == 5


@pytest.mark.parametrize("agents", [1, 50])
def test_more_agents_than_a_random_map_has_are_refused(agents: int) -> None:
    with pytest.raises(ValueError, match="with layout=random takes between 2 and 49 agents"):
        scatter(agents)


def test_a_random_episode_is_where_its_seed_has_put_it() -> None:
    gather = Gather(scatter(15), 3)
    scattered = scatter(15)
    for seed in (4, 9, 4):
        snapshot = gather.reset(seed)
        cells = gather.scene().teams[0].positions_U2
        np.testing.assert_array_equal(cells, scattered.at(seed).agents)
        assert snapshot.alive_N.all()
        last = [gather.step(np.full(15, NOOP)) for _ in range(3)][-1]
        # Who does nothing pays a hundredth a step: 45 of them, over 17 pieces of food.
        assert last.metrics["return_share"] == pytest.approx(-0.45 / (6.45 * 17), rel=1e-4)


# --- rewards and deaths ---------------------------------------------------------------------------


def test_food_is_eaten_with_the_fifth_bite_and_pays_as_measured() -> None:
    gather = field([(4, 4)], [(5, 4), (9, 9)])
    steps = [play(gather, RIGHT) for _ in range(6)]
    rewards = [step.rewards_N[0] for step in steps]
    np.testing.assert_allclose(rewards, [0.39] * 4 + [4.89, -0.11], rtol=1e-5)
    assert cells_of(1, steps[3]) == {(5, 4), (9, 9)}
    assert cells_of(1, steps[4]) == {(9, 9)}
    np.testing.assert_allclose(play(gather, NOOP).rewards_N, [-0.01], rtol=1e-5)


def test_an_agent_that_is_hit_dies_and_is_not_paid_again() -> None:
    gather = field([(4, 4), (5, 4), (8, 8)], [(9, 9)])
    hit = play(gather, RIGHT, NOOP, NOOP)
    np.testing.assert_allclose(hit.rewards_N, [-0.11, -1.0, -0.01], rtol=1e-5)
    assert hit.after.alive_N.tolist() == [True, False, True]
    assert not hit.after.observations_ND[1].any()
    assert not hit.terminated
    # The third is now the engine's second: what it does must not be what the dead one did.
    later = play(gather, NOOP, LEFT, RIGHT)
    np.testing.assert_allclose(later.rewards_N, [-0.01, 0.0, -0.11], rtol=1e-5)
    moved = play(gather, NOOP, NOOP, 15)
    assert cells_of(0, moved) == {(4, 4), (9, 8)}


@pytest.mark.parametrize("action", range(NUM_ACTIONS))
def test_actions_do_what_the_table_says(action: int) -> None:
    gather = field([(5, 5)], [(x, y) for x in (4, 5, 6) for y in (4, 6)] + [(4, 5), (6, 5)])
    if action in HITS:
        assert play(gather, action).rewards_N[0] == pytest.approx(0.39)
        dx, dy = HITS[action]
        steps = [play(gather, action) for _ in range(4)]
        assert (5 + dx, 5 + dy) not in cells_of(1, steps[-1])
        return
    free = field([(5, 5)], [(1, 1)])
    dx, dy = MOVES[action]
    assert cells_of(0, play(free, action)) == {(5 + int(dx), 5 + int(dy))}
    assert MOVES[NOOP].tolist() == [0, 0]


# --- ends -----------------------------------------------------------------------------------------


def test_it_is_won_when_all_food_is_eaten() -> None:
    gather = field([(4, 4), (6, 4)], [(5, 4)])
    steps = [play(gather, RIGHT, LEFT) for _ in range(3)]
    assert [step.terminated for step in steps] == [False, False, True]
    assert steps[-1].won
    assert not steps[-1].truncated
    metrics = dict(steps[-1].metrics)
    assert metrics.pop("return_share") == pytest.approx(
        sum(s.rewards_N.sum() for s in steps) / 6.45
    )
    assert metrics == {"food_eaten": 1.0, "survivors": 1.0, "end_step": 3.0}
    assert not steps[0].metrics


def test_it_is_over_and_not_won_when_nobody_is_left_or_time_is_up() -> None:
    gather = field([(4, 4), (5, 4)], [(9, 9)])
    # In a duel both strike in the same step, and the first one's blow decides.
    steps = [play(gather, RIGHT, NOOP), play(gather, NOOP, NOOP)]
    assert not any(step.terminated for step in steps)
    late = field([(4, 4)], [(9, 9)], max_cycles=3)
    steps = [play(late, NOOP) for _ in range(3)]
    assert [step.truncated for step in steps] == [False, False, True]
    assert not any(step.terminated or step.won for step in steps)


# --- observations and state -----------------------------------------------------------------------


def test_an_agent_sees_walls_agents_and_the_health_of_food() -> None:
    gather = field([(4, 4), (6, 5)], [(5, 4)])
    seen = play(gather, RIGHT, NOOP).after.observations_ND[0].reshape(PLANES, VIEW, VIEW)
    centre = VIEW // 2
    agents = np.zeros((VIEW, VIEW))
    agents[centre, centre] = agents[centre + 1, centre + 2] = 1
    np.testing.assert_array_equal(seen[1], agents)
    assert seen[2, centre, centre + 1] == np.float16(19 / 25)
    assert np.count_nonzero(seen[2]) == 1
    # The walls at x = 0 and y = 0.
    assert seen[0, centre, centre - 4] == seen[0, centre - 4, centre] == 1
    assert not seen[0, centre, centre - 3 : centre + 7].any()


def test_the_state_is_the_share_of_agents_and_food_in_each_square() -> None:
    gather = field([(4, 4), (8, 9)], [(5, 4), (5, 5)])
    maps = play(gather, NOOP, NOOP).after.state_S.reshape(MINIMAP, 2, MINIMAP)
    wanted = np.zeros_like(maps)
    wanted[4, 0, 4] = wanted[9, 0, 8] = wanted[4, 1, 5] = wanted[5, 1, 5] = 0.5
    np.testing.assert_array_equal(maps, wanted)


# --- seeds ----------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_episodes_of_the_promised_spaces() -> None:
    def episode(seed: int) -> tuple[list[bytes], int]:
        gather = Gather(lay_out(27))
        snapshot = gather.reset(seed)
        rng, told, fallen = np.random.default_rng(3), list[bytes](), 0
        for _ in range(60):
            spec = gather.spec
            assert snapshot.observations_ND.shape == (27, spec.observation_dim)
            assert snapshot.observations_ND.dtype == np.float16
            assert snapshot.state_S.shape == (spec.state_dim,)
            transition = gather.step(rng.integers(NUM_ACTIONS, size=27))
            snapshot = transition.after
            fallen = 27 - int(snapshot.alive_N.sum())
            told += [snapshot.observations_ND.tobytes(), transition.rewards_N.tobytes()]
        return told, fallen

    first, fallen = episode(5)
    assert first == episode(5)[0]
    assert fallen > 0, "without deaths the ranks never close"


@pytest.mark.parametrize("actions", [[0], [0, NUM_ACTIONS], [0, -1]])
def test_actions_that_do_not_fit_are_refused(actions: list[int]) -> None:
    gather = field([(4, 4), (8, 8)], [(9, 9)])
    with pytest.raises(ValueError, match="act"):
        play(gather, *actions)
