"""A guide: somebody who knows plays some of the exploring steps of training.

    epsilon -> share of it for the guide -> actions that are played; the rest for the agents' dice

Where good actions are rare, an agent that only rolls dice learns to leave the enemy alone long
before it has seen what a fight is worth. What is learned from is what was played, so the guide
needs no part in the agent. It plays in training only: a policy that is evaluated or deployed never
depends on it.

Of an exploration rate e and a share s, the guide plays in e s of the steps. The agents explore in
e (1 - s) of all steps, which is a rate of e (1 - s) / (1 - e s) in those that are left to them.

Dimension key: E = copies, N = agents, D = observation features.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray


class Player(Protocol):
    """Chooses actions by observations."""

    def act(self, rows_BD: FloatArray, uniforms_B: NDArray[np.float64], /) -> NDArray[Any]:
        """One action for each row, by as many numbers of [0, 1) as there are rows."""
        ...


class Guide:
    """One player, and how often it plays."""

    def __init__(
        self,
        player: Player,
        share: float,
        rng: np.random.Generator,
        features: int | None = None,
    ) -> None:
        """
        Args:
            share: of the exploring steps.
            rng: nothing is drawn where no copy explores.
            features: of an observation, the first so many are what the player knows; None: all.
        """
        self._features = features
        self._player = player
        self._share = share
        self._rng = rng

    def epsilon_of_agents(self, epsilon: float) -> float:
        """The exploration rate in the steps that are left to the agents."""
        left = 1.0 - epsilon * self._share
        return epsilon * (1.0 - self._share) / left if left > 0.0 else 0.0

    def lead(
        self,
        actions_EN: NDArray[Any],
        observations_END: NDArray[Any],
        may_EN: BoolArray,
        epsilon: float,
    ) -> BoolArray:
        """[E, N] where the guide plays: there its actions take the place of the agents'.

        Args:
            may_EN: living agents in copies that explore.
            epsilon: the run's exploration rate.
        """
        if not may_EN.any():
            return may_EN
        led_EN = may_EN & (self._rng.random(may_EN.shape) < epsilon * self._share)
        rows = observations_END[led_EN][:, : self._features].astype(np.float32)
        if len(rows):
            actions_EN[led_EN] = self._player.act(rows, self._rng.random(len(rows)))
        return led_EN
