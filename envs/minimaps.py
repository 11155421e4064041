"""Minimaps: where teams are, from positions alone, for the state of environments on a grid.

    positions of each team [L, 2] -> share of each initial team in each square [S]

No single agent's view or death changes what the state tells of the others. Shares are over the
initial size of a team, so that losses show.

Dimension key: L = living agents of a team, S = state.
"""

from collections.abc import Sequence

import numpy as np

from configs.arrays import FloatArray, IntArray


class Minimaps:
    """Minimaps of several teams, side by side: a row of the first team's, then the same row of the
    next.
    """

    def __init__(self, map_size: int, squares: int, team_sizes: Sequence[int]) -> None:
        """Divide a map.

        Args:
            map_size: cells along each side of the map.
            squares: squares along each side of a minimap.
            team_sizes: agents of each team at the beginning.
        """
        self._square = -(-map_size // squares)
        self._squares = squares
        self._to_state = np.array([1, len(team_sizes) * squares])
        """Distance within the state between neighbouring squares, in x and in y."""
        self._team_sizes_S = np.tile(np.repeat(team_sizes, squares), squares)

    def of(self, positions: Sequence[IntArray]) -> FloatArray:
        """[S] the minimaps of teams that stand at these places, [L, 2] x and y each."""
        squares_L2 = np.concatenate(positions) // self._square
        begin = len(positions[0])
        for team, cells in enumerate(positions[1:], start=1):
            squares_L2[begin : begin + len(cells), 0] += team * self._squares
            begin += len(cells)
        counts_S = np.bincount(squares_L2 @ self._to_state, minlength=len(self._team_sizes_S))
        return (counts_S / self._team_sizes_S).astype(np.float32)
