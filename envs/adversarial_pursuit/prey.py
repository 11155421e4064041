"""Who plays the prey in AdversarialPursuit.

    what the prey of several copies see, a uniform number for each -> act -> actions

As in Battle: no memory, and what a row does depends on nothing but the row.

Dimension key: B = prey asked at once, D = observation features, V = cells along a prey's view, G =
moves.
"""

from pathlib import Path

import numpy as np

import configs
from configs.arrays import FloatArray, IntArray
from envs.adversarial_pursuit.pursuit import (
    NUM_ACTIONS,
    NUM_PREY_ACTIONS,
    OBSERVATION_DIM,
    PREY_NOOP,
    PREY_VIEW,
    VIEW,
)
from envs.battle.opponents import Opponent, PolicyFileOpponent, UniformArray

# Measured on the engine, and a test measures it again.
PREY_MOVES = np.array([(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], dtype=np.int64)
"""[G, 2] dx and dy of a prey's actions; y grows downwards."""

TRAINED = Path(configs.__file__).parent / "policies" / "adversarial-pursuit-prey.safetensors"
"""Those of `python -m learner.opponent --env adversarial-pursuit`; docs/results/pursuit.md."""

_CENTRE = PREY_VIEW // 2


def make_prey(name_or_path: str) -> Opponent:
    """Build the prey called `random`, `scripted` or `idqn`, or those in a safetensors file.

    Raises:
        ValueError: neither a known name nor a file, or a file that does not fit.
    """
    match name_or_path:
        case "random":
            return RandomPrey()
        case "scripted":
            return ScriptedPrey()
        case "idqn":
            return PolicyFilePrey(TRAINED)
        case _ if Path(name_or_path).is_file():
            return PolicyFilePrey(Path(name_or_path))
        case _:
            raise ValueError(
                f"no prey {name_or_path!r}: choose random, scripted, idqn or the path of a "
                "safetensors policy file"
            )


class RandomPrey:
    """Every action is as likely as any other."""

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        return (uniforms_B * NUM_PREY_ACTIONS).astype(np.int64)


class ScriptedPrey:
    """Away from the predators in view: to the free cell, or to stay, that is farthest from the
    nearest of them; among equals to the one that is farthest from all, and then by chance. With
    none in view it stands still.
    """

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        own_BVV, others_BVV = _halves(observations_BD)
        predators_BVV = others_BVV > 0.0
        taken_BVV = (own_BVV != 0.0) | predators_BVV
        dx_G, dy_G = PREY_MOVES.T
        dy_VV, dx_VV = np.indices((PREY_VIEW, PREY_VIEW)) - _CENTRE
        # [G, V, V] squared distance of each cell in view from where a move leads.
        distance_GVV = (dx_VV - dx_G[:, None, None]) ** 2 + (dy_VV - dy_G[:, None, None]) ** 2
        seen_BGVV = predators_BVV[:, None]
        nearest_BG = np.where(seen_BGVV, distance_GVV, np.iinfo(np.int64).max).min(axis=(2, 3))
        total_BG = np.where(seen_BGVV, distance_GVV, 0).sum(axis=(2, 3))
        # Sums of distances stay far below 10,000, and ties are broken by a number below 1.
        chance_BG = (uniforms_B[:, None] + np.arange(NUM_PREY_ACTIONS) / NUM_PREY_ACTIONS) % 1.0
        worth_BG = nearest_BG.clip(max=1000) * 10_000.0 + total_BG + chance_BG
        blocked_BG = taken_BVV[:, _CENTRE + dy_G, _CENTRE + dx_G] & (PREY_MOVES != 0).any(axis=1)
        sees_B = predators_BVV.reshape(len(predators_BVV), -1).any(axis=1)
        worth_BG = np.where(blocked_BG, -1.0, worth_BG)
        return np.where(sees_B, worth_BG.argmax(axis=1), PREY_NOOP)


class PolicyFilePrey:
    """Three linear layers, greedy, in a file as of the ExpoComm release: 128 observation features
    in and 13 action values out, as predators have. The four actions that a prey does not have are
    played as its first, as in that release.
    """

    def __init__(self, path: Path) -> None:
        """Load the layers.

        Raises:
            ValueError: as `PolicyFileOpponent`.
        """
        self._layers = PolicyFileOpponent(path, OBSERVATION_DIM, NUM_ACTIONS)

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        actions_B = self._layers.act(observations_BD, uniforms_B)
        return np.where(actions_B < NUM_PREY_ACTIONS, actions_B, 0)


def _halves(observations_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
    """[B, V, V] prey and [B, V, V] predators in view, both with walls at -1."""
    seen = observations_BD.reshape(-1, VIEW, 2, VIEW)[:, :PREY_VIEW, :, :PREY_VIEW]
    return seen[:, :, 0], seen[:, :, 1]
