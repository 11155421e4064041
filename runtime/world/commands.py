"""What the world wants done: its shell carries these out in order."""

from dataclasses import dataclass
from typing import Literal

from runtime.net import wire

Refusal = Literal["shape", "range", "stale", "future"]
"""Why a packet of an agent changes nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class ToAgent:
    agent: int
    packet: wire.Observation | wire.InMask | wire.PolicyDue


@dataclass(frozen=True, slots=True, eq=False)
class ToLearner:
    packet: wire.EpisodeRecord


@dataclass(frozen=True, slots=True, eq=False)
class AskGuide:
    """Of a guide in the learner's process; it may be asked the same again."""

    packet: wire.GuideQuestion


@dataclass(frozen=True, slots=True, eq=False)
class ToLauncher:
    packet: wire.EpisodeResult


@dataclass(frozen=True, slots=True)
class Kill:
    """Have the node end this agent's process for good; nothing moves until its death is known."""

    agent: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A packet has changed nothing."""

    agent: int | None
    """None: of the guide."""
    reason: Refusal


WorldCommand = ToAgent | ToLearner | AskGuide | ToLauncher | Kill | Refused
