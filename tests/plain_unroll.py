"""The unroll in its plainest form: step after step, neighbours by index, autograd's gradients.

Parity partner of `learner.comm.unroll.unroll`, with its signature, and what the benchmarks hold it
against. It uses the network's layers, the gate and its rounding, and nothing else that the other is
made of: no rotation, no batch over steps, no layer that is split, merged or exchanged with another.

Dimension key: T = time, B = batch, N = agents, K = offsets, J = 1 + K tokens, H = hidden,
Q = query and key size, M = message, Z = beacon.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.comm.gate import edge_features
from learner.comm.gates import GateRule, gate, within_budget
from learner.comm.unroll import Carry, UnrollInput, UnrollOutput
from learner.kernels.straight_through import round_beacon, straight_through
from learner.network import PolicyNetwork
from runtime.net.topology import in_neighbours, offsets, out_neighbours


@dataclass(slots=True, eq=False)
class _Step:
    """What one step comes to."""

    q_BNA: Tensor
    message_BNM: Tensor
    scores_BNK: Tensor
    allowed_BNK: Tensor
    gates_BNK: Tensor


def plain_unroll(
    network: PolicyNetwork, window: UnrollInput, rule: GateRule, carry: Carry | None = None
) -> UnrollOutput:
    """Run N agents over T steps of B episodes, like `learner.comm.unroll.unroll`."""
    carry = carry or Carry.begin(network, window.observations_TBND.shape[1])
    steps: list[_Step] = []
    for t in range(len(window.alive_TBN)):
        step, carry = _step(network, window.observations_TBND[t], window.alive_TBN[t], rule, carry)
        steps.append(step)
    return UnrollOutput(
        q_TBNA=torch.stack([step.q_BNA for step in steps]),
        messages_TBNM=torch.stack([step.message_BNM for step in steps]),
        context_TBNC=torch.stack([step.message_BNM for step in steps]),
        scores_TBNK=torch.stack([step.scores_BNK for step in steps]),
        allowed_TBNK=torch.stack([step.allowed_BNK for step in steps]),
        gates_TBNK=torch.stack([step.gates_BNK for step in steps]),
        carry=carry,
    )


def _step(
    network: PolicyNetwork, observation_BND: Tensor, alive_BN: Tensor, rule: GateRule, carry: Carry
) -> tuple[_Step, Carry]:
    agents = network.num_agents
    told = torch.tensor([out_neighbours(i, agents) for i in range(agents)])
    heard_from = torch.tensor([in_neighbours(i, agents) for i in range(agents)])

    hidden_BNH = _gru_cell(network, torch.relu(network.encoder(observation_BND)), carry.hidden_BNH)
    beacon_BNZ = carry.own["beacon"]
    if rule.mode == "learned":
        beacon_BNZ = torch.tanh(network.beacon(hidden_BNH))
        beacon_BNZ = round_beacon(beacon_BNZ, network.spec.beacon_dtype)

    said_BNZ = beacon_BNZ
    if network.spec.beacon_delta > 0.0 or network.spec.beacon_period > 1:
        moved_BN1 = (beacon_BNZ - carry.own["beacon"]).abs().amax(-1, keepdim=True)
        due_B11 = (carry.step_B % network.spec.beacon_period == 0)[:, None, None]
        news_BN1 = (moved_BN1 > network.spec.beacon_delta) & due_B11
        said_BNZ = torch.where(news_BN1, beacon_BNZ, carry.own["beacon"])

    first_B11 = carry.first_B[:, None, None]
    if rule.timing == "causal":
        peers_BNZ = carry.own["beacon"]
        allowed_BNK = alive_BN[:, :, None] & (carry.alive_BN[:, told] | first_B11)
    else:
        peers_BNZ = said_BNZ
        spoke_BN1 = (alive_BN & carry.alive_BN)[:, :, None]
        allowed_BNK = spoke_BN1 & alive_BN[:, told] & ~first_B11
    scores_BNK = torch.zeros(allowed_BNK.shape, dtype=hidden_BNH.dtype)
    match rule.mode:
        case "closed":
            gates_BNK = torch.zeros_like(scores_BNK)
        case "open":
            gates_BNK = within_budget(scores_BNK, allowed_BNK, rule.budget).to(scores_BNK.dtype)
        case "learned":
            scores_BNK = _scores(network, beacon_BNZ, peers_BNZ[:, told])
            gates_BNK = gate(scores_BNK[None], allowed_BNK[None], rule)[0]

    used_BNK = carry.edges_BNK if rule.timing == "causal" else gates_BNK
    # In-edge k of agent j is out-edge k of the agent that it comes from.
    heard_BNK = torch.stack(
        [used_BNK[:, heard_from[:, k], k] for k in range(heard_from.shape[1])], dim=-1
    )
    tokens_BNJM = torch.cat(
        (carry.message_BNM[:, :, None], carry.message_BNM[:, heard_from]), dim=2
    )
    context_BNH = _attend(network, hidden_BNH, tokens_BNJM, heard_BNK)
    message_BNM = torch.tanh(network.message(torch.cat((hidden_BNH, context_BNH), dim=-1)))
    sent_BNM = message_BNM
    if network.spec.message_dtype == "float16":
        sent_BNM = straight_through(message_BNM, message_BNM.detach().half().to(message_BNM.dtype))
    q_hidden = torch.relu(network.q_hidden(torch.cat((hidden_BNH, message_BNM), dim=-1)))
    return (
        _Step(network.q_out(q_hidden), message_BNM, scores_BNK, allowed_BNK, gates_BNK),
        Carry(
            hidden_BNH=hidden_BNH,
            message_BNM=sent_BNM,
            step_B=carry.step_B + 1,
            own={"beacon": said_BNZ},
            alive_BN=alive_BN,
            edges_BNK=gates_BNK,
            first_B=torch.zeros_like(carry.first_B),
        ),
    )


def _gru_cell(network: PolicyNetwork, x_BNH: Tensor, hidden_BNH: Tensor) -> Tensor:
    parameters = network.tensors()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weight_ih, weight_hh, bias_ih, bias_hh = (parameters[f"gru.{name}"] for name in names)
    in_r, in_z, in_n = (x_BNH @ weight_ih.t() + bias_ih).chunk(3, dim=-1)
    own_r, own_z, own_n = (hidden_BNH @ weight_hh.t() + bias_hh).chunk(3, dim=-1)
    r, z = torch.sigmoid(in_r + own_r), torch.sigmoid(in_z + own_z)
    n = torch.tanh(in_n + r * own_n)
    return (1 - z) * n + z * hidden_BNH


def _scores(network: PolicyNetwork, own_BNZ: Tensor, peers_BNKZ: Tensor) -> Tensor:
    """[B, N, K] f(z_i, z_j, e_k) on the concatenation (equation 2)."""
    num_offsets = len(offsets(network.num_agents))
    features_KF = torch.tensor(edge_features(network.num_agents)).to(network.edge.weight)
    embedding_KG = torch.tanh(network.edge(features_KF))
    pairs = torch.cat(
        (
            own_BNZ[:, :, None].expand(-1, -1, num_offsets, -1),
            peers_BNKZ,
            embedding_KG.expand(*own_BNZ.shape[:2], -1, -1),
        ),
        dim=-1,
    )
    return network.scorer_out(torch.relu(network.scorer_hidden(pairs))).squeeze(-1)


def _attend(
    network: PolicyNetwork, hidden_BNH: Tensor, tokens_BNJM: Tensor, heard_BNK: Tensor
) -> Tensor:
    """[B, N, H] equation 5 with gates as factors, so that closed edges have a gradient as well."""
    query_BNQ = network.query(hidden_BNH)
    logits_BNJ = (query_BNQ[:, :, None] * network.key(tokens_BNJM)).sum(-1)
    logits_BNJ = logits_BNJ / math.sqrt(network.spec.attention)
    present_BNJ = torch.cat((torch.ones_like(heard_BNK[..., :1]), heard_BNK), dim=-1)
    peak_BN1 = logits_BNJ.masked_fill(present_BNJ == 0, float("-inf")).amax(-1, keepdim=True)
    weights_BNJ = present_BNJ * (logits_BNJ - peak_BN1).clamp(max=0.0).exp()
    weights_BNJ = weights_BNJ / weights_BNJ.sum(-1, keepdim=True)
    return (weights_BNJ[..., None] * network.value(tokens_BNJM)).sum(2)
