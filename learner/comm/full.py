"""The torch twin of agents/comm/full.py.

Dimension key: T = time, B = batch, N = agents, K = N - 1 edges of one direction.
"""

from collections.abc import Sequence

from torch import Tensor

from learner.comm.attention import AttentionTwin
from learner.comm.base import Said
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges
from learner.comm.gates import GateRule
from learner.kernels.projections import Layer


class FullTwin(AttentionTwin):
    """Every edge that can carry a message does."""

    leaves_out_the_dead = True

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        return [self.read_of_own_state(), self.read_of_queries()]

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        own_part, queries = reads
        allowed_TBNK = allowed_edges(window, carry, self.graph.offsets)
        gates_TBNK = allowed_TBNK.to(own_part.dtype)
        heard_TBNK = heard_edges(gates_TBNK, carry, self.graph.offsets)
        messages = self.messages(own_part, queries, heard_TBNK, carry, window.living_R)
        return Said.without_scores(messages, allowed_TBNK, gates_TBNK)
