"""The torch twin of agents/comm/expocomm_one_peer.py.

    reads of h (all steps) -> step by step: the slot's neighbour -> GRU over messages -> message

The neighbour is a rotation, in each episode whose window begins at another step by another number
of agents: a permutation of rows, and nothing of size N × N.

Dimension key: T = time, B = batch, N = agents, K = edges of one direction, R = B × N rows, M =
message.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.policy import PolicySpec
from learner.comm.base import Said, SchemeTwin
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges, offsets_on
from learner.comm.gates import GateRule
from learner.kernels.projections import Layer
from learner.kernels.straight_through import round_message


class ExpocommOnePeerTwin(SchemeTwin):
    """The state of the message GRU, which is the message before rounding, is carried on."""

    names: Mapping[str, str] = {
        f"message_gru.{name}": f"message_gru.{name}_l0"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        self._own_size = spec.hidden if spec.scheme_opts().own_state else 0
        self._own_slots = int(spec.scheme_opts().self_slot)
        self._mix = nn.Linear(self._own_size + spec.message, spec.message)
        self._gru = nn.GRU(spec.message, spec.message)
        self.layers = {"mix": self._mix, "message_gru": self._gru}

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        if not self._own_size:
            return []
        return [(self._mix.weight[:, : self._own_size], self._mix.bias)]

    def begin(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        shape = (batch, self.num_agents, self.spec.message)
        return {"memory": torch.zeros(shape, dtype=like.dtype, device=like.device)}

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        time, offsets = len(window.alive_TBN), self.graph.offsets
        steps_TB = carry.step_B + torch.arange(time, device=carry.step_B.device).unsqueeze(1)
        edges_K = torch.arange(len(offsets), device=steps_TB.device)
        allowed_TBNK = allowed_edges(window, carry, offsets)
        # What is said in a step is heard in the next, over the edge of that one's slot.
        is_slot_TB1K = self._slots(steps_TB + 1)[..., None, None] == edges_K
        gates_TBNK = (allowed_TBNK & is_slot_TB1K).to(carry.message_BNM.dtype)
        messages = self._messages(
            reads[0] if reads else self._mix.bias.expand(*window.alive_TBN.shape, -1),
            self._peers(heard_edges(gates_TBNK, carry, offsets), self._slots(steps_TB)),
            carry,
        )
        own = {"memory": messages[0][-1]}
        return Said.without_scores(messages, allowed_TBNK, gates_TBNK, own)

    def _slots(self, steps_TB: Tensor) -> Tensor:
        """[T, B] as agents.comm.expocomm_one_peer.slots has them; -1 is the agent itself."""
        return steps_TB % (self.graph.num_edges + self._own_slots) - self._own_slots

    def _peers(self, heard_TBNK: Tensor, slots_TB: Tensor) -> Tensor:
        """[T, B, N] int64: whose message of the step before is heard; the agent itself where no
        other's is.
        """
        offsets_K = offsets_on(self.graph.offsets, slots_TB.device)
        slots_TB1 = slots_TB.clamp(min=0).unsqueeze(-1)
        index_TBN1 = slots_TB1.unsqueeze(-1).expand(*heard_TBNK.shape[:-1], 1)
        is_heard_TBN = heard_TBNK.gather(-1, index_TBN1).squeeze(-1) > 0
        is_heard_TBN = is_heard_TBN & (slots_TB.unsqueeze(-1) >= 0)
        agents_N = torch.arange(self.num_agents, device=slots_TB.device)
        peers_TBN = (agents_N - offsets_K[slots_TB1]) % self.num_agents
        return torch.where(is_heard_TBN, peers_TBN, agents_N)

    def _messages(
        self, own_part_TBNM: Tensor, peers_TBN: Tensor, carry: Carry
    ) -> tuple[Tensor, Tensor]:
        """[T, B, N, M] messages before rounding, and the last one as it crosses the wire.

        Args:
            own_part_TBNM: what x owes to the receiver's own state, bias included.
            peers_TBN: whose message is heard.
        """
        time, batch, agents, size = own_part_TBNM.shape
        heard_weight = self._mix.weight[:, self._own_size :].t()
        begins_B1 = torch.arange(batch, device=peers_TBN.device).unsqueeze(1) * agents
        rows_TR = (peers_TBN + begins_B1).view(time, -1)
        own_TRM = own_part_TBNM.reshape(time, -1, size)
        sent_RM = carry.message_BNM.reshape(-1, size)
        state_RM = carry.own["memory"].reshape(-1, size)
        of_gru = [parameter for _, parameter in self._gru.named_parameters()]
        messages: list[Tensor] = []
        for own_RM, rows_R in zip(own_TRM.unbind(0), rows_TR.unbind(0), strict=True):
            heard_RM = sent_RM.index_select(0, rows_R)
            x_RM = functional.relu(torch.addmm(own_RM, heard_RM, heard_weight))
            state_RM = torch.gru_cell(x_RM, state_RM, *of_gru)
            messages.append(state_RM)
            sent_RM = round_message(state_RM, self.spec.message_dtype)
        messages_TBNM = torch.stack(messages).view(own_part_TBNM.shape)
        return messages_TBNM, sent_RM.view(carry.message_BNM.shape)
