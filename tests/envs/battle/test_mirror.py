"""Left and right, up and down: the rules must not know the difference."""

import numpy as np
import pytest

from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM
from envs.battle.duel import BLUE, RED, Duel
from envs.battle.map import Deployment, deploy
from envs.battle.mirror import LEFT_RIGHT_A, UP_DOWN_A, MirroredOpponent, reflect
from envs.battle.opponents import HITS, MOVES, ScriptedOpponent

OFFSETS = np.concatenate([MOVES, HITS])


def test_a_reflected_action_goes_or_hits_the_other_way() -> None:
    assert (OFFSETS[LEFT_RIGHT_A] == OFFSETS * (-1, 1)).all()
    assert (OFFSETS[UP_DOWN_A] == OFFSETS * (1, -1)).all()
    for reflected in (LEFT_RIGHT_A, UP_DOWN_A):
        assert (reflected[reflected] == np.arange(NUM_ACTIONS)).all()
        assert ((reflected < len(MOVES)) == (np.arange(NUM_ACTIONS) < len(MOVES))).all()


def mirrored_map(deployment: Deployment) -> Deployment:
    """The same places seen in a mirror, teams on the other side."""
    flip = np.array([deployment.map_size - 1, 0])
    return Deployment(
        map_size=deployment.map_size,
        left=np.abs(flip - deployment.left),
        right=np.abs(flip - deployment.right),
    )


@pytest.mark.parametrize("team", [RED, BLUE])
def test_what_is_seen_in_a_mirrored_battle_is_the_reflection(team: int) -> None:
    deployment = deploy(20)
    here, there = Duel(deployment), Duel(mirrored_map(deployment))
    here.reset(0)
    there.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(6):
        # Moves only: the order of attacks is the engine's draw.
        actions = [rng.integers(len(MOVES), size=here.num_living(t)) for t in (RED, BLUE)]
        here.step(actions[RED], actions[BLUE])
        there.step(LEFT_RIGHT_A[actions[RED]], LEFT_RIGHT_A[actions[BLUE]])
        seen = here.observe(team)
        assert seen.any()
        np.testing.assert_array_equal(
            there.observe(team), reflect(seen, left_right=True, up_down=False)
        )


def test_a_double_reflection_is_no_reflection() -> None:
    seen = np.random.default_rng(0).normal(size=(5, OBSERVATION_DIM)).astype(np.float32)
    once = reflect(seen, left_right=True, up_down=True)
    assert not np.array_equal(once, seen)
    np.testing.assert_array_equal(reflect(once, left_right=True, up_down=True), seen)
    np.testing.assert_array_equal(reflect(seen, left_right=False, up_down=False), seen)


def test_a_mirrored_script_destroys_idle_blues_from_the_left() -> None:
    duel, rng = Duel(deploy(20)), np.random.default_rng(0)
    duel.reset(1)
    red = MirroredOpponent(ScriptedOpponent())
    while not duel.is_over:
        seen = duel.observe(RED)
        duel.step(red.act(seen, rng.random(len(seen))), np.full(duel.num_living(BLUE), 6))
    assert (duel.num_living(RED), duel.num_living(BLUE)) == (20, 0)
