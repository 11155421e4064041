"""Packets between an agent and its body (docs/body.md), which others implement too."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Real, Tensor
from runtime.net.packet import BODY_VERSION, KIB, U8, U16, U32, U64, Packet, packet


@packet(40, KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True)
class BodyHello(Packet):
    """Body to agent: first packet on a connection."""

    agent: U16
    """The agent that this body is meant for; another one refuses it."""


@packet(41, KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True)
class BodyWelcome(Packet):
    """Agent to body: what it takes and gives."""

    agent: U16
    observation_dim: U32
    num_actions: U32
    """Or, where an action is made up of real numbers, how many."""
    rate_hz: Annotated[float, Real(0.0, 1000.0)]
    """Ticks a second; 0.0 if every observation is one."""


@packet(42, 64 * KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True, eq=False)
class BodyObservation(Packet):
    """Body to agent: what is sensed now."""

    step: U32
    """Counts up; all bodies of a deployment number the same moment alike."""
    flags: U8
    """ALIVE and FIRST bits."""
    sent_ns: U64
    """Body's monotonic clock (it is the agent's own: one host), 0 if it has none."""
    observation: Annotated[NDArray[Any], Tensor(("float32", "float16", "uint8"), 1, 16 * KIB)]
    """[D]"""


@packet(43, KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True)
class BodyAction(Packet):
    """Agent to body: what to do."""

    step: U32
    """Of the observation that it answers."""
    action: U16
    policy_version: U32


@packet(44, 64 * KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True, eq=False)
class BodyReals(Packet):
    """Agent to body, where an action is made up of real numbers: what to do."""

    step: U32
    """Of the observation that it answers."""
    action: Annotated[NDArray[np.float32], Tensor(("float32",), 1, 8 * KIB)]
    """[n]"""
    policy_version: U32
