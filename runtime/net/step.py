"""Packets of a step: what the world tells its agents, what they answer and say to each other.

Observation -> agent -> Message, Beacon -> other agents;  Action (Gates, InMask) -> world
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtime.net.packet import (
    F64,
    KIB,
    MIB,
    U16,
    U32,
    U64,
    Actions,
    EdgeMasks,
    PackedRows,
    Packet,
    PerCopyU8,
    PerCopyU16,
    PerCopyU32,
    Rows,
    packet,
)

ALIVE = 1
EXPLORE = 2
FIRST = 4
"""Of BodyObservation: the first of an episode; the agent forgets what went before."""
REST = 8
"""The copy is not played: nobody takes part in it, nor do the dead where they relay."""
LAST = 16
"""With this step a rollout of fixed length ends: agents ship what they have recorded, and may take
up a new policy before the next step."""

ALL_ALLOWED = np.zeros((0, 0), dtype=np.uint8)
"""Of Observation.action_masks, where the environment has none."""


def action_dtype(num_actions: int) -> np.dtype[Any]:
    """What actions are on the wire, chosen from so many; float32 where none is chosen (0)."""
    if num_actions == 0:
        return np.dtype(np.float32)
    return np.dtype(np.uint8 if num_actions <= 256 else np.uint16)


@packet(1, 16 * MIB)
@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class Observation(Packet):
    """World to agent: what the agent sees now, in every copy, and what is on its way to it."""

    tick: U32
    """Lock-step counter, the same for all copies and agents, never reset."""
    epsilon: F64
    """Exploration rate for copies that train."""
    episodes: PerCopyU32
    """[E] episode number of each copy."""
    steps: PerCopyU16
    """[E] step within that episode; 0 is the first after a reset."""
    flags: PerCopyU8
    """[E] ALIVE, EXPLORE, REST and LAST bits."""
    in_masks: EdgeMasks
    """[E] bit k: in-neighbour k used its edge to this agent at the last tick."""
    peer_masks: EdgeMasks
    """[E] bit k: out-neighbour k took part in the last tick (paper timing: takes part in this)."""
    beacon_masks: EdgeMasks
    """[E] bit k: a beacon of out-neighbour k is on its way (causal: of the last tick)."""
    observations: Rows
    """[copies alive, D] rows of the copies whose ALIVE bit is set, in order."""
    action_masks: PackedRows = field(default_factory=lambda: ALL_ALLOWED)
    """[copies alive, ceil(A / 8)] bitmaps of the actions that are allowed, least significant bit
    first; [0, 0]: all are."""


@packet(2, 5 * MIB)
@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class Action(Packet):
    """Agent to world: what it does, and which edges it has used."""

    tick: U32
    policy_version: U32
    actions: Actions
    """[E] action of each copy, or [E, n] numbers (0 where it is dead)."""
    out_masks: EdgeMasks
    """[E] bit k: a message went to out-neighbour k at this tick."""
    beacons: PerCopyU8
    """[ceil(E / 8)] bitmap of the copies in which a beacon went to all in-neighbours; paper timing
    sends one in every step and leaves this empty."""


@packet(3, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class Gates(Packet):
    """Agent to world, paper timing only: which edges it uses in this very tick."""

    tick: U32
    out_masks: EdgeMasks


@packet(4, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class InMask(Packet):
    """World to agent, paper timing only: which in-edges carry a message in this tick."""

    tick: U32
    in_masks: EdgeMasks


@packet(9, KIB)
@dataclass(frozen=True, slots=True)
class PolicyDue(Packet):
    """World to agent, in runs on policy: the steps that follow are played with this version or a
    newer one, and the agent waits for it."""

    policy_version: U32


@packet(5, 16 * MIB)
@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class Message(Packet):
    """Agent to out-neighbour: message vectors of the copies in which the edge is open."""

    sender: U16
    tick: U32
    send_ns: U64
    """Sender's monotonic clock when the packet was handed to the socket."""
    copies: PerCopyU8
    """[ceil(E / 8)] bitmap of the copies that the rows belong to, least significant bit first."""
    rows: Rows
    """[copies open, M]"""


@packet(6, 16 * MIB)
@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class Beacon(Packet):
    """Agent to in-neighbour, back on the same connection: its node embeddings z."""

    sender: U16
    tick: U32
    send_ns: U64
    copies: PerCopyU8
    rows: Rows
    """[copies alive, Z]"""


@packet(7, KIB)
@dataclass(frozen=True, slots=True)
class EdgeHello(Packet):
    """First packet on a new edge; answered by EdgeWelcome, so that both ends know it works."""

    sender: U16
    incarnation: U32


@packet(8, KIB)
@dataclass(frozen=True, slots=True)
class EdgeWelcome(Packet):
    sender: U16
    incarnation: U32
