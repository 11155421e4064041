"""The torch twin of agents/comm/mfq.py.

Dimension key: T = time, B = batch, N = agents, K = N - 1 edges of one direction, A = actions, M =
1, C = context.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.policy import PolicySpec
from learner.comm.base import Said, SchemeTwin
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges, heard_matrix
from learner.comm.gates import GateRule
from learner.kernels.straight_through import round_message


class MfqTwin(SchemeTwin):
    """What was done is known, so all steps are one batch."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        options = spec.scheme_opts()
        self._hidden = nn.Linear(spec.num_actions, options.hidden)
        self._embedding = nn.Linear(options.hidden, options.embedding)
        self.layers = {"mean_hidden": self._hidden, "mean": self._embedding}

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        offsets = self.graph.offsets
        allowed_TBNK = allowed_edges(window, carry, offsets)
        gates_TBNK = allowed_TBNK.to(carry.message_BNM.dtype)
        said_TBNM = self._said(window, carry)
        before_TBNM = torch.cat((carry.message_BNM.unsqueeze(0), said_TBNM[:-1]))
        mean_TBNA = self._mean_action(before_TBNM, heard_edges(gates_TBNK, carry, offsets))
        context_TBNC = torch.relu(self._embedding(torch.relu(self._hidden(mean_TBNA))))
        return Said.without_scores(
            (said_TBNM, said_TBNM[-1]), allowed_TBNK, gates_TBNK, context_TBNC=context_TBNC
        )

    def message_of_actions(self, actions: Tensor) -> Tensor:
        weight = self._hidden.weight
        return round_message(actions.unsqueeze(-1).to(weight.dtype), self.spec.message_dtype)

    def _said(self, window: UnrollInput, carry: Carry) -> Tensor:
        """[T, B, N, 1] the actions' numbers; zeros for one step whose are not chosen yet."""
        if window.actions_TBN is None:
            if len(window.alive_TBN) > 1:
                raise ValueError("comm mfq says actions: a window of several steps needs them")
            return torch.zeros_like(carry.message_BNM).unsqueeze(0)
        return self.message_of_actions(window.actions_TBN)

    def _mean_action(self, before_TBNM: Tensor, heard_TBNK: Tensor) -> Tensor:
        """[T, B, N, A] of those whose action of the step before is heard; zeros if nobody's is."""
        actions_A = torch.arange(self.spec.num_actions, device=before_TBNM.device)
        did_TBNA = (before_TBNM == actions_A).to(before_TBNM.dtype)
        heard_TBNN = heard_matrix(heard_TBNK, self.graph.offsets)
        counts_TBNA = heard_TBNN @ did_TBNA
        return counts_TBNA / counts_TBNA.sum(-1, keepdim=True).clamp(min=1.0)
