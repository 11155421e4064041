"""Exploring by asking somebody who knows: a better beginning than chance.

    observation -> adviser (scripted, or a policy file) -> action, in place of a random one

Where good actions are rare, an agent that only rolls dice learns to leave the enemy alone long
before it has seen what a fight is worth. Q-learning is off-policy: it may learn from what somebody
else would have done. The adviser is asked in exploring steps only, so a policy that is evaluated or
deployed never depends on it.
"""

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from configs import extensions
from configs.arrays import BoolArray, FloatArray, IntArray


class _Adviser(Protocol):
    """What we need of an environment's opponent (envs/opponent.py)."""

    def act(self, observations_BD: FloatArray, uniforms_B: NDArray[np.float64]) -> IntArray: ...


class Advice:
    """One adviser and how often it is asked."""

    def __init__(self, environment: str, name: str, share: float) -> None:
        """Find the adviser, with the environment's own family: agents import no environment unless
        they are to ask somebody.

        Args:
            name: as of the family's `adviser`.
            share: of the exploring steps in which it is asked.

        Raises:
            ValueError: there is no such adviser.
        """
        family = cast("Any", extensions.load(extensions.ENVIRONMENT, environment))
        self._adviser: _Adviser = family(environment).adviser(name)
        self._share = share

    def apply(
        self,
        actions_E: np.ndarray[tuple[int], np.dtype[np.uint8]],
        explores_E: BoolArray,
        observations_ED: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        """Put the adviser's actions in place of some of the random ones.

        Args:
            explores_E: copies whose action is a random one.
            observations_ED: what is seen in all copies, in the adviser's format.
        """
        asked_E = explores_E & (rng.random(len(actions_E)) < self._share)
        uniforms_E = rng.random(len(actions_E))
        if asked_E.any():
            actions_E[asked_E] = self._adviser.act(observations_ED[asked_E], uniforms_E[asked_E])
