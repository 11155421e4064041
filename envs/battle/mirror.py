"""Battle in a mirror: the same situation on the other side of the map.

    observations [B, D] -> reflected;  actions [B] -> reflected

Left and right, or up and down, make no difference to the rules: what is right in a situation is
right in its reflection. So one side's experience teaches the other, and an opponent made for blue
can play red.

Dimension key: B = agents, D = observation features, V = cells along the view, A = actions.
"""

import numpy as np

from configs.arrays import FloatArray, IntArray
from envs.battle.battle import NUM_ACTIONS, VIEW
from envs.battle.opponents import HITS, MOVES
from envs.opponent import Opponent, UniformArray

_OFFSETS_A2 = np.concatenate([MOVES, HITS])
_NUM_MOVES = len(MOVES)


def _reflected_actions(axis: int) -> IntArray:
    """[A] the action whose offset is that of each action with dx (axis 0) or dy (1) reversed."""
    reflected_A2 = _OFFSETS_A2.copy()
    reflected_A2[:, axis] *= -1
    moves = [int((offset == MOVES).all(axis=1).argmax()) for offset in reflected_A2[:_NUM_MOVES]]
    hits = [
        _NUM_MOVES + int((offset == HITS).all(axis=1).argmax())
        for offset in reflected_A2[_NUM_MOVES:]
    ]
    return np.array(moves + hits, dtype=np.int64)


LEFT_RIGHT_A, UP_DOWN_A = _reflected_actions(0), _reflected_actions(1)
"""[A] what each action becomes in the mirror; both are their own inverse."""
assert len(LEFT_RIGHT_A) == NUM_ACTIONS


def reflect(observations_BD: FloatArray, *, left_right: bool, up_down: bool) -> FloatArray:
    """[B, D] the observations of the mirrored situation, a copy where anything is mirrored."""
    views = observations_BD.reshape(len(observations_BD), VIEW, 2, VIEW)
    if up_down:
        views = views[:, ::-1]
    if left_right:
        views = views[..., ::-1]
    return views.reshape(observations_BD.shape)


class MirroredOpponent:
    """An opponent made for the right side, playing on the left."""

    def __init__(self, opponent: Opponent) -> None:
        self._opponent = opponent

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        mirrored_BD = reflect(observations_BD, left_right=True, up_down=False)
        return LEFT_RIGHT_A[self._opponent.act(mirrored_BD, uniforms_B)]
