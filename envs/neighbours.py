"""Who is whose neighbour on a map, for schemes whose graph moves with the agents.

    positions -> in each of four directions the nearest team mate -> made symmetric -> [N, N]

NVIF's rule for Gather is "the nearest unit in each of four directions", made symmetric. The paper
says neither what a direction is nor how ties are broken. Both are ours:

    east    dx > 0 and |dx| >= |dy|       west     dx < 0 and |dx| >= |dy|
    south   dy > 0 and |dy| > |dx|        north    dy < 0 and |dy| > |dx|

So a diagonal belongs to east or west, and two agents on the same cell lie in no direction of each
other. The nearest is that of the smallest Euclidean distance; of several the one with the smallest
number. If i has chosen j, both are neighbours. An agent may have more than four of them.

Dimension key: N = agents, L = living agents.
"""

import numpy as np

from configs.arrays import BoolArray, IntArray

_EAST, _WEST, _SOUTH, _NORTH = range(4)


def neighbours(num_agents: int, living_L: IntArray, positions_L2: IntArray) -> BoolArray:
    """[N, N] who is whose neighbour: symmetric, nobody its own, and the dead nobody's.

    (1, 1), (4, 1), (6, 1): the middle one is a neighbour of both others, which are not each
    other's.

    Args:
        num_agents: N
        living_L: numbers of the living, ascending, in the order of their positions.
        positions_L2: x (to the east) and y (to the south), in cells.
    """
    pairs_NN: BoolArray = np.zeros((num_agents, num_agents), dtype=np.bool_)
    if len(living_L) < 2:
        return pairs_NN
    xs_L, ys_L = positions_L2[:, 0], positions_L2[:, 1]
    dx_LL, dy_LL = xs_L - xs_L[:, None], ys_L - ys_L[:, None]
    across_LL, along_LL = np.abs(dx_LL), np.abs(dy_LL)
    direction_LL = np.where(
        across_LL >= along_LL,
        np.where(dx_LL > 0, _EAST, _WEST),
        np.where(dy_LL > 0, _SOUTH, _NORTH),
    )
    squares_LL = dx_LL * dx_LL + dy_LL * dy_LL
    nowhere = int(squares_LL.max()) + 1
    squares_LL[squares_LL == 0] = nowhere
    near_LL: BoolArray = np.zeros(squares_LL.shape, dtype=np.bool_)
    rows_L = np.arange(len(living_L))
    for direction in (_EAST, _WEST, _SOUTH, _NORTH):
        there_LL = np.where(direction_LL == direction, squares_LL, nowhere)
        nearest_L = there_LL.argmin(axis=1)  # of equals the first, so that of the smallest number
        near_LL[rows_L, nearest_L] |= there_LL[rows_L, nearest_L] < nowhere
    pairs_NN[np.ix_(living_L, living_L)] = near_LL | near_LL.T
    return pairs_NN
