"""What comes to an agent and what it wants done: the language between core and shell.

Event: Observation, InMask, PolicyDue, Message, Beacon, parameters (packets of
runtime/net/wire.py), PeersLate, Greeted, Renumbered
Command: SendMessage, SendBeacon, ToWorld, ToLearner, ToNode, Dropped
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.net import wire


@dataclass(frozen=True, slots=True)
class PeersLate:
    """The deadline for packets under way has passed."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """An in-neighbour has opened its edge to us: it may know nothing of us."""


@dataclass(frozen=True, slots=True)
class Renumbered:
    """Real time only: the next observation may carry any number, for a new body counts anew."""


@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class SendMessage:
    """Message vectors for the out-neighbours at these offsets; they share one encoded packet."""

    edges: tuple[int, ...]
    tick: int
    copies: NDArray[np.uint8]
    rows: NDArray[Any]


@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class SendBeacon:
    """Beacon vectors for all in-neighbours."""

    tick: int
    copies: NDArray[np.uint8]
    rows: NDArray[Any]


@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class ToWorld:
    packet: wire.Action | wire.Gates


@dataclass(frozen=True, slots=True, eq=False)
class ToLearner:
    packet: wire.Trajectory


@dataclass(frozen=True, slots=True)
class ToNode:
    packet: wire.SnapshotRequest


@dataclass(frozen=True, slots=True)
class Dropped:
    """A packet was refused; `reason` is one of runtime.net.traffic.REASONS."""

    reason: str


Event = (
    wire.Observation
    | wire.InMask
    | wire.PolicyDue
    | wire.Message
    | wire.Beacon
    | wire.AgentParameters
    | PeersLate
    | Greeted
    | Renumbered
)
Command = SendMessage | SendBeacon | ToWorld | ToLearner | ToNode | Dropped
