"""The torch twin of agents/comm/attention.py.

Dimension key: T = time, B = batch, N = agents, K = edges of one direction, H = hidden, Q = query
and key size, M = message.
"""

import math

from torch import Tensor, nn

from agents.policy import PolicySpec
from learner.comm.base import SchemeTwin
from learner.comm.carry import Carry
from learner.comm.messages import message_sequence
from learner.kernels.projections import Layer


class AttentionTwin(SchemeTwin):
    """Messages made of the own state and of a mean over what was heard."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        self._query = nn.Linear(spec.hidden, spec.attention, bias=False)
        self._key = nn.Linear(spec.message, spec.attention, bias=False)
        self._value = nn.Linear(spec.message, spec.hidden, bias=False)
        self._message = nn.Linear(2 * spec.hidden, spec.message)
        self.layers = {
            "query": self._query,
            "key": self._key,
            "value": self._value,
            "message": self._message,
        }

    def read_of_own_state(self) -> Layer:
        """What a new message owes to its agent's own state."""
        return self._message.weight[:, : self.spec.hidden], self._message.bias

    def read_of_queries(self) -> Layer:
        """Queries, scaled and through the transposed key matrix: q · (W_k m) = (W_k^T q) · m."""
        scaled = self._query.weight / math.sqrt(self.spec.attention)
        return self._key.weight.t() @ scaled, None

    def heard_weight(self) -> Tensor:
        """[M, M] from the attended messages (rows) to what a new message owes to them.

        The value projection is linear, so it commutes with the attention's weighted sum and merges
        with the message layer: W_c (W_v sum w m) = (W_c W_v) sum w m, one product less per step.
        """
        return (self._message.weight[:, self.spec.hidden :] @ self._value.weight).t()

    def messages(
        self,
        own_part_TBNM: Tensor,
        queries_TBNM: Tensor | None,
        heard_TBNK: Tensor | None,
        carry: Carry,
        living_R: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """[T, B, N, M] messages before rounding, and the last one as it crosses the wire.

        Args:
            heard_TBNK: in-edges of each receiver on which a message is heard; None, like no
                queries: nobody ever hears anybody.
            living_R: as in `message_sequence`.
        """
        return message_sequence(
            own_part_TBNM,
            queries_TBNM,
            heard_TBNK,
            carry.message_BNM,
            self.heard_weight(),
            half=self.spec.message_dtype == "float16",
            offsets=self.graph.offsets,
            living_R=living_R,
        )
