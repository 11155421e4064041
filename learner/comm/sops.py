"""The torch twin of agents/comm/sops.py.

    reads of h -> z -> scores, gates (all steps) -> m (step by step)

    causal   C^t from z_i^t and z_j^(t-1) lets m_i^t be heard at step t + 1
    paper    C^t from z_i^t and z_j^t lets m_i^(t-1) be heard at step t (equation 2 to the letter)

Dimension key: T = time, B = batch, N = agents, K = edges of one direction, M = message, Z = beacon,
S = the scorer's hidden units, G = edge embedding.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.comm.gate import EDGE_FEATURES, edge_features
from agents.policy import PolicySpec
from learner.comm.attention import AttentionTwin
from learner.comm.base import Said
from learner.comm.beacons import hold
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges
from learner.comm.gates import GateRule, gate, within_budget
from learner.comm.pair_scores import pair_scores
from learner.kernels.projections import Layer
from learner.kernels.straight_through import round_beacon
from learner.kernels.tanh import tanh
from learner.sparse.layers import GROUPS


class SopsTwin(AttentionTwin):
    """N enters through edge features only."""

    leaves_out_the_dead = True

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        pair = 2 * spec.beacon + spec.edge_embedding
        self._beacon = nn.Linear(spec.hidden, spec.beacon)
        self._edge = nn.Linear(EDGE_FEATURES, spec.edge_embedding)
        self._scorer_hidden = nn.Linear(pair, spec.scorer)
        self._scorer_out = nn.Linear(spec.scorer, 1)
        self.layers |= {
            "beacon": self._beacon,
            "edge": self._edge,
            "scorer_hidden": self._scorer_hidden,
            "scorer_out": self._scorer_out,
        }

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        reads: list[Layer] = [self.read_of_own_state()]
        if rule.mode != "closed":
            reads.append(self.read_of_queries())
        if rule.mode == "learned":
            reads.append((self._beacon.weight, self._beacon.bias))
        return reads

    def begin(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        # Own last beacon that was said, as it crosses the wire.
        shape = (batch, self.num_agents, self.spec.beacon)
        return {"beacon": torch.zeros(shape, dtype=like.dtype, device=like.device)}

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        own_part, *others = reads
        offsets, said_before_BNZ = self.graph.offsets, carry.own["beacon"]
        if rule.mode == "learned":
            beacons_TBNZ = round_beacon(tanh(others.pop()), self.spec.beacon_dtype)
            beacons_TBNZ = window.everybody(beacons_TBNZ)
        else:
            beacons_TBNZ = said_before_BNZ.expand(len(own_part), *said_before_BNZ.shape)
        allowed_TBNK = allowed_edges(window, carry, offsets, rule.timing)
        spec = self.spec
        said_TBNZ = hold(
            beacons_TBNZ, said_before_BNZ, spec.beacon_delta, spec.beacon_period, carry.step_B
        )
        scores_TBNK, gates_TBNK = self._gates(
            beacons_TBNZ, said_TBNZ, said_before_BNZ, allowed_TBNK, rule
        )
        queries, heard = None, None
        if rule.mode != "closed":
            queries, heard = others.pop(), heard_edges(gates_TBNK, carry, offsets, rule.timing)
        messages_TBNM, last_BNM = self.messages(own_part, queries, heard, carry, window.living_R)
        return Said(
            messages_TBNM=messages_TBNM,
            last_BNM=last_BNM,
            scores_TBNK=scores_TBNK,
            allowed_TBNK=allowed_TBNK,
            gates_TBNK=gates_TBNK,
            own={"beacon": said_TBNZ[-1]},
        )

    def _gates(
        self,
        beacons_TBNZ: Tensor,
        said_TBNZ: Tensor,
        said_before_BNZ: Tensor,
        allowed_TBNK: Tensor,
        rule: GateRule,
    ) -> tuple[Tensor, Tensor]:
        """[T, B, N, K] scores and gates of the out-edges.

        An agent knows its own beacon as it is, and of its neighbours what they have said.
        """
        equal = torch.zeros_like(allowed_TBNK, dtype=beacons_TBNZ.dtype)
        if rule.mode == "open":
            return equal, within_budget(equal, allowed_TBNK, rule.budget).to(equal.dtype)
        if rule.mode == "closed":
            return equal, equal.clone()
        receivers_TBNZ = said_TBNZ
        if rule.timing == "causal":
            receivers_TBNZ = torch.cat((said_before_BNZ.unsqueeze(0), said_TBNZ[:-1]))
        scores_TBNK = self.scores(beacons_TBNZ, receivers_TBNZ)
        return scores_TBNK, gate(scores_TBNK, allowed_TBNK, rule)

    def scores(self, senders_TBNZ: Tensor, receivers_TBNZ: Tensor) -> Tensor:
        """[T, B, N, K] scores f(z_i, z_j, e_k) of each agent's out-edges (equation 2).

        The first layer acts on a concatenation, so it splits into W_i z_i + W_j z_j + W_e e_k: two
        products per agent and K additions instead of K products.
        """
        weight, beacon = self._scorer_hidden.weight, self.spec.beacon
        own, peer = weight[:, :beacon], weight[:, beacon : 2 * beacon]
        edge = weight[:, 2 * beacon :]
        embedding_KG = torch.tanh(self._edge(_features(self.num_agents, weight.device).to(weight)))
        edge_KS = functional.linear(embedding_KG, edge, self._scorer_hidden.bias)
        own_TBNS = functional.linear(senders_TBNZ, own)
        peer_TBNS = functional.linear(receivers_TBNZ, peer)
        scores_TBNK = pair_scores(own_TBNS, peer_TBNS, edge_KS, self._scorer_out.weight[0])
        return scores_TBNK + self._scorer_out.bias

    def uses(self, rule: GateRule) -> Mapping[str, int]:
        uses = {"edge": 0}  # once per policy version
        if rule.mode == "learned":
            out_edges = self.graph.num_edges
            return uses | {"scorer_hidden": out_edges, "scorer_out": out_edges}
        uses |= dict.fromkeys(GROUPS["scorer"], 0)
        if rule.mode == "closed":
            # One's own last message is all there is to attend to.
            uses |= {"query": 0, "key": 0}
        return uses


@lru_cache(maxsize=16)
def _features(num_agents: int, device: torch.device) -> Tensor:
    """[K, 4] edge features, where they are needed."""
    return torch.from_numpy(edge_features(num_agents)).to(device)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
