"""Link loss: packets that arrive and are thrown away, as if a link had lost them.

    rng -> what is lost of the step's messages and beacons [E, K] -> agents/core.py

The receiver throws away, not the sender: a lost packet has crossed the wire, so bytes are what they
would be, nobody waits longer than for an arrival, and no mask changes. Copies that share a packet
are worlds of their own and lose independently of each other.

Dimension key: E = copies, K = offsets.
"""

import numpy as np

from configs.arrays import BoolArray


class LinkLoss:
    """The losses of one agent's arrivals, step by step."""

    def __init__(
        self, probability: float, copies: int, offsets: int, rng: np.random.Generator
    ) -> None:
        """Lose each vector of a message or beacon with this probability.

        Args:
            rng: the agent's own. A child of it is drawn from, so that losses change none of its
                other draws.
        """
        self._probability = probability
        self._shape = (2, copies, offsets)
        (self._rng,) = rng.spawn(1)

    def draw(self) -> tuple[BoolArray, BoolArray]:
        """[E, K] messages on in-edges and beacons of out-neighbours that the next step loses.

        Drawn once a step for all edges, used or not: the same seed loses the same packets in
        whatever order they come.
        """
        messages_EK, beacons_EK = self._rng.random(self._shape) < self._probability
        return messages_EK, beacons_EK
