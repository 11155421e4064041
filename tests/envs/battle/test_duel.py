"""Both sides of a battle are what `envs.battle` shows of one."""

import numpy as np
import pytest

from envs.battle.battle import NUM_ACTIONS, Battle
from envs.battle.duel import BLUE, RED, Duel
from envs.battle.map import deploy
from envs.battle.mirror import MirroredOpponent
from envs.battle.opponents import ScriptedOpponent


def test_a_duel_is_the_same_battle_seen_from_both_sides() -> None:
    duel, battle = Duel(deploy(20), 60), Battle(deploy(20), 60)
    duel.reset(3)
    alive = battle.reset(3).alive_N
    rng = np.random.default_rng(0)
    end = None
    while not duel.is_over:
        np.testing.assert_array_equal(duel.observe(BLUE), battle.opponent_observations())
        blue = rng.integers(13, NUM_ACTIONS, size=duel.num_living(BLUE))
        red_N = rng.integers(NUM_ACTIONS, size=20)
        living = duel.living(RED)
        np.testing.assert_array_equal(living, np.flatnonzero(alive))
        red, _ = duel.step(red_N[living], blue)
        battle.set_opponent_actions(blue)
        end = battle.step(red_N)
        np.testing.assert_array_equal(red.rewards_L, end.rewards_N[living])
        alive = end.after.alive_N
        np.testing.assert_array_equal(living[red.survived_L], np.flatnonzero(alive))
        if duel.num_living(RED):
            np.testing.assert_array_equal(duel.observe(RED), end.after.observations_ND[alive])
    assert end is not None
    assert end.terminated or end.truncated


def test_a_team_without_anybody_sees_nothing() -> None:
    duel = Duel(deploy(4), 400)
    duel.reset(0)
    red, rng = MirroredOpponent(ScriptedOpponent()), np.random.default_rng(0)
    while not duel.is_over:
        seen = duel.observe(RED)
        duel.step(red.act(seen, rng.random(len(seen))), np.full(duel.num_living(BLUE), 6))
    assert duel.is_decided
    with pytest.raises(ValueError, match="nobody"):
        duel.observe(BLUE)
