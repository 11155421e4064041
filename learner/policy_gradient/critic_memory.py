"""What a critic with a memory remembers of an episode from one piece to the next.

    pieces of a rollout -> begin -> each with what was remembered before it, as a column
    states within them -> end -> kept for the pieces of the next rollout

It is what the critic of then remembered, as agents' carries are what the policy of then did. Of a
piece that was lost, or joined before this process began, nothing is known: the next one begins with
nothing.

Dimension key: N = agents, H = what the critic remembers of each.
"""

from collections.abc import Sequence

import numpy as np

from configs.arrays import FloatArray
from configs.columns import Column
from learner.experience.episode import Episode

CRITIC_MEMORY = Column("critic_memory", ("float32",), once=True)
"""[1, N, H] before a piece."""


class CriticMemory:
    """Of the episodes in progress, one in each copy."""

    def __init__(self, hidden: int) -> None:
        """
        Args:
            hidden: H
        """
        self._hidden = hidden
        self._of_copy: dict[int, tuple[int, FloatArray]] = {}
        """Steps of the episode so far, and [N, H] after them."""

    def begin(self, pieces: Sequence[Episode]) -> list[Episode]:
        """The same with CRITIC_MEMORY."""
        return [piece.with_column(CRITIC_MEMORY, self._before(piece)[None]) for piece in pieces]

    def end(self, piece: Episode, state_NH: FloatArray) -> None:
        """Keep what is remembered after a piece whose episode goes on."""
        where = piece.piece
        self._of_copy[where.copy] = where.start + piece.length, state_NH

    def _before(self, piece: Episode) -> FloatArray:
        where = piece.piece
        steps, state_NH = self._of_copy.get(where.copy, (0, np.zeros(0, np.float32)))
        if where.start and where.start == steps:
            return state_NH
        return np.zeros((piece.dimensions.num_agents, self._hidden), dtype=np.float32)
