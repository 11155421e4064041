"""What an agent remembers from step to step, as one row of numbers.

    hidden, own last message, open edges, what the scheme remembers -> carry -> the learner's unroll

A rollout of fixed length cuts episodes into pieces. The learner computes each of them anew, from
what its agents remembered when it began (learner/comm/carry.py takes the row apart again).

Dimension key: E = copies, H = hidden, M = message, K = out-edges, X = all numbers.
"""

import numpy as np

from agents.found import scheme_of
from agents.policy import PolicySpec
from configs.arrays import BoolArray, FloatArray


class CarryError(ValueError):
    """A scheme remembers what does not fit a row."""


def carry_dim(spec: PolicySpec, num_edges: int) -> int:
    """X

    Args:
        num_edges: K

    Raises:
        CarryError: the scheme does not say what it remembers.
    """
    scheme = scheme_of(spec.scheme)
    if scheme.centralised:
        raise CarryError(
            f"--comm {spec.scheme} remembers in one place what all agents saw, and no rollout of "
            "fixed length can begin with it: leave out rollout_steps"
        )
    sizes = {"beacon": spec.beacon, "memory": scheme.memory_of(spec)}
    own = sum(sizes[name] for name in scheme.carries)
    return spec.hidden + spec.message + num_edges + own


def carry_rows(
    hidden_EH: FloatArray,
    message_EM: FloatArray,
    open_EK: BoolArray,
    own: list[FloatArray],
) -> FloatArray:
    """[E, X]

    Args:
        hidden_EH: of all units, also where some have no effect.
        message_EM: the last one as it crossed the wire.
        open_EK: edges on which it is under way.
        own: what the scheme remembers, in the order of its `carries`.
    """
    return np.concatenate((hidden_EH, message_EM, open_EK, *own), axis=1, dtype=np.float32)
