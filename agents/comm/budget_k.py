"""The edge-budget baseline of SOPS (section 5.4, figure 5b): no scorer, the K nearest neighbours.

    own position -> beacon ─┐
    beacons heard ──────────┴-> Euclidean distances -> the K nearest out-neighbours are open
    attention and message: agents/comm/attention.py, as in SOPS

So what differs from SOPS is the selection of edges, and nothing else. An agent knows its own
position, which its observation ends with, and hears those of its out-neighbours as SOPS's gate
hears node embeddings: by beacons, rounded as they cross the wire. At an episode's first step nobody
was heard, all are equally far, and the lower offsets are taken.

Where nobody has a position, `distance=ring` counts places on the ring: offset d is min(d, N - d)
away. It says no beacons, and its edges change only when neighbours die.

Dimension key: E = copies, K = out-edges, D = observation features, Z = beacon.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.comm.attention import Attention
from agents.comm.gate import within_budget
from agents.comm.gating import Gating, Moment, Site
from agents.comm.sops import ScoredEdges
from configs.arrays import BoolArray, FloatArray
from configs.schema import GateMode
from configs.schema.limits import POSITION
from runtime.net.topology import Graph

if TYPE_CHECKING:
    from agents.policy import PolicySpec
    from agents.version import PolicyVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    k: int = 2
    """Edges that an agent opens in a step; the paper has 2, 3 and 4."""
    distance: Literal["euclidean", "ring"] = "euclidean"
    """Between positions on the map, or between places on the ring."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 64:
            raise ValueError(f"k must be between 1 and 64, got {self.k}")


class BudgetK(Attention):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.budget_k:BudgetKTwin"
    timings = ("causal", "paper")
    beacon_size = POSITION
    carries = ("beacon",)

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        super().__init__(spec, tensors, num_agents)
        options: Options = spec.scheme_opts()
        self._k = options.k
        self._nearness_K = ring_nearness(self.graph(num_agents, options))

    @classmethod
    def reads_beacons(cls, mode: GateMode, options: Any) -> bool:
        return options.distance == "euclidean"

    @classmethod
    def needs_position(cls, options: Any) -> bool:
        return options.distance == "euclidean"

    @classmethod
    def gating(cls, site: Site) -> Gating:
        return NearestEdges(site) if site.options.distance == "euclidean" else Gating(site)

    def open_edges(self, steps_E: NDArray[np.integer[Any]], allowed_EK: BoolArray) -> BoolArray:
        """Those that are nearest on the ring: `NearestEdges` does not ask."""
        nearness_EK = np.broadcast_to(self._nearness_K, allowed_EK.shape)
        return within_budget(nearness_EK, allowed_EK, self._k)


class NearestEdges(ScoredEdges):
    """An edge's score is how near its neighbour was when it was heard last."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._k: int = site.options.k

    def beacon(
        self, version: "PolicyVersion", parts_EP: FloatArray, observation_ED: FloatArray
    ) -> FloatArray:
        position_EZ = np.zeros_like(self._own.values)
        np.clip(observation_ED[:, -POSITION:], -1.0, 1.0, out=position_EZ[:, :POSITION])
        return position_EZ

    def choose(self, version: "PolicyVersion", moment: Moment) -> BoolArray:
        self.lost_beacons = self._peers.settle(moment.beacon_tick, moment.lost_beacons_EK)
        allowed_EK = self.allowed(moment)
        nearness_EK = nearness(self._own.values, self._peers.values)
        return within_budget(nearness_EK, allowed_EK, self._k)

    def scores_of(self, version: "PolicyVersion") -> FloatArray:
        return nearness(self._own.values, self._peers.values)

    def pass_over(self, moment: Moment) -> bool:
        if type(self) is not NearestEdges:
            return False
        self._peers.settle(moment.beacon_tick)
        return True


def nearness(own_EZ: FloatArray, peers_EKZ: FloatArray) -> FloatArray:
    """[E, K] minus the squared distances; `learner.comm.budget_k` rounds in the same order."""
    apart_EKZ: FloatArray = peers_EKZ[..., :POSITION] - own_EZ[:, None, :POSITION]
    squares_EKZ: FloatArray = apart_EKZ * apart_EKZ
    return -(squares_EKZ[..., 0] + squares_EKZ[..., 1])


def ring_nearness(graph: Graph) -> FloatArray:
    """[K] minus the number of places to each out-neighbour, the shorter way round."""
    places = [min(offset, graph.num_agents - offset) for offset in graph.offsets]
    return np.array([-number for number in places], dtype=np.float32)


SCHEME = BudgetK
