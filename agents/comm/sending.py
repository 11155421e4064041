"""Messages over the edges that a step has opened, as commands: one packet for edges that carry the
same copies.

Dimension key: E = copies, K = out-edges.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.events import Command, SendMessage
from configs.arrays import BoolArray


def messages(
    open_EK: BoolArray, tick: int, all_copies: NDArray[np.uint8], rows: NDArray[Any]
) -> list[Command]:
    """Send each copy's message over its open edges.

    Args:
        all_copies: bitmap that lists every copy.
        rows: [E, M] messages as they cross the wire.
    """
    if len(open_EK) == 1:
        edges = [k for k, is_open in enumerate(open_EK[0].tolist()) if is_open]
        if not edges:
            return []
        return [SendMessage(tuple(edges), tick, all_copies, rows)]
    # [ceil(E / 8), K] -> [K, ceil(E / 8)]
    columns = np.packbits(open_EK, axis=0, bitorder="little").T
    edges_by_copies: dict[bytes, list[int]] = {}
    for k, column in enumerate(columns):
        edges_by_copies.setdefault(column.tobytes(), []).append(k)
    edges_by_copies.pop(bytes(columns.shape[1]), None)
    commands: list[Command] = []
    for edges in edges_by_copies.values():
        copies = np.ascontiguousarray(columns[edges[0]])
        commands.append(SendMessage(tuple(edges), tick, copies, rows[open_EK[:, edges[0]]]))
    return commands
