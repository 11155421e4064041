"""The step of docs/design.md over time, exactly as the agents run it.

    observations -> h (one call) -> the scheme: gates and messages -> q (all steps)

h does not depend on messages, so everything but the recurrence through messages is one batch over
all steps. Which messages there are is the scheme's business (learner/comm/base.py).

A call with T steps equals T calls with one step each that hand on the carry; so the same function
trains and simulates.

Dimension key: T = time, B = batch, N = agents, K = out-edges, M = message, C = context, A =
actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from learner.comm.carry import Carry, UnrollInput
from learner.comm.gates import GateRule
from learner.network import PolicyNetwork

__all__ = ["Carry", "UnrollInput", "UnrollOutput", "unroll"]


@dataclass(frozen=True, slots=True, eq=False)
class UnrollOutput:
    """What the agents would have done."""

    q_TBNA: Tensor
    messages_TBNM: Tensor
    """Before rounding; the auxiliary losses read them."""
    context_TBNC: Tensor
    """What the Q head has read beside hidden states: the messages, or what the scheme says."""
    scores_TBNK: Tensor
    """Of the out-edges; zeros where no gate is learned."""
    allowed_TBNK: Tensor
    """bool: out-edges that could be used at all."""
    gates_TBNK: Tensor
    """1 on the out-edges that step t opened, 0 elsewhere, with the straight-through gradient."""
    carry: Carry
    own_loss_TB: Tensor | None = None
    """What the scheme itself adds to the loss; None: nothing, or nobody trains here."""


def unroll(
    network: PolicyNetwork,
    window: UnrollInput,
    rule: GateRule,
    carry: Carry | None = None,
    learns: int | None = None,
) -> UnrollOutput:
    """Run N agents over T steps of B episodes.

    Args:
        network: the policy of all agents.
        window: what they see.
        rule: timing, mode and noise of the gate.
        carry: what an earlier call has left; None begins episodes.
        learns: number of the only network that gets a gradient, where agents have their own; None:
            all do.

    Raises:
        ValueError: agents have networks of their own, and edges; or the scheme's graph moves, and
            nobody says who is near.
    """
    if network.scheme.moves and window.neighbours_TBNK is None:
        raise ValueError(f"{network.spec.scheme} hears its neighbours: say who they are")
    if carry is None:
        carry = Carry.begin(network, window.observations_TBND.shape[1], window.start_B)
    if network.each:
        return _each_by_its_own(network, window, rule, carry, learns)
    if not (network.encoding.is_row_by_row and network.scheme.leaves_out_the_dead):
        window = replace(window, living_R=None)
    # Of the living alone, as [T, 1, R, …], where the others are left out.
    hidden = _remembered(network, window, carry)
    q_part, reads = network.project(hidden, rule)
    said = network.scheme(reads, window, carry, rule)
    messages_TBNM = context_TBNC = window.everybody(said.messages_TBNM)
    if said.context_TBNC is not None:
        context_TBNC = window.everybody(said.context_TBNC)
    of_head = said.messages_TBNM if said.context_TBNC is None else said.context_TBNC
    q_TBNO = window.everybody(network.q_values(q_part, of_head))
    q_TBNA = network.own_outputs(q_TBNO)
    return UnrollOutput(
        q_TBNA=q_TBNA,
        messages_TBNM=messages_TBNM,
        context_TBNC=context_TBNC,
        scores_TBNK=said.scores_TBNK,
        allowed_TBNK=said.allowed_TBNK,
        gates_TBNK=said.gates_TBNK,
        carry=Carry(
            hidden_BNH=window.everybody(hidden[-1:])[0],
            message_BNM=window.everybody(said.last_BNM.unsqueeze(0))[0],
            alive_BN=window.alive_TBN[-1],
            edges_BNK=said.gates_TBNK[-1],
            first_B=torch.zeros_like(carry.first_B),
            step_B=carry.step_B + len(hidden),
            own=said.own,
        ),
        own_loss_TB=network.scheme.own_loss(said, q_TBNA) if torch.is_grad_enabled() else None,
    )


def _each_by_its_own(
    network: PolicyNetwork,
    window: UnrollInput,
    rule: GateRule,
    carry: Carry,
    learns: int | None,
) -> UnrollOutput:
    """Every network over all agents, and of each agent what its own has said: where nobody hears
    the others, what stands beside an agent makes no difference to it.
    """
    if rule.mode != "closed":
        raise ValueError(f"networks that share nothing are unrolled without edges, got {rule.mode}")
    outputs = list[UnrollOutput]()
    for number, one in enumerate(network.each):
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns in (None, number)):
            outputs.append(unroll(one, window, rule, carry))
    first, carries = outputs[0], [output.carry for output in outputs]
    return replace(
        first,
        q_TBNA=_of_its_own([output.q_TBNA for output in outputs], agents=2),
        messages_TBNM=_of_its_own([output.messages_TBNM for output in outputs], agents=2),
        context_TBNC=_of_its_own([output.context_TBNC for output in outputs], agents=2),
        carry=replace(
            first.carry,
            hidden_BNH=_of_its_own([carry.hidden_BNH for carry in carries], agents=1),
            message_BNM=_of_its_own([carry.message_BNM for carry in carries], agents=1),
            own={
                name: _of_its_own([carry.own[name] for carry in carries], agents=1)
                for name in first.carry.own
            },
        ),
    )


def _of_its_own(by_network: Sequence[Tensor], agents: int) -> Tensor:
    """Of what each network says of all agents, what an agent's own says of it.

    Args:
        agents: dimension of the agents.
    """
    whole = torch.stack(tuple(by_network))
    numbers_N = torch.arange(whole.shape[agents + 1], device=whole.device)
    rows = whole.movedim(agents + 1, 1)[numbers_N % len(by_network), numbers_N]
    return rows.movedim(0, agents)


def _remembered(network: PolicyNetwork, window: UnrollInput, carry: Carry) -> Tensor:
    """[T, B, N, H] memories: in one call, or step by step where lives begin anew."""
    if window.living_R is not None:
        seen_TRD = window.observations_TBND.flatten(1, 2).index_select(1, window.living_R)
        before_RH = carry.hidden_BNH.flatten(0, 1).index_select(0, window.living_R)
        return network.recur(seen_TRD.unsqueeze(1), before_RH.unsqueeze(0))
    if window.begins_TBN is None:
        return network.recur(window.observations_TBND, carry.hidden_BNH)
    hidden_BNH, hidden = carry.hidden_BNH, list[Tensor]()
    for seen_BND, begins_BN in zip(window.observations_TBND, window.begins_TBN, strict=True):
        before_BNH = torch.where(begins_BN.unsqueeze(-1), 0.0, hidden_BNH)
        (hidden_BNH,) = network.recur(seen_BND.unsqueeze(0), before_BNH)
        hidden.append(hidden_BNH)
    return torch.stack(hidden)


def begun_lives(alive_TBN: Tensor, before_BN: Tensor | None = None) -> Tensor | None:
    """[T, B, N] bool: lives that begin after a death; None if none does.

    Args:
        before_BN: agents that were alive before the first step; None: all, as far as is known.
    """
    first_BN = torch.ones_like(alive_TBN[0]) if before_BN is None else before_BN
    before_TBN = torch.cat((first_BN.unsqueeze(0), alive_TBN[:-1]))
    begins_TBN = alive_TBN & ~before_TBN
    return begins_TBN if begins_TBN.any() else None
