"""The torch twin of agents/comm/expocomm_static.py.

    queries (all steps) -> step by step: attention over own and heard messages -> message

With own state the recurrence is that of SOPS (learner/comm/messages.py). As released a message is
linear in messages, and this one is left to autograd: it is a baseline that transmits nothing.

Dimension key: T = time, B = batch, N = agents, K = edges of one direction, J = 1 + K tokens, M =
message.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.comm.expocomm_static import LARGEST
from agents.policy import PolicySpec
from learner.comm.base import Said, SchemeTwin
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges
from learner.comm.gates import GateRule
from learner.comm.messages import message_sequence
from learner.kernels.projections import Layer
from learner.kernels.straight_through import round_message


class ExpocommStaticTwin(SchemeTwin):
    """Both variants; with own state there is one layer more."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        self._query = nn.Linear(spec.hidden, spec.attention)
        self._key = nn.Linear(spec.message, spec.attention, bias=False)
        self._value = nn.Linear(spec.message, spec.message)
        self.layers = {"query": self._query, "key": self._key, "value": self._value}
        self._message: nn.Linear | None = None
        if spec.scheme_opts().own_state:
            self._message = nn.Linear(spec.hidden + spec.message, spec.message)
            self.layers["message"] = self._message

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        # Queries, scaled and through the transposed key matrix: q · (W_k m) = (W_k^T q) · m.
        keys = self._key.weight.t() / math.sqrt(self.spec.attention)
        asks: Layer = keys @ self._query.weight, keys @ self._query.bias
        if self._message is None:
            return [asks]
        own, context = self._split(self._message)
        return [asks, (own, self._message.bias + context @ self._value.bias)]

    def _split(self, message: nn.Linear) -> tuple[Tensor, Tensor]:
        """[M, H] and [M, M] what acts on the own state, and on what was heard."""
        return message.weight[:, : self.spec.hidden], message.weight[:, self.spec.hidden :]

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        offsets = self.graph.offsets
        allowed_TBNK = allowed_edges(window, carry, offsets)
        gates_TBNK = allowed_TBNK.to(reads[0].dtype)
        heard_TBNK = heard_edges(gates_TBNK, carry, offsets)
        if self._message is None:
            messages = self._released(reads[0], heard_TBNK, carry.message_BNM)
        else:
            _, context = self._split(self._message)
            # The value projection commutes with the weighted sum, as in learner/comm/attention.py.
            messages = message_sequence(
                reads[1],
                reads[0],
                heard_TBNK,
                carry.message_BNM,
                (context @ self._value.weight).t(),
                half=self.spec.message_dtype == "float16",
                offsets=offsets,
            )
        return Said.without_scores(messages, allowed_TBNK, gates_TBNK)

    def _released(
        self, queries_TBNM: Tensor, heard_TBNK: Tensor, sent_BNM: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[T, B, N, M] messages before rounding, and the last one as it crosses the wire."""
        messages: list[Tensor] = []
        closed_TBNJ = functional.pad(heard_TBNK == 0, (1, 0))  # the own token is always there
        for query_BNM, closed_BNJ in zip(queries_TBNM, closed_TBNJ, strict=True):
            tokens = [sent_BNM, *(sent_BNM.roll(k, dims=1) for k in self.graph.offsets)]
            logits_BNJ = torch.stack([(query_BNM * token).sum(-1) for token in tokens], dim=-1)
            weights_BNJ = torch.softmax(logits_BNJ.masked_fill(closed_BNJ, float("-inf")), dim=-1)
            mean_BNM = torch.zeros_like(sent_BNM)
            for weight_BN, token_BNM in zip(weights_BNJ.unbind(-1), tokens, strict=True):
                mean_BNM = mean_BNM + weight_BN.unsqueeze(-1) * token_BNM
            message_BNM = self._value(mean_BNM).clamp(-LARGEST, LARGEST)
            messages.append(message_BNM)
            sent_BNM = round_message(message_BNM, self.spec.message_dtype)
        return torch.stack(messages), sent_BNM
