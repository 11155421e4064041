"""Packets between the world and a guide in the learner's process (runtime/world/asked.py).

GuideQuestion -> learner -> GuideAnswer, once in every step that the guide plays
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Tensor
from runtime.net.packet import MIB, U32, Packet, PerCopyU8, PerCopyU16, PerCopyU32, packet


@packet(46, 256 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class GuideQuestion(Packet):
    """World to learner: what all agents see now, in every copy."""

    tick: U32
    episodes: PerCopyU32
    """[E] episode number of each copy."""
    steps: PerCopyU16
    """[E] step within that episode."""
    flags: PerCopyU8
    """[E] EXPLORE and REST bits; the guide plays where EXPLORE is set, or in all that do not
    rest."""
    observations: Annotated[
        NDArray[Any], Tensor(("float32", "float16", "int8", "uint8"), 3, 64 * MIB)
    ]
    """[E, N, D]"""
    alive: Annotated[NDArray[np.uint8], Tensor(("uint8",), 2, 4 * MIB)]
    """[E, N]"""
    action_masks: Annotated[NDArray[np.uint8], Tensor(("uint8",), 3, 64 * MIB)]
    """[E, N, ceil(A / 8)] bitmaps as in Observation; [0, 0, 0]: everything is allowed."""


@packet(47, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class GuideAnswer(Packet):
    """Learner to world: what everybody does."""

    tick: U32
    actions: Annotated[NDArray[Any], Tensor(("uint8", "uint16"), 2, 4 * MIB)]
    """[E, N], zeros where the guide does not play."""
    log_probs: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 4 * MIB)]
    """[E, N] of each action, by the actions of the agents before."""
