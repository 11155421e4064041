"""The torch twin of agents/comm/dgn.py.

    features of all steps -> round 1 -> round 2: no recurrence, since what a neighbour says of round
    1 owes nothing to round 2

The own token of a step is this step's, unrounded; those of the neighbours are the step before's, as
they crossed the wire. So the logits of all pairs are one product, whose diagonal is another.

Dimension key: T = time, B = batch, N = agents, K = N - 1 edges of one direction, F = feature, M = 2
F, C = context, W = heads, U = units of a head.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from agents.comm.dgn import LAYERS, ROUNDS
from agents.policy import PolicySpec
from learner.comm.base import Said, SchemeTwin
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges, heard_matrix
from learner.comm.gates import GateRule
from learner.kernels.projections import Layer
from learner.kernels.straight_through import round_message

if TYPE_CHECKING:
    from agents.comm.dgn import Options


class DgnTwin(SchemeTwin):
    """Two rounds of attention over all who are heard."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        options: Options = spec.scheme_opts()
        self._options = options
        self._feature = nn.Linear(spec.hidden, options.feature)
        self._rounds = [RoundTwin(options) for _ in ROUNDS]
        self.layers = {"feature": self._feature}
        for number, one in zip(ROUNDS, self._rounds, strict=True):
            self.layers |= {f"{name}_{number}": layer for name, layer in one.layers.items()}

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        return [(self._feature.weight, self._feature.bias)]

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        size, dtype = self._options.feature, self.spec.message_dtype
        allowed_TBNK = allowed_edges(window, carry, self.graph.offsets)
        gates_TBNK = allowed_TBNK.to(carry.message_BNM.dtype)
        heard_TBNK = heard_edges(gates_TBNK, carry, self.graph.offsets)
        heard_TBNN = heard_matrix(heard_TBNK, self.graph.offsets) > 0.0
        feature_TBNF = torch.relu(reads[0])
        sent_TBNF = round_message(feature_TBNF, dtype)
        before_TBNF = torch.cat((carry.message_BNM[None, ..., :size], sent_TBNF[:-1]))
        first_TBNF, _ = self._rounds[0](feature_TBNF, before_TBNF, heard_TBNN)
        said_TBNF = round_message(first_TBNF, dtype)
        before_TBNF = torch.cat((carry.message_BNM[None, ..., size:], said_TBNF[:-1]))
        second_TBNF, logits_TBWNN = self._rounds[1](first_TBNF, before_TBNF, heard_TBNN)
        messages_TBNM = torch.cat((feature_TBNF, first_TBNF), dim=-1)
        context_TBNC = second_TBNF
        if self._options.concat:
            context_TBNC = torch.cat((messages_TBNM, second_TBNF), dim=-1)
        of_loss: dict[str, Tensor] = {}
        if self._options.consistency > 0.0:
            of_loss = {"logits": logits_TBWNN, "heard": heard_TBNN, "alive": window.alive_TBN}
        return Said.without_scores(
            (messages_TBNM, torch.cat((sent_TBNF[-1], said_TBNF[-1]), dim=-1)),
            allowed_TBNK,
            gates_TBNK,
            of_loss=of_loss,
            context_TBNC=context_TBNC,
        )

    def own_loss(self, said: Said, q_TBNA: Tensor) -> Tensor | None:
        """[T, B] temporal relation regularisation (the paper's equation 4): how far an agent's
        attention is from what it would be in the next step over the same agents, on average over
        heads and living agents; 0 for the last step.
        """
        if not said.of_loss:
            return None
        logits, heard, alive = (said.of_loss[name] for name in ("logits", "heard", "alive"))
        heard = heard & alive.unsqueeze(-2)  # what the dead would say next nobody will hear
        # An agent that dies has no next relation.
        lives_TBN = torch.cat((alive[:-1] & alive[1:], torch.zeros_like(alive[:1])))
        apart_TBN = divergence(logits, heard)
        total_TB = torch.where(lives_TBN, apart_TBN, 0.0).sum(-1)
        return self._options.consistency * total_TB / lives_TBN.sum(-1).clamp(min=1)

    def uses(self, rule: GateRule) -> Mapping[str, int]:
        tokens = 1 + self.graph.num_edges
        return {f"{layer}_{number}": tokens for number in ROUNDS for layer in ("key", "value")}


class RoundTwin:
    """One round of attention."""

    def __init__(self, options: "Options") -> None:
        size = options.feature
        self.layers = {name: nn.Linear(size, size) for name in LAYERS}
        self._heads = options.heads
        self._scale = options.head_size**-0.5 if options.scaled else 1.0

    def __call__(
        self, own_TBNF: Tensor, before_TBNF: Tensor, heard_TBNN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[T, B, N, F]; and the logits [T, B, W, N, N] of all pairs, (i, j) for agent i of j.

        Args:
            own_TBNF: of each step.
            before_TBNF: of the step before, as it crossed the wire.
            heard_TBNN: bool: agent i hears agent j.
        """
        query = self._of_heads("query", own_TBNF)
        own_key, key = self._of_heads("key", own_TBNF), self._of_heads("key", before_TBNF)
        own_value, value = self._of_heads("value", own_TBNF), self._of_heads("value", before_TBNF)
        eye_NN = torch.eye(heard_TBNN.shape[-1], dtype=torch.bool, device=heard_TBNN.device)
        itself = (query * own_key).sum(-1, keepdim=True)
        logits_TBWNN = torch.where(eye_NN, itself, query @ key.transpose(-1, -2)) * self._scale
        there_TBNN = (heard_TBNN | eye_NN).unsqueeze(2)
        weights_TBWNN = logits_TBWNN.masked_fill(~there_TBNN, float("-inf")).softmax(-1)
        of_itself = weights_TBWNN.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
        mixed_TBWNU = weights_TBWNN.masked_fill(eye_NN, 0.0) @ value + of_itself * own_value
        mixed_TBNF = mixed_TBWNU.transpose(2, 3).flatten(-2)
        return torch.relu(self.layers["mix"](mixed_TBNF)), logits_TBWNN

    def _of_heads(self, layer: str, x_TBNF: Tensor) -> Tensor:
        """[T, B, W, N, U]"""
        made = torch.relu(self.layers[layer](x_TBNF))
        return made.reshape(*made.shape[:-1], self._heads, -1).transpose(2, 3)


def divergence(logits_TBWNN: Tensor, heard_TBNN: Tensor) -> Tensor:
    """[T, B, N] KL(z || p) on average over heads: p is the attention of a step, z that of the next
    over the same agents, which gets no gradient. Meaningless in the last step.

    Args:
        logits_TBWNN: of all pairs.
        heard_TBNN: bool: agent i hears agent j.
    """
    eye_NN = torch.eye(heard_TBNN.shape[-1], dtype=torch.bool, device=heard_TBNN.device)
    absent_TB1NN = ~(heard_TBNN | eye_NN).unsqueeze(2)
    lowest = torch.finfo(logits_TBWNN.dtype).min
    log_p = logits_TBWNN.masked_fill(absent_TB1NN, lowest).log_softmax(-1)
    after = torch.cat((logits_TBWNN[1:], logits_TBWNN[-1:])).detach()
    log_z = after.masked_fill(absent_TB1NN, lowest).log_softmax(-1)
    apart = log_z.exp() * (log_z - log_p)
    return apart.masked_fill(absent_TB1NN, 0.0).sum(-1).mean(2)
