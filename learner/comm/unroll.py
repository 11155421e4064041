"""The step of docs/design.md over time, exactly as the agents run it.

    observations -> h (one call) -> z -> scores, gates (all steps) -> m (step by step) -> q (all)

h does not depend on messages, so everything but the recurrence through m is one batch over all
steps.

    causal   C^t from z_i^t and z_j^(t-1) lets m_i^t be heard at step t + 1
    paper    C^t from z_i^t and z_j^t lets m_i^(t-1) be heard at step t (equation 2 to the letter)

A call with T steps equals T calls with one step each that hand on the carry; so the same function
trains and simulates.

Dimension key: T = time, B = batch, N = agents, K = offsets, D = observation features, H = hidden,
M = message, Z = beacon, A = actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.comm.beacons import hold
from learner.comm.gates import GateRule, gate, within_budget
from learner.comm.messages import message_sequence
from learner.network import PolicyNetwork
from runtime.net.topology import offsets


@dataclass(frozen=True, slots=True, eq=False)
class UnrollInput:
    """What the agents see and which of them take part."""

    observations_TBND: Tensor
    """[T, B, N, D] zeros for the dead."""
    alive_TBN: Tensor
    """[T, B, N] bool: sends and is heard. All ones where the dead keep relaying."""


@dataclass(slots=True, eq=False)
class Carry:
    """What is left of a step for the next one."""

    hidden_BNH: Tensor
    message_BNM: Tensor
    """Own last message as it crosses the wire."""
    beacon_BNZ: Tensor
    """Own last beacon that was said, as it crosses the wire."""
    alive_BN: Tensor
    """bool: took part in the last step."""
    edges_BNK: Tensor
    """causal: out-edges on which the last message is under way; paper: unused."""
    first_B: Tensor
    """bool: the next step is the first of its episode."""

    @classmethod
    def begin(cls, network: PolicyNetwork, batch: int) -> "Carry":
        """Before the first step: nothing was seen, said or heard."""
        spec, agents = network.spec, network.num_agents
        like = network.encoder.weight

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, dtype=like.dtype, device=like.device)

        return cls(
            hidden_BNH=zeros(agents, spec.hidden),
            message_BNM=zeros(agents, spec.message),
            beacon_BNZ=zeros(agents, spec.beacon),
            alive_BN=zeros(agents).bool(),
            edges_BNK=zeros(agents, len(offsets(agents))),
            first_B=torch.ones(batch, dtype=torch.bool, device=like.device),
        )

    def restart(self, ended_B: Tensor) -> "Carry":
        """The same carry with a fresh beginning in the rows where `ended_B` is true."""

        def cleared(state: Tensor) -> Tensor:
            return state.masked_fill(ended_B.view(-1, *[1] * (state.ndim - 1)), 0)

        return Carry(
            hidden_BNH=cleared(self.hidden_BNH),
            message_BNM=cleared(self.message_BNM),
            beacon_BNZ=cleared(self.beacon_BNZ),
            alive_BN=cleared(self.alive_BN),
            edges_BNK=cleared(self.edges_BNK),
            first_B=self.first_B | ended_B,
        )


@dataclass(frozen=True, slots=True, eq=False)
class UnrollOutput:
    """What the agents would have done."""

    q_TBNA: Tensor
    messages_TBNM: Tensor
    """Before rounding; the auxiliary losses read them."""
    scores_TBNK: Tensor
    """Of the out-edges; zeros where no gate is learned."""
    allowed_TBNK: Tensor
    """bool: out-edges that could be used at all."""
    gates_TBNK: Tensor
    """1 on the out-edges that step t opened, 0 elsewhere, with the straight-through gradient."""
    carry: Carry


def unroll(
    network: PolicyNetwork, window: UnrollInput, rule: GateRule, carry: Carry | None = None
) -> UnrollOutput:
    """Run N agents over T steps of B episodes.

    Args:
        network: the policy of all agents.
        window: what they see.
        rule: timing, mode and noise of the gate.
        carry: what an earlier call has left; None begins episodes.
    """
    batch = window.observations_TBND.shape[1]
    carry = carry or Carry.begin(network, batch)
    hidden_TBNH = network.recur(window.observations_TBND, carry.hidden_BNH)
    projected = network.project(
        hidden_TBNH, hears=rule.mode != "closed", scores=rule.mode == "learned"
    )
    beacons_TBNZ = projected.beacons
    if beacons_TBNZ is None:
        beacons_TBNZ = carry.beacon_BNZ.expand(len(hidden_TBNH), *carry.beacon_BNZ.shape)
    before = _Before.of(window, carry)
    allowed_TBNK = _allowed(window.alive_TBN, before, rule)
    said_TBNZ = hold(beacons_TBNZ, carry.beacon_BNZ, network.spec.beacon_delta)
    scores_TBNK, gates_TBNK = _gates(network, beacons_TBNZ, said_TBNZ, allowed_TBNK, carry, rule)

    messages_TBNM, last_BNM = message_sequence(
        projected.own_part,
        projected.queries,
        _heard_edges(gates_TBNK, carry, rule),
        carry.message_BNM,
        network.heard_weight(),
        half=network.spec.message_dtype == "float16",
    )
    return UnrollOutput(
        q_TBNA=network.q_values(projected.q_part, messages_TBNM),
        messages_TBNM=messages_TBNM,
        scores_TBNK=scores_TBNK,
        allowed_TBNK=allowed_TBNK,
        gates_TBNK=gates_TBNK,
        carry=Carry(
            hidden_BNH=hidden_TBNH[-1],
            message_BNM=last_BNM,
            beacon_BNZ=said_TBNZ[-1],
            alive_BN=window.alive_TBN[-1],
            edges_BNK=gates_TBNK[-1],
            first_B=torch.zeros_like(carry.first_B),
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Before:
    """The step before each step."""

    alive_TBN: Tensor
    first_TB11: Tensor
    """bool: there was none."""

    @classmethod
    def of(cls, window: UnrollInput, carry: Carry) -> "_Before":
        first_TB = torch.zeros_like(window.alive_TBN[..., 0])
        first_TB[0] = carry.first_B
        alive_TBN = torch.cat((carry.alive_BN.unsqueeze(0), window.alive_TBN[:-1]))
        return cls(alive_TBN, first_TB[..., None, None])


def _at_receivers(x_TBN: Tensor, num_offsets: int) -> Tensor:
    """[…, N] -> […, N, K] entry (i, k) is that of agent i + 2^k."""
    return torch.stack([x_TBN.roll(-(1 << k), dims=-1) for k in range(num_offsets)], dim=-1)


def _at_senders(x_TBNK: Tensor) -> Tensor:
    """[…, N, K] of out-edges -> the same edges seen by who hears: (j, k) is that of agent j -
    2^k.
    """
    edges = [x.roll(1 << k, dims=-1) for k, x in enumerate(x_TBNK.unbind(-1))]
    return torch.stack(edges, dim=-1)


def _allowed(alive_TBN: Tensor, before: _Before, rule: GateRule) -> Tensor:
    """[T, B, N, K] bool: out-edges that can carry a message, by who is alive."""
    num_offsets = len(offsets(alive_TBN.shape[-1]))
    if rule.timing == "causal":
        # The sender needs to have heard the receiver's beacon; at the first step nobody was heard,
        # and every peer counts as there.
        heard_TBNK = _at_receivers(before.alive_TBN, num_offsets) | before.first_TB11
        return alive_TBN.unsqueeze(-1) & heard_TBNK
    # What is sent is the message of the step before, so there has to be one.
    has_message_TBN1 = (alive_TBN & before.alive_TBN).unsqueeze(-1) & ~before.first_TB11
    return has_message_TBN1 & _at_receivers(alive_TBN, num_offsets)


def _gates(
    network: PolicyNetwork,
    beacons_TBNZ: Tensor,
    said_TBNZ: Tensor,
    allowed_TBNK: Tensor,
    carry: Carry,
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
        receivers_TBNZ = torch.cat((carry.beacon_BNZ.unsqueeze(0), said_TBNZ[:-1]))
    scores_TBNK = network.scores(beacons_TBNZ, receivers_TBNZ)
    return scores_TBNK, gate(scores_TBNK, allowed_TBNK, rule)


def _heard_edges(gates_TBNK: Tensor, carry: Carry, rule: GateRule) -> Tensor | None:
    """[T, B, N, K] in-edges whose message of the step before is heard at step t; None: no edge
    ever.
    """
    if rule.mode == "closed":
        return None
    if rule.timing == "causal":
        gates_TBNK = torch.cat((carry.edges_BNK.unsqueeze(0), gates_TBNK[:-1]))
    return _at_senders(gates_TBNK)
