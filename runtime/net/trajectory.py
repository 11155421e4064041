"""Packets of an episode on its way to the learner.

Trajectory (one per agent), EpisodeRecord (the world's) -> learner -> TrajectoryAck
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from configs.columns import MOST_COLUMNS
from runtime.net.codecs import Tensor, Tensors
from runtime.net.packet import KIB, MIB, U16, U32, Count, Flag, Packet, packet


@packet(10, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class Trajectory(Packet):
    """Agent to learner: what it saw and did in one episode, in the L steps that it lived."""

    agent: U16
    episode: U32
    first_version: U32
    """Policy version of the first step; versions may change within an episode."""
    last_version: U32
    observations: Annotated[NDArray[Any], Tensor(("float16", "float32", "uint8"), 2, 16 * MIB)]
    """[L, D] exactly as the agent saw them."""
    actions: Annotated[NDArray[Any], Tensor(("uint8", "uint16", "float32"), 1, 16 * MIB, 2)]
    """[L] what it chose; [L, n] if actions are numbers. The world says what was played."""
    columns: Annotated[Mapping[str, NDArray[Any]], Tensors(MOST_COLUMNS, 16 * MIB)]
    """[L, …] by name: what else it keeps of a step (configs/columns.py)."""


@packet(11, 256 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class EpisodeRecord(Packet):
    """World to learner: the part of an episode of T steps that no single agent knows."""

    episode: U32
    env_steps: Count
    """Training steps taken by all copies when the episode ended."""
    states: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 64 * MIB)]
    """[T + 1, S]"""
    actions: Annotated[NDArray[Any], Tensor(("uint8", "uint16", "float32"), 2, 64 * MIB, 3)]
    """[T, N] or [T, N, n] as they were played: a no-op where an agent was missing."""
    rewards: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 64 * MIB)]
    """[T, N] individual rewards."""
    alive: Annotated[NDArray[np.uint8], Tensor(("uint8",), 2, 64 * MIB)]
    """[T + 1, N] 1 while an agent lives."""
    terminated: Flag
    """1 if the task itself ended, 0 if time ran out (truncated)."""
    complete: Flag
    """1 if every agent took part from the first step to its death or the end."""
    final_observations: Annotated[
        NDArray[Any], Tensor(("float16", "float32", "uint8"), 2, 64 * MIB)
    ]
    """[N, D] what would be seen at step T, to bootstrap from after a truncation."""
    columns: Annotated[Mapping[str, NDArray[Any]], Tensors(MOST_COLUMNS, 64 * MIB)]
    """[T, N, …] or [T + 1, N, …] by name: what else it keeps (configs/columns.py)."""


@packet(15, KIB)
@dataclass(frozen=True, slots=True)
class TrajectoryAck(Packet):
    """Learner to everybody who has sent a part of this episode: it is safe, forget it."""

    episode: U32
