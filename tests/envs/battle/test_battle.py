"""Battle: rewards, deaths, ends, observations and state, measured through our own class.

Most tests play on a map of 7×7, where a square of the minimap is one cell: the state then tells
exactly who stands where.
"""

import numpy as np
import pytest

from configs.arrays import IntArray
from envs.base import Snapshot, Transition
from envs.battle.battle import NOOP, OBSERVATION_DIM, Battle
from envs.battle.map import Deployment, deploy

Cell = tuple[int, int]

HIT_LEFT, HIT_RIGHT, HIT_UP, HIT_DOWN = 16, 17, 14, 19
LEFT, UP, DOWN, FAR_LEFT, FAR_RIGHT = 5, 2, 10, 4, 8
RED_HALF, BLUE_HALF = slice(0, 7), slice(7, 14)


def skirmish(red: list[Cell], blue: list[Cell], map_size: int = 7, max_cycles: int = 200) -> Battle:
    deployment = Deployment(
        map_size=map_size,
        left=np.array(red, dtype=np.int64),
        right=np.array(blue, dtype=np.int64),
    )
    return Battle(deployment, max_cycles)


def play(battle: Battle, red: list[int], blue: list[int]) -> Transition:
    """One step; `blue` lists the actions of the living blues."""
    battle.set_opponent_actions(np.array(blue, dtype=np.int64))
    return battle.step(np.array(red, dtype=np.int64))


def repeat(battle: Battle, times: int, red: list[int], blue: list[int]) -> Transition:
    """The same orders over and over; the last step's transition."""
    return [play(battle, red, blue) for _ in range(times)][-1]


def cells_of(half: slice, snapshot: Snapshot) -> set[Cell]:
    """Where a team stands on a 7×7 map."""
    ys, xs = np.nonzero(snapshot.state_S.reshape(7, 14)[:, half])
    return {(int(x), int(y)) for x, y in zip(xs, ys, strict=True)}


def own_health(snapshot: Snapshot, agent: int) -> float:
    return float(snapshot.observations_ND[agent].reshape(7, 14)[3, 3])


# --- rewards --------------------------------------------------------------------------------------


def test_six_hits_kill_and_pay_as_measured_in_the_papers_stack() -> None:
    battle = skirmish([(2, 3)], [(3, 3)])
    battle.reset(seed=0)
    steps = [play(battle, [HIT_RIGHT], [NOOP]) for _ in range(6)]
    rewards = [step.rewards_N[0] for step in steps]
    np.testing.assert_allclose(rewards, [0.095] * 5 + [4.895], rtol=1e-6)
    assert [step.terminated for step in steps] == [False] * 5 + [True]


def test_a_victim_is_charged_once_in_the_step_it_falls() -> None:
    battle = skirmish([(2, 3), (5, 5)], [(3, 3)])
    battle.reset(seed=0)
    rewards = [play(battle, [NOOP, NOOP], [HIT_LEFT]).rewards_N[0] for _ in range(7)]
    np.testing.assert_allclose(rewards, [-0.005] * 5 + [-0.1, 0.0], rtol=1e-6)


def test_a_victim_that_struck_first_is_still_paid_for_its_hit() -> None:
    battle = skirmish([(2, 3), (5, 5)], [(3, 3)])
    earned: set[float] = set()
    for seed in range(12):
        battle.reset(seed)
        repeat(battle, 5, [NOOP, NOOP], [HIT_LEFT])
        fallen = play(battle, [HIT_RIGHT, NOOP], [HIT_LEFT])
        assert not fallen.after.alive_N[0]
        earned.add(round(float(fallen.rewards_N[0]), 4))
    assert earned == {-0.1, 0.1}


def test_hitting_nothing_and_hitting_a_team_mate_cost_the_same() -> None:
    battle = skirmish([(2, 3), (3, 3), (5, 5)], [(1, 1)])
    battle.reset(seed=0)
    after = play(battle, [HIT_RIGHT, HIT_DOWN, NOOP], [NOOP])
    np.testing.assert_allclose(after.rewards_N, [-0.105, -0.105, -0.005], rtol=1e-6)
    assert own_health(after.after, 1) == 1.0


# --- deaths ---------------------------------------------------------------------------------------


def test_actions_reach_the_agent_they_are_meant_for_after_deaths() -> None:
    # Reds 0 and 2 fall, one after the other; then reds 1, 3 and 4 move one at a time.
    red: list[Cell] = [(1, 1), (5, 1), (1, 3), (3, 5), (5, 5)]
    battle = skirmish(red, [(1, 2)])
    battle.reset(seed=0)
    repeat(battle, 6, [NOOP] * 5, [HIT_UP])
    after = repeat(battle, 6, [NOOP] * 5, [HIT_DOWN])
    assert after.after.alive_N.tolist() == [False, True, False, True, True]
    standing = {1: (5, 1), 3: (3, 5), 4: (5, 5)}
    for agent, (x, y) in standing.items():
        # The dead are given orders too, which nobody may carry out.
        orders = [UP, NOOP, UP, NOOP, NOOP]
        orders[agent] = LEFT
        standing[agent] = (x - 1, y)
        snapshot = play(battle, orders, [NOOP]).after
        assert cells_of(RED_HALF, snapshot) == set(standing.values())


def test_opponents_actions_follow_the_order_of_the_living() -> None:
    battle = skirmish([(2, 2)], [(1, 2), (3, 5), (5, 5)])
    battle.reset(seed=0)
    for _ in range(6):
        assert len(battle.opponent_observations()) == 3
        play(battle, [HIT_LEFT], [NOOP] * 3)
    assert battle.opponent_observations().shape == (2, OBSERVATION_DIM)
    after = play(battle, [NOOP], [NOOP, UP])
    assert cells_of(BLUE_HALF, after.after) == {(3, 5), (5, 4)}


def test_the_dead_see_nothing_and_earn_nothing() -> None:
    battle = skirmish([(2, 3), (3, 4)], [(3, 3)])
    battle.reset(seed=0)
    fallen = repeat(battle, 6, [NOOP, NOOP], [HIT_LEFT])
    later = play(battle, [HIT_RIGHT, HIT_UP], [NOOP])
    for transition in (fallen, later):
        assert transition.after.alive_N.tolist() == [False, True]
        assert not transition.after.observations_ND[0].any()
        assert transition.after.observations_ND[1].any()
    assert later.rewards_N[0] == 0.0
    assert later.rewards_N[1] == pytest.approx(0.095)


def test_a_new_episode_brings_back_the_dead() -> None:
    battle = skirmish([(2, 3), (5, 5)], [(3, 3)])
    first = battle.reset(seed=0)
    repeat(battle, 6, [NOOP, NOOP], [HIT_LEFT])
    again = battle.reset(seed=1)
    assert again.alive_N.all()
    np.testing.assert_array_equal(again.observations_ND, first.observations_ND)
    np.testing.assert_array_equal(again.state_S, first.state_S)


# --- steps and seeds ------------------------------------------------------------------------------


def test_both_teams_play_their_own_actions_on_the_first_step_after_each_reset() -> None:
    battle = skirmish([(2, 3), (5, 5)], [(3, 3), (1, 1)])
    for seed in range(2):
        battle.reset(seed)
        after = play(battle, [NOOP, LEFT], [HIT_LEFT, DOWN]).after
        assert own_health(after, 0) == np.float16(0.81)
        assert cells_of(RED_HALF, after) == {(2, 3), (4, 5)}
        assert cells_of(BLUE_HALF, after) == {(3, 3), (1, 2)}


def test_an_opponent_without_orders_stands_still() -> None:
    battle = skirmish([(1, 1)], [(5, 5)])
    battle.reset(seed=0)
    play(battle, [NOOP], [UP])
    after = battle.step(np.array([NOOP])).after
    assert cells_of(BLUE_HALF, after) == {(5, 4)}


def eight_duels(seed: int) -> list[float]:
    """Two reds hit each of eight blues; chance alone decides which of the two strikes last."""
    blue = [(4 + 4 * (i % 4), 4 + 4 * (i // 4)) for i in range(8)]
    red = [(x + side, y) for x, y in blue for side in (-1, 1)]
    battle = skirmish(red, blue, map_size=25)
    battle.reset(seed)
    return repeat(battle, 3, [HIT_RIGHT, HIT_LEFT] * 8, [NOOP] * 8).rewards_N.tolist()


def test_equal_seeds_give_equal_episodes_and_other_seeds_others() -> None:
    duels = [eight_duels(seed) for seed in range(4)]
    assert duels == [eight_duels(seed) for seed in range(4)]
    assert all(sorted(rewards) == sorted(duels[0]) for rewards in duels)
    assert len({tuple(rewards) for rewards in duels}) == 4


# --- ends -----------------------------------------------------------------------------------------


def test_the_time_limit_truncates_and_a_tie_is_not_won() -> None:
    battle = skirmish([(1, 1)], [(5, 5)], max_cycles=3)
    battle.reset(seed=0)
    ends = [play(battle, [NOOP], [NOOP]) for _ in range(3)]
    assert [end.truncated for end in ends] == [False, False, True]
    assert not any(end.terminated or end.won for end in ends)


@pytest.mark.parametrize("max_cycles", [6, 200])
def test_extinction_terminates_even_at_the_time_limit(max_cycles: int) -> None:
    battle = skirmish([(2, 3)], [(3, 3)], max_cycles=max_cycles)
    battle.reset(seed=0)
    end = repeat(battle, 6, [HIT_RIGHT], [NOOP])
    assert end.terminated
    assert not end.truncated
    assert end.won
    assert len(battle.opponent_observations()) == 0


def test_the_loss_of_the_whole_team_terminates_and_leaves_an_empty_picture() -> None:
    battle = skirmish([(2, 3)], [(3, 3)])
    battle.reset(seed=0)
    end = repeat(battle, 6, [NOOP], [HIT_LEFT])
    assert end.terminated
    assert not end.won
    assert not end.after.observations_ND.any()
    assert cells_of(RED_HALF, end.after) == set()


def test_more_survivors_at_the_time_limit_win() -> None:
    battle = skirmish([(2, 3), (5, 5)], [(3, 3)], max_cycles=1)
    battle.reset(seed=0)
    end = play(battle, [NOOP, NOOP], [NOOP])
    assert end.truncated
    assert end.won


def test_playing_on_after_the_end_is_a_programming_error() -> None:
    battle = skirmish([(1, 1)], [(5, 5)], max_cycles=1)
    with pytest.raises(AssertionError, match="reset"):
        battle.step(np.array([NOOP]))
    battle.reset(seed=0)
    play(battle, [NOOP], [NOOP])
    with pytest.raises(AssertionError, match="reset"):
        battle.step(np.array([NOOP]))


@pytest.mark.parametrize("actions", [[NOOP], [NOOP, 21], [-1, NOOP]])
def test_actions_that_do_not_fit_are_refused(actions: list[int]) -> None:
    battle = skirmish([(1, 1), (1, 5)], [(5, 1), (5, 5)])
    battle.reset(seed=0)
    wrong: IntArray = np.array(actions, dtype=np.int64)
    with pytest.raises(ValueError, match="red"):
        battle.step(wrong)
    with pytest.raises(ValueError, match="blue"):
        battle.set_opponent_actions(wrong)


# --- what is seen ---------------------------------------------------------------------------------


def test_an_observation_shows_health_beside_walls_row_by_row() -> None:
    battle = skirmish([(1, 3), (2, 3)], [(2, 4)])
    view = battle.reset(seed=0).observations_ND[0].reshape(7, 14)
    own, enemies = view[:, RED_HALF], view[:, BLUE_HALF]
    assert own[3, 3] == own[3, 4] == 1.0
    assert enemies[4, 4] == 1.0
    # The wall at x = 0, one cell to the left, as far as the round view reaches; in both halves.
    assert (own[1:6, 2] == -1.0).all()
    assert (enemies[1:6, 2] == -1.0).all()
    # (3, 0) and (3, 6), at either end of the column ahead, belong to the wall as well.
    assert own[0, 3] == own[6, 3] == -1.0
    assert (own > 0).sum() == 2
    assert (enemies > 0).sum() == 1


def test_both_teams_see_themselves_first() -> None:
    battle = skirmish([(2, 3)], [(3, 3)])
    battle.reset(seed=0)
    play(battle, [HIT_RIGHT], [NOOP])
    view = battle.opponent_observations()[0].reshape(7, 14)
    assert view[3, 3] == np.float16(0.81)
    assert view[3, 7 + 2] == 1.0


def test_opponents_see_health_rounded_to_float16_and_walls() -> None:
    battle = skirmish([(2, 2), (2, 4), (4, 3)], [(3, 2), (3, 4), (3, 3)])
    battle.reset(seed=0)
    rng = np.random.default_rng(0)
    healths: set[float] = set()
    for _ in range(100):
        num_blue = len(battle.opponent_observations())
        blues = rng.choice([NOOP, HIT_LEFT, HIT_RIGHT, HIT_UP], num_blue).tolist()
        after = play(battle, [NOOP] * 3, blues).after
        if not after.alive_N.any():
            break
        seen = battle.opponent_observations()
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen.astype(np.float16).astype(np.float32), seen)
        assert seen.min() == -1.0, "walls are in sight"
        # Reds as blue sees them, against numpy's own rounding of what they see of themselves.
        enemies = seen.reshape(-1, 7, 14)[:, :, 7:]
        by_red = {own_health(after, int(red)) for red in np.flatnonzero(after.alive_N)}
        assert set(enemies[enemies > 0.0].tolist()) == by_red
        healths |= by_red
    assert len(healths) > 10, "few kinds of health prove little"


def test_the_state_counts_both_teams_over_their_initial_size() -> None:
    deployment = deploy(20)
    state = Battle(deployment).reset(seed=0).state_S.reshape(7, 14)
    expected = np.zeros((7, 14))
    for x, y in deployment.left.tolist():
        expected[y // 4, x // 4] += 1 / 20
    for x, y in deployment.right.tolist():
        expected[y // 4, 7 + x // 4] += 1 / 20
    np.testing.assert_allclose(state, expected, rtol=1e-6)


def test_the_state_outlives_the_first_agent() -> None:
    battle = skirmish([(2, 3), (5, 5), (1, 1), (5, 1)], [(3, 3)])
    battle.reset(seed=0)
    after = repeat(battle, 6, [NOOP] * 4, [HIT_LEFT]).after
    state = after.state_S.reshape(7, 14)
    assert not after.alive_N[0]
    assert cells_of(RED_HALF, after) == {(5, 5), (1, 1), (5, 1)}
    assert state[5, 5] == 0.25
    assert cells_of(BLUE_HALF, after) == {(3, 3)}


@pytest.mark.parametrize("num_agents", [4, 1024])
def test_the_smallest_and_the_largest_population_play(num_agents: int) -> None:
    battle = Battle(deploy(num_agents))
    before = battle.reset(seed=0)
    assert before.observations_ND.shape == (num_agents, battle.spec.observation_dim)
    assert before.state_S.shape == (battle.spec.state_dim,)
    after = repeat(battle, 2, [FAR_RIGHT] * num_agents, [FAR_LEFT] * num_agents).after
    assert after.alive_N.all()
    assert not np.array_equal(after.state_S, before.state_S)
