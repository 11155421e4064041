"""The torch twin of agents/comm/budget_k.py.

    positions (all steps) -> as they were heard -> distances -> gates -> m (step by step)

Nothing here is learned but the message: gates have no gradient.

Dimension key: T = time, B = batch, N = agents, K = edges of one direction, Z = beacon, M = message.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from agents.comm.budget_k import Options, ring_nearness
from agents.policy import PolicySpec
from configs.schema.limits import POSITION
from learner.comm.attention import AttentionTwin
from learner.comm.base import Said
from learner.comm.beacons import hold
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges
from learner.comm.gates import GateRule, within_budget
from learner.kernels.projections import Layer
from learner.kernels.straight_through import round_beacon
from runtime.net.topology import Graph


class BudgetKTwin(AttentionTwin):
    """The nearest neighbours by distance on the map, or on the ring."""

    leaves_out_the_dead = True

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        self._options: Options = spec.scheme_opts()

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        return [self.read_of_own_state(), self.read_of_queries()]

    def begin(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        # Own position that was said last, as it crosses the wire.
        return {"position": like.new_zeros(batch, self.num_agents, POSITION)}

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        own_part, queries = reads
        offsets, said_before_BNZ = self.graph.offsets, carry.own["position"]
        allowed_TBNK = allowed_edges(window, carry, offsets, rule.timing)
        said_TBNZ = said_before_BNZ.unsqueeze(0)
        if self._options.distance == "ring":
            nearness_K = _on_ring(self.graph, own_part.device).to(own_part.dtype)
            nearness_TBNK = nearness_K.expand(allowed_TBNK.shape)
        else:
            positions_TBNZ = window.observations_TBND[..., -POSITION:].clamp(-1.0, 1.0)
            positions_TBNZ = round_beacon(positions_TBNZ, self.spec.beacon_dtype).detach()
            delta, period = self.spec.beacon_delta, self.spec.beacon_period
            said_TBNZ = hold(positions_TBNZ, said_before_BNZ, delta, period, carry.step_B)
            heard_TBNZ = said_TBNZ
            if rule.timing == "causal":
                heard_TBNZ = torch.cat((said_before_BNZ.unsqueeze(0), said_TBNZ[:-1]))
            nearness_TBNK = self._nearness(positions_TBNZ, heard_TBNZ)
        open_TBNK = within_budget(nearness_TBNK, allowed_TBNK, self._options.k)
        gates_TBNK = open_TBNK.to(own_part.dtype)
        heard_TBNK = heard_edges(gates_TBNK, carry, offsets, rule.timing)
        messages = self.messages(own_part, queries, heard_TBNK, carry, window.living_R)
        own = {"position": said_TBNZ[-1]}
        return Said.without_scores(messages, allowed_TBNK, gates_TBNK, own)

    def _nearness(self, own_TBNZ: Tensor, peers_TBNZ: Tensor) -> Tensor:
        """[T, B, N, K] minus the squared distances to the out-neighbours."""
        nearness: list[Tensor] = []
        for offset in self.graph.offsets:
            x_TBN, y_TBN = (peers_TBNZ.roll(-offset, dims=2) - own_TBNZ).unbind(-1)
            nearness.append(-(x_TBN * x_TBN + y_TBN * y_TBN))
        return torch.stack(nearness, dim=-1)


@lru_cache(maxsize=16)
def _on_ring(graph: Graph, device: torch.device) -> Tensor:
    """[K] `ring_nearness`, where it is needed."""
    return torch.from_numpy(ring_nearness(graph)).to(device)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
