"""SOPS: attention over the messages of an exponential graph whose edges a learned gate opens.

    hidden -> beacon z ─┐
    beacons heard ──────┴-> scores (equation 2) -> open edges
    attention and message: agents/comm/attention.py

Dimension key: E = copies, K = out-edges, H = hidden, Z = beacon, P = columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.comm.attention import Attention
from agents.comm.gate import EDGE_FEATURES, Scorer, edge_features, logistic_noise, within_budget
from agents.comm.gating import Gating, Moment, Silence, Site
from agents.dead_units import shrink_relu
from agents.layers import Layout, columns, draw_uniform
from configs.arrays import BoolArray, FloatArray
from configs.schema import GateMode
from runtime.net import ticks

if TYPE_CHECKING:
    from agents.policy import PolicySpec
    from agents.version import PolicyVersion


class Sops(Attention):
    """One version of it, ready to run."""

    twin = "learner.comm.sops:SopsTwin"
    carries = ("beacon",)
    timings = ("causal", "paper")
    hidden_readers = ("query.weight", "message.weight", "beacon.weight")

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        super().__init__(spec, tensors, num_agents)
        self.scorer = Scorer(tensors, edge_features(num_agents))
        self.reads = ((columns(tensors["beacon.weight"]), tensors["beacon.bias"]), *self.reads)

    @classmethod
    def gate_layout(cls, spec: "PolicySpec") -> Layout:
        pair = 2 * spec.beacon + spec.edge_embedding
        return (
            ("beacon.weight", (spec.beacon, spec.hidden)),
            ("beacon.bias", (spec.beacon,)),
            ("edge.weight", (spec.edge_embedding, EDGE_FEATURES)),
            ("edge.bias", (spec.edge_embedding,)),
            ("scorer_hidden.weight", (spec.scorer, pair)),
            ("scorer_hidden.bias", (spec.scorer,)),
            ("scorer_out.weight", (1, spec.scorer)),
            ("scorer_out.bias", (1,)),
        )

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        draw_uniform(name, tensors, rng)
        if name == "scorer_out.bias":
            # An untrained gate leaves most edges open, so that first messages can be learnt from.
            tensors[name][...] = 1.0

    @classmethod
    def shrink(cls, living: dict[str, FloatArray]) -> None:
        shrink_relu(living, "scorer_hidden", "scorer_out")

    @classmethod
    def gate_mode(cls, mode: GateMode) -> GateMode:
        return mode

    @classmethod
    def reads_beacons(cls, mode: GateMode, options: Any) -> bool:
        return mode == "learned"

    @classmethod
    def gating(cls, site: Site) -> Gating:
        return {"learned": ScoredEdges, "open": OpenEdges, "closed": Silence}[site.mode](site)

    def seat(self, columns: Sequence[slice]) -> None:
        self._beacon, *others = columns
        super().seat(others)

    def beacon(self, parts_EP: FloatArray) -> FloatArray:
        """[E, Z] node embedding z = phi(h), not yet rounded."""
        return np.tanh(parts_EP[:, self._beacon])


class OpenEdges(Gating):
    """Without a scorer all edges are equal: as many as the budget allows."""

    def choose(self, version: "PolicyVersion", moment: Moment) -> BoolArray:
        allowed_EK = self.allowed(moment)
        equal_EK = np.zeros(allowed_EK.shape, np.float32)
        return within_budget(equal_EK, allowed_EK, self._site.budget)

    def pass_over(self, moment: Moment) -> bool:
        return type(self) is OpenEdges


class ScoredEdges(Gating):
    """score > 0, in copies that explore with the noise of equations 3 and 4; of these the best that
    the budget allows.
    """

    scores = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        # Looked up once and not in every step.
        self._peers, self._own, self._rng = site.peer_beacons, site.own_beacon, site.rng
        self._budget = site.budget

    def beacon(
        self, version: "PolicyVersion", parts_EP: FloatArray, observation_ED: FloatArray
    ) -> FloatArray:
        scheme = version.scheme
        assert isinstance(scheme, Sops)
        return scheme.beacon(parts_EP)

    def choose(self, version: "PolicyVersion", moment: Moment) -> BoolArray:
        peers = self._peers
        self.lost_beacons = peers.settle(moment.beacon_tick, moment.lost_beacons_EK)
        allowed_EK = self.allowed(moment)
        scheme = version.scheme
        assert isinstance(scheme, Sops)
        scores_EK = scheme.scorer(self._own.values, peers.values)
        takes_part = moment.takes_part
        if takes_part.any_explores:
            noise_EK = logistic_noise(self._rng, scores_EK.shape)
            scores_EK += np.where(takes_part.explores_E[:, None], noise_EK, np.float32(0.0))
        open_EK = scores_EK > 0.0
        open_EK &= allowed_EK
        return within_budget(scores_EK, open_EK, self._budget)

    def scores_of(self, version: "PolicyVersion") -> FloatArray | None:
        scheme = version.scheme
        if not isinstance(scheme, Sops):  # a scheme that scores by something of its own
            return None
        return scheme.scorer(self._own.values, self._peers.values)

    def pass_over(self, moment: Moment) -> bool:
        if type(self) is not ScoredEdges:
            return False
        self._peers.settle(moment.beacon_tick)
        if moment.takes_part.any_explores:
            logistic_noise(self._rng, (len(moment.now.steps), self._site.masks.edges))
        return True

    def _narrow(self, allowed_EK: BoolArray, moment: Moment) -> None:
        """Close edges to neighbours of whom nothing is known.

        In lock-step an edge whose beacon is under way and does not come is closed. In real time it
        is closed when two of those said again have not come.
        """
        site, peers = self._site, self._site.peer_beacons
        if site.realtime:
            since = (moment.beacon_tick - site.oldest_beacon + 1) % ticks.MODULUS
            allowed_EK &= peers.heard_since(since)
            return
        if moment.peers_late or site.says_every_step:
            under_way_EK = site.masks.unpack(moment.now.beacon_masks)
            allowed_EK &= peers.heard_since(moment.beacon_tick) | ~under_way_EK
        if not peers.all_known:
            allowed_EK &= peers.known


SCHEME = Sops
