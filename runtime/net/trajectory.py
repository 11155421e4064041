"""Packets of an episode on its way to the learner.

Trajectory (one per agent), EpisodeRecord (the world's) -> learner -> TrajectoryAck
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Tensor
from runtime.net.packet import KIB, MIB, MOST_STEPS, U16, U32, Count, Flag, Packet, packet


@packet(10, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class Trajectory(Packet):
    """Agent to learner: what it saw and did in one episode, as long as it lived (L steps)."""

    agent: U16
    episode: U32
    first_version: U32
    """Policy version of the first step; versions may change within an episode."""
    last_version: U32
    observations: Annotated[NDArray[Any], Tensor(("float16", "float32"), 2, 16 * MIB)]
    """[L, D] exactly as the agent saw them."""
    actions: Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, MOST_STEPS)]
    """[L]"""
    gates: Annotated[NDArray[Any], Tensor(("uint16", "uint64"), 1, MOST_STEPS)]
    """[L] bit k: the edge to out-neighbour k was used."""
    q_values: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 16 * MIB)]
    """[L, A] if recorded, else empty."""


@packet(11, 256 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class EpisodeRecord(Packet):
    """World to learner: the part of an episode of T steps that no single agent knows."""

    episode: U32
    env_steps: Count
    """Training steps taken by all copies when the episode ended."""
    states: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 64 * MIB)]
    """[T + 1, S]"""
    rewards: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 64 * MIB)]
    """[T, N] individual rewards."""
    alive: Annotated[NDArray[np.uint8], Tensor(("uint8",), 2, 64 * MIB)]
    """[T + 1, N] 1 while an agent lives."""
    terminated: Flag
    """1 if the task itself ended, 0 if time ran out (truncated)."""
    complete: Flag
    """1 if every agent took part from the first step to its death or the end."""
    final_observations: Annotated[NDArray[Any], Tensor(("float16", "float32"), 2, 64 * MIB)]
    """[N, D] what would be seen at step T, to bootstrap from after a truncation."""


@packet(15, KIB)
@dataclass(frozen=True, slots=True)
class TrajectoryAck(Packet):
    """Learner to everybody who has sent a part of this episode: it is safe, forget it."""

    episode: U32
