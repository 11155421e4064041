"""Opponents: who plays blue in Battle.

    observations of living blues of several copies, a uniform number for each -> act -> actions

See envs/opponent.py for what an opponent is. Blue starts on the right: its enemies are to the left.

Dimension key: B = agents asked at once, D = observation features, V = cells along the view,
A = actions, G = moves, K = cells in reach of a hit.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from configs.arrays import BoolArray, FloatArray, IntArray
from configs.bounded import read_bytes
from configs.shipped import idqn_path
from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM, VIEW
from envs.opponent import Opponent, UniformArray

# Both tables were measured on the engine, and a test measures them again.
MOVES = np.array(
    [
        *[(0, -2), (-1, -1), (0, -1), (1, -1), (-2, 0), (-1, 0), (0, 0)],
        *[(1, 0), (2, 0), (-1, 1), (0, 1), (1, 1), (0, 2)],
    ],
    dtype=np.int64,
)
"""[G, 2] dx and dy of actions 0 to 12; y grows downwards."""
HITS = np.array(
    [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)], dtype=np.int64
)
"""[K, 2] dx and dy of the cell that actions 13 to 20 hit."""
FIRST_HIT = len(MOVES)

_CENTRE = VIEW // 2
_LEFT, _UP, _RIGHT, _DOWN = np.array([(-1, 0), (0, -1), (1, 0), (0, 1)], dtype=np.int64)

_MOST_BYTES = 1 << 28
"""Of a file of weights."""


def make_opponent(name_or_path: str) -> Opponent:
    """Build the opponent called `random`, `scripted` or `idqn`, or the one in a safetensors file.

    Raises:
        ValueError: neither a known name nor a file, or a file that does not fit.
    """
    match name_or_path:
        case "random":
            return RandomOpponent()
        case "scripted":
            return ScriptedOpponent()
        case "idqn":
            return PolicyFileOpponent(idqn_path())
        case _ if Path(name_or_path).is_file():
            return PolicyFileOpponent(Path(name_or_path))
        case _:
            raise ValueError(
                f"no opponent {name_or_path!r}: choose random, scripted, idqn or the path of "
                "a safetensors policy file"
            )


def opponent_file(name: str) -> Path:
    """The file of an opponent that has one.

    Raises:
        ValueError: there is no such file.
    """
    path = idqn_path() if name == "idqn" else Path(name)
    if not path.is_file():
        raise ValueError(f"{name!r} is no opponent with a file: give idqn or the path of one")
    return path


class RandomOpponent:
    """Every action is as likely as any other."""

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        return (uniforms_B * NUM_ACTIONS).astype(np.int64)


class ScriptedOpponent:
    """Hit whom it can reach, else advance on the nearest enemy it sees, else go looking.

    Looking: walk left to the far side, then along the walls, the wall on the left hand. On the way
    down the right wall an agent turns left again at a random height, so that in the end every row
    of the map is searched and nobody stands at a wall for ever.
    """

    _turn_back = 0.1
    """Chance of each step down the right wall to set off across the map."""

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        num_agents = len(observations_BD)
        views_BVV = observations_BD.reshape(num_agents, VIEW, 2 * VIEW)
        own_BVV, enemies_BVV = views_BVV[:, :, :VIEW], views_BVV[:, :, VIEW:]
        turns_back_B = uniforms_B < self._turn_back

        sees_B, nearest_B2 = _nearest(enemies_BVV)
        heading_B2 = _patrol(own_BVV < 0.0, turns_back_B)
        # Four cells ahead: far enough that a longer step is always a better one.
        goal_B2 = np.where(sees_B[:, None], nearest_B2, 4 * heading_B2)
        moves_B = _approach(goal_B2, (own_BVV != 0.0) | (enemies_BVV > 0.0))

        in_reach_BK = (nearest_B2[:, None] == HITS).all(axis=2)
        hits_B = FIRST_HIT + in_reach_BK.argmax(axis=1)
        return np.where(sees_B & in_reach_BK.any(axis=1), hits_B, moves_B)


class PolicyFileOpponent:
    """Three linear layers with ReLU between them, greedy, as ExpoComm's released opponents.

    The file holds `layer1`, `layer2` and `layer3`, each with `weight` [out, in] and `bias` [out]:
    observation features in, action values out.
    """

    def __init__(
        self, path: Path, num_features: int = OBSERVATION_DIM, num_actions: int = NUM_ACTIONS
    ) -> None:
        """Load the layers.

        Args:
            num_features: D of the environment it plays in; Battle's unless said.
            num_actions: A, likewise.

        Raises:
            ValueError: unreadable, a tensor is missing, has another shape or is not finite.
        """
        try:
            tensors = load(read_bytes(path, _MOST_BYTES))
        # safetensors raises TypeError and others for dtypes that numpy does not have.
        except (OSError, SafetensorError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"opponent file {path} cannot be read: {error!r}") from error
        wanted = [f"layer{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]
        if missing := [name for name in wanted if name not in tensors]:
            raise ValueError(f"opponent file {path} has no tensor {', '.join(missing)}")
        self._layers = [
            (
                np.asarray(tensors[f"layer{i}.weight"], dtype=np.float32),
                np.asarray(tensors[f"layer{i}.bias"], dtype=np.float32),
            )
            for i in (1, 2, 3)
        ]
        weights = [weight for weight, _ in self._layers]
        fits = (
            all(weight.ndim == 2 for weight in weights)
            and weights[0].shape[1] == num_features
            and weights[-1].shape[0] == num_actions
            and all(below.shape[0] == above.shape[1] for below, above in pairwise(weights))
            and all(bias.shape == weight.shape[:1] for weight, bias in self._layers)
        )
        if not fits:
            shapes = ", ".join(f"{name} {list(tensors[name].shape)}" for name in wanted)
            raise ValueError(
                f"opponent file {path} does not fit: it must lead from {num_features} features "
                f"to {num_actions} actions in three layers, has {shapes}"
            )
        if not all(np.isfinite(tensor).all() for layer in self._layers for tensor in layer):
            raise ValueError(f"opponent file {path} holds values that are not finite")

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        values_BA = observations_BD
        for i, (weight, bias) in enumerate(self._layers):
            if i > 0:
                values_BA = np.maximum(values_BA, 0.0)
            values_BA = values_BA @ weight.T + bias
        return values_BA.argmax(axis=1)


def _nearest(enemies_BVV: FloatArray) -> tuple[BoolArray, IntArray]:
    """[B] whether an enemy is in view, [B, 2] dx and dy of the nearest, the weakest of equals."""
    dy_VV, dx_VV = np.indices((VIEW, VIEW)) - _CENTRE
    # Health is at most 1, so half of it never outweighs a whole step of squared distance.
    cost_BVV = np.where(
        enemies_BVV > 0.0, dx_VV**2 + dy_VV**2 + 0.5 * enemies_BVV, np.float32(np.inf)
    )
    cost_BC = cost_BVV.reshape(len(enemies_BVV), VIEW * VIEW)
    cells_B = cost_BC.argmin(axis=1)
    offsets_B2 = np.stack([cells_B % VIEW, cells_B // VIEW], axis=1) - _CENTRE
    return np.isfinite(cost_BC.min(axis=1)), offsets_B2


def _patrol(walls_BVV: BoolArray, turns_back_B: BoolArray) -> IntArray:
    """[B, 2] direction to walk in while nobody is in view."""

    def near(direction: IntArray) -> BoolArray:
        """[B] whether a wall stands within one step, two cells, in this direction."""
        (x1, y1), (x2, y2) = _CENTRE + direction, _CENTRE + 2 * direction
        return walls_BVV[:, y1, x1] | walls_BVV[:, y2, x2]

    left_B, up_B, right_B, down_B = near(_LEFT), near(_UP), near(_RIGHT), near(_DOWN)
    heading_B2 = np.broadcast_to(_LEFT, (len(walls_BVV), 2)).copy()
    heading_B2[left_B & ~up_B] = _UP
    heading_B2[up_B & ~right_B] = _RIGHT
    heading_B2[right_B & ~down_B & ~turns_back_B] = _DOWN
    return heading_B2


def _approach(goal_B2: IntArray, taken_BVV: BoolArray) -> IntArray:
    """[B] the move that ends nearest to the goal, among those to a free cell or staying."""
    distance_BG = ((goal_B2[:, None] - MOVES) ** 2).sum(axis=2)
    dx_G, dy_G = MOVES.T
    blocked_BG = taken_BVV[:, _CENTRE + dy_G, _CENTRE + dx_G] & (MOVES != 0).any(axis=1)
    return np.where(blocked_BG, np.iinfo(np.int64).max, distance_BG).argmin(axis=1)
