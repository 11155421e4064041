"""Packets that replace a deployed policy while its agents act.

    pusher: PolicyOffer, UpdateOrder ──▶ node        UpdateState ◀──
    node: PolicySwitch, then the version ──▶ its agents

A pusher asks again until it is answered, so every question has a number, and a host that is asked
twice does the thing once (runtime/host/updates.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Choice, Real, Scalars, Tensor
from runtime.net.packet import KIB, MIB, U32, U64, Flag, Label, Packet, packet

ORDERS = ("look", "swap", "keep", "back", "done")
UPDATE_PHASES = ("idle", "offered", "swapped", "kept")
LONGEST_LEASE_S = 3600.0


@packet(51, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class PolicyOffer(Packet):
    """Pusher to node: a version that is to follow the one in use. Nothing changes yet."""

    push: U64
    """Which push this is of: nobody else's orders count until it is over."""
    sequence: U32
    lease_s: Annotated[float, Real(0.0, LONGEST_LEASE_S)]
    """Seconds without a word from the pusher after which the host goes back by itself."""
    content: Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, 64 * MIB)]
    """A whole policy file."""


@packet(52, KIB)
@dataclass(frozen=True, slots=True)
class UpdateOrder(Packet):
    """Pusher to node: what to do with what was offered."""

    push: U64
    sequence: U32
    name: Annotated[str, Choice(ORDERS)]
    """look: say how things are; swap: act by it from that tick on; keep: begin with it after a
    restart as well; back: act by the version before; done: the push is over."""
    tick: U32 = 0
    """Of the wall clock's ticks, for swap; without a rate agents swap at their next observation."""


@packet(53, 64 * KIB)
@dataclass(frozen=True, slots=True)
class UpdateState(Packet):
    """Node to pusher: the answer to either."""

    push: U64
    sequence: U32
    phase: Annotated[str, Choice(UPDATE_PHASES)]
    version: U32
    """In use by this host."""
    refusal: Label
    """Why it was not done; empty: it was."""
    figures: Annotated[Mapping[str, float], Scalars()]
    """How the agents do (runtime.host.updates.FIGURES)."""


@packet(54, KIB)
@dataclass(frozen=True, slots=True)
class PolicySwitch(Packet):
    """Node to its deployed agents: take up the version that follows, also if it is older."""

    version: U32
    tick: U32
    """First tick that is acted by it."""
    waits: Flag
    """0: at the next observation, whatever its tick."""
