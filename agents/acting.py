"""Which action an agent takes: the best by its q-values, or now and then a random one.

q [E, A], observation, epsilon -> Actor.choose -> actions [E]
"""

import numpy as np
from numpy.typing import NDArray

from agents.advice import Advice
from agents.participation import Participation
from configs.arrays import FloatArray
from runtime.net import wire


class Actor:
    """Chooses the actions of one agent in E copies."""

    def __init__(
        self, observation_dim: int, advice: Advice | None, rng: np.random.Generator
    ) -> None:
        """
        Args:
            advice: asked in some of the exploring steps; None: dice alone decide there.
            rng: the agent's own; nothing is drawn where no copy explores.
        """
        self._observation_dim = observation_dim
        self._advice = advice
        self._rng = rng

    def choose(
        self, q_EA: FloatArray, now: wire.Observation, takes_part: Participation
    ) -> NDArray[np.uint8]:
        """[E] epsilon-greedy in copies that explore, greedy elsewhere; 0 of the dead."""
        actions_E = q_EA.argmax(axis=1).astype(np.uint8)
        alive_E, explores_E = takes_part.alive_E, takes_part.explores_E
        if now.epsilon > 0.0 and takes_part.any_explores:
            random_E = self._rng.integers(0, q_EA.shape[1], size=len(actions_E), dtype=np.uint8)
            dice_E = self._rng.random(len(actions_E)) < now.epsilon
            explores_E = dice_E & explores_E
            actions_E = np.where(explores_E, random_E, actions_E)
            if self._advice is not None:
                seen_ED = np.zeros((len(actions_E), self._observation_dim), np.float32)
                seen_ED[alive_E] = now.observations
                self._advice.apply(actions_E, explores_E & alive_E, seen_ED, self._rng)
        if takes_part.num_alive < len(actions_E):
            actions_E[~alive_E] = 0
        return actions_E
