"""The torch twin of agents/comm/nvif.py, and the encoder that pre-training trains.

    observations (all steps) -> codes ─┐
    edges -> weights of the flow ──────┴-> phi (all steps)
    state before -> psi -> GRU with phi -> state, step by step -> mean of the latent state

Dimension key: T = time, B = batch, N = agents, K = edges of one direction, D = observation
features, F = code, G = state, L = latent state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.comm.nvif import LARGEST, Options
from agents.policy import PolicySpec
from learner.comm.base import Said, SchemeTwin
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import allowed_edges, heard_edges
from learner.comm.gates import GateRule
from learner.kernels.dense import dense
from learner.kernels.straight_through import round_message


class Flow(NamedTuple):
    """What is handed on in all steps."""

    states_TBNG: Tensor
    """Before they are rounded for the wire."""
    degrees_TBN1: Tensor
    """Neighbours that are spoken to, and the agent itself."""
    allowed_TBNK: Tensor
    """bool: out-edges that could be used."""
    gates_TBNK: Tensor
    """1 on those that are: all of them."""


class NvifTwin(SchemeTwin):
    """All of it that runs in execution."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        options: Options = spec.scheme_opts()
        self._parts = [options.code, options.state, 1]
        self._code_hidden = nn.Linear(spec.observation_dim, options.encoder)
        self._code = nn.Linear(options.encoder, options.code)
        self._flow_code = nn.Linear(options.code, options.flow, bias=False)
        self._flow_state = nn.Linear(options.state, options.state, bias=False)
        self._state = nn.GRUCell(options.flow, options.state)
        self._latent = nn.Linear(options.state, options.latent)
        self.layers = {
            "code_hidden": self._code_hidden,
            "code": self._code,
            "flow_code": self._flow_code,
            "flow_state": self._flow_state,
            "state": self._state,
            "latent": self._latent,
        }

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        codes_TBNF = self.codes(window.observations_TBND)
        flow = self.flow(self.rounded(codes_TBNF), window, carry)
        messages_TBNM = torch.cat((codes_TBNF, flow.states_TBNG, flow.degrees_TBN1), dim=-1)
        return Said.without_scores(
            (messages_TBNM, self.rounded(messages_TBNM[-1])),
            flow.allowed_TBNK,
            flow.gates_TBNK,
            context_TBNC=self.means(flow.states_TBNG),
        )

    def flow(self, codes_TBNF: Tensor, window: UnrollInput, carry: Carry) -> Flow:
        """What is handed on in all steps.

        Args:
            codes_TBNF: of the observations, as they cross the wire.
            window: who takes part, and who is whose neighbour; observations are not looked at.
        """
        offsets = self.graph.offsets
        allowed_TBNK = allowed_edges(window, carry, offsets)
        gates_TBNK = allowed_TBNK.to(codes_TBNF.dtype)
        degrees_TBN1 = 1.0 + gates_TBNK.sum(-1, keepdim=True)
        heard_TBNK = heard_edges(gates_TBNK, carry, offsets)
        code_BNF, state_BNG, degree_BN1 = torch.split(carry.message_BNM, self._parts, dim=-1)
        weights_TBNN = flow_weights(heard_TBNK, _before(degrees_TBN1, degree_BN1))
        states_TBNG = self.states(_before(codes_TBNF, code_BNF), weights_TBNN, state_BNG)
        return Flow(states_TBNG, degrees_TBN1, allowed_TBNK, gates_TBNK)

    def codes(self, observations_D: Tensor) -> Tensor:
        """[…, F] of observations […, D], before they are rounded for the wire."""
        hidden = self._code_hidden
        hidden_H = dense(observations_D, hidden.weight, hidden.bias, relu=True)
        return self._code(hidden_H).clamp(-LARGEST, LARGEST)

    def states(self, codes_TBNF: Tensor, weights_TBNN: Tensor, state_BNG: Tensor) -> Tensor:
        """[T, B, N, G] the states h' of all steps, before they are rounded for the wire.

        Args:
            codes_TBNF: what was said in the step before each of these, as it crossed the wire.
            weights_TBNN: of the flow, as `flow_weights` makes them.
            state_BNG: what was said in the step before the first.
        """
        phi_TBNF = torch.relu(self._flow_code(weights_TBNN @ codes_TBNF))
        states = list[Tensor]()
        for phi_BNF, weights_BNN in zip(phi_TBNF.unbind(0), weights_TBNN.unbind(0), strict=True):
            psi_BNG = torch.relu(self._flow_state(weights_BNN @ state_BNG))
            after = self._state(phi_BNF.flatten(0, 1), psi_BNG.flatten(0, 1))
            states.append(after.view_as(psi_BNG).clamp(-LARGEST, LARGEST))
            state_BNG = self.rounded(states[-1])
        return torch.stack(states)

    def means(self, states_G: Tensor) -> Tensor:
        """[…, L] means of the latent states."""
        return self._latent(states_G)

    def rounded(self, said: Tensor) -> Tensor:
        """As it crosses the wire."""
        return round_message(said, self.spec.message_dtype)


def _before(said_TBNX: Tensor, first_BNX: Tensor) -> Tensor:
    """[T, B, N, X] what was said in the step before each step.

    Args:
        first_BNX: before the first; zeros where an episode begins.
    """
    return torch.cat((first_BNX.unsqueeze(0), said_TBNX[:-1]))


def flow_weights(heard_TBNK: Tensor, degrees_TBN1: Tensor) -> Tensor:
    """[T, B, N, N] D^-1/2 (G + I) D^-1/2 (equation 9): row i says what agent i makes of each token.

    Args:
        heard_TBNK: in-edges of the complete graph on which something was heard: 1, else 0. Edge k
            of agent i comes from agent i - 1 - k.
        degrees_TBN1: that agents have stated: neighbours and themselves; 0: nothing was said yet.
    """
    numbers_N = torch.arange(heard_TBNK.shape[-2], device=heard_TBNK.device)
    back_NN = (numbers_N.unsqueeze(1) - numbers_N) % len(numbers_N)
    own_first_TBNN = functional.pad(heard_TBNK, (1, 0), value=1.0)
    edges_TBNN = own_first_TBNN.gather(-1, back_NN.expand_as(own_first_TBNN))
    scale_TBN1 = torch.where(degrees_TBN1 >= 1.0, degrees_TBN1.clamp(min=1.0).rsqrt(), 0.0)
    return edges_TBNN * scale_TBN1 * scale_TBN1.transpose(-1, -2)
