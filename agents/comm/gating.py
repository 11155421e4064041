"""Which out-edges of an agent carry its message, step by step.

    who takes part (the world's word, or beacons), step -> Gating -> open edges [E, K]

A gating lives as long as its agent, across policy versions: what it must remember of its neighbours
is kept here. This one asks the scheme's rule and knows no beacons; SOPS has one that scores edges.

Dimension key: E = copies, K = out-edges, Z = beacon, D = observation features, P =
columns of the fused product.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.comm.peer_beacons import PeerBeacons
from agents.edge_masks import EdgeMasks
from agents.participation import Participation
from configs.arrays import BoolArray, FloatArray
from configs.schema import GateMode, GateTiming
from runtime.net import wire

if TYPE_CHECKING:
    from agents.comm.said_beacon import SaidBeacon
    from agents.version import PolicyVersion


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Site:
    """Where a gating works."""

    timing: GateTiming
    mode: GateMode
    budget: int
    """Edges that the agent may open in a step; 0 sets no limit."""
    options: Any
    """The scheme's `Options`."""
    moves: bool
    """Masks of peers say who is a neighbour in this step, in an episode's first step as well."""
    realtime: bool
    says_every_step: bool
    """Beacons are said in every step: what was not heard is lost."""
    oldest_beacon: int
    """In real time, ticks after which a neighbour of whom nothing was heard counts as gone."""
    masks: EdgeMasks
    own_beacon: "SaidBeacon"
    peer_beacons: PeerBeacons
    rng: np.random.Generator
    """The agent's own."""


@dataclass(slots=True, eq=False)
class Moment:
    """The step in which edges are chosen."""

    now: wire.Observation
    takes_part: Participation
    first_E: BoolArray | None
    """Copies whose episode begins with this step; None: no copy's does."""
    beacon_tick: int
    """What was said until this tick is known."""
    peers_late: bool
    """Whether the step goes on without packets that are under way."""
    lost_beacons_EK: BoolArray | None
    """Beacons that link loss takes in this step; None: no link loses anything."""


class Gating:
    """Opens what the scheme's rule says, among the edges to neighbours that take part."""

    speaks = True
    """Whether an edge is ever open."""
    scores = False
    """Whether beacons decide: they are said, and waited for."""
    lost_beacons = 0
    """Vectors of the step's beacons that fell to link loss."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._unpack = site.masks.unpack

    def beacon(
        self, version: "PolicyVersion", parts_EP: FloatArray, observation_ED: FloatArray
    ) -> FloatArray:
        """[E, Z] what the agent says about itself, if beacons decide; not yet rounded."""
        raise NotImplementedError

    def choose(self, version: "PolicyVersion", moment: Moment) -> BoolArray:
        """[E, K]"""
        return version.scheme.open_edges(moment.now.steps, self.allowed(moment))

    def scores_of(self, version: "PolicyVersion") -> FloatArray | None:
        """[E, K] the last step's scores without noise, for who looks (agents/insight.py); None:
        edges have none.
        """
        return None

    def pass_over(self, moment: Moment) -> bool:
        """Leave out a step in which the agent takes part in no copy, and draw what `choose` would
        have drawn; False if that cannot be, and `choose` must be asked after all.
        """
        return type(self) is Gating  # of another one nobody here knows what it remembers

    def allowed(self, moment: Moment) -> BoolArray:
        """[E, K] out-edges that may carry a message: their neighbours take part, and so does the
        agent itself.

        In lock-step the world says who takes part, and with a moving graph who is a neighbour. In
        real time nobody does, and every neighbour counts as there.
        """
        allowed_EK = self._unpack(moment.now.peer_masks).copy()
        if self._site.realtime:
            allowed_EK = np.ones_like(allowed_EK)
        self._narrow(allowed_EK, moment)
        if moment.first_E is not None and not self._site.moves:
            # With the paper's timing the message of the step before goes out, and at step 0 there
            # is none. Else nobody has been heard: every peer counts as there.
            allowed_EK[moment.first_E] = self._site.timing == "causal"
        if not moment.takes_part.all_active:
            allowed_EK &= moment.takes_part.active_E[:, None]
        return allowed_EK

    def _narrow(self, allowed_EK: BoolArray, moment: Moment) -> None:
        """Take away edges of which more than that is known."""


class Silence(Gating):
    """No edge is ever open."""

    speaks = False

    def choose(self, version: "PolicyVersion", moment: Moment) -> BoolArray:
        return np.zeros((len(moment.now.steps), self._site.masks.edges), dtype=np.bool_)

    def pass_over(self, moment: Moment) -> bool:
        return type(self) is Silence
