"""The policy as a torch module; `agents.network` is the same function in numpy.

    observation -> encoder -> GRU -> hidden -> attention over messages -> message -> q-values
                                        └────-> beacon -> scores of the out-edges

Its parameters are those of `PolicySpec.layout`, one to one and in the same order. The methods are
the stages of one step; `learner.comm.unroll` puts them in order over time.

Dimension key: T = time, B = batch, N = agents, K = offsets, D = observation features, H = hidden,
Q = query and key size, M = message, Z = beacon, A = actions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.comm.gate import edge_features
from agents.policy import EDGE_FEATURES, PolicySpec, views
from configs.arrays import FloatArray
from learner.comm.pair_scores import pair_scores
from learner.kernels.gru import run_gru
from learner.kernels.projections import Layer, projections
from learner.kernels.straight_through import round_beacon

_GRU_NAMES = {
    f"gru.{name}": f"gru.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
}
"""Layout name -> torch's name: nn.GRU numbers its layers."""


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """What hidden states come to before anybody has spoken."""

    own_part: Tensor
    """[…, M] what a new message owes to the agent's own state."""
    q_part: Tensor
    """[…, H] what the Q head's hidden layer owes to it."""
    queries: Tensor | None
    """[…, M] scaled and through the transposed key matrix; None if nobody is heard."""
    beacons: Tensor | None
    """[…, Z] node embedding z = phi(h), rounded as on the wire; None if no edge is scored."""


class PolicyNetwork(nn.Module):
    """A trainable policy for N agents that share parameters; N enters through edge features
    only.
    """

    edge_features_KF: Tensor

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__()
        self.spec = spec
        self.num_agents = num_agents
        pair = 2 * spec.beacon + spec.edge_embedding
        self.encoder = nn.Linear(spec.observation_dim, spec.hidden)
        self.gru = nn.GRU(spec.hidden, spec.hidden)
        self.query = nn.Linear(spec.hidden, spec.attention, bias=False)
        self.key = nn.Linear(spec.message, spec.attention, bias=False)
        self.value = nn.Linear(spec.message, spec.hidden, bias=False)
        self.message = nn.Linear(2 * spec.hidden, spec.message)
        self.q_hidden = nn.Linear(spec.hidden + spec.message, spec.hidden)
        self.q_out = nn.Linear(spec.hidden, spec.num_actions)
        self.beacon = nn.Linear(spec.hidden, spec.beacon)
        self.edge = nn.Linear(EDGE_FEATURES, spec.edge_embedding)
        self.scorer_hidden = nn.Linear(pair, spec.scorer)
        self.scorer_out = nn.Linear(spec.scorer, 1)
        features = torch.from_numpy(edge_features(num_agents))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        self.register_buffer("edge_features_KF", features, persistent=False)

    def tensors(self) -> Mapping[str, nn.Parameter]:
        """The parameters by their names in the layout, in its order."""
        found = dict(self.named_parameters())
        return {name: found[_GRU_NAMES.get(name, name)] for name, _ in self.spec.layout}

    @torch.no_grad()
    def load_flat(self, flat: FloatArray) -> None:
        """Take over a [P] vector in layout order.

        Raises:
            ValueError: the vector has another length than the spec.
        """
        parameters = self.tensors()
        for name, view in views(self.spec, flat).items():
            # A copy, because a vector that came over the wire is read-only.
            parameters[name].copy_(torch.tensor(view))

    def to_flat(self) -> FloatArray:
        """[P] a fresh vector in layout order."""
        flat = np.empty(self.spec.size, dtype=np.float32)
        parameters = self.tensors()
        for name, view in views(self.spec, flat).items():
            view[...] = parameters[name].detach().cpu().numpy()
        return flat

    # --- the stages of a step ---------------------------------------------------------------------

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        """[T, B, N, H] hidden states of a sequence in one call: they do not depend on messages."""
        time, batch, agents, _ = observations_TBND.shape
        x_TBNH = functional.relu(self.encoder(observations_TBND), inplace=True)
        sequences = x_TBNH.reshape(time, batch * agents, -1)
        start = hidden_BNH.reshape(batch * agents, -1)
        hidden = run_gru(self.gru, sequences, start)
        return hidden.view(time, batch, agents, -1)

    def project(self, hidden: Tensor, *, hears: bool, scores: bool) -> "Projected":
        """All that depends on hidden states […, H] alone, for all steps at once.

        Three layers act on a concatenation of the hidden state and something else, so their
        products split, and this is the first half. Queries go through the transposed key matrix as
        well: q · (W_k m) = (W_k^T q) · m.

        Args:
            hidden: of the agents.
            hears: there are messages to attend to.
            scores: there are edges to be scored.
        """
        size, spec = self.spec.hidden, self.spec
        layers: list[Layer] = [
            (self.message.weight[:, :size], self.message.bias),
            (self.q_hidden.weight[:, :size], self.q_hidden.bias),
        ]
        if hears:
            scaled = self.query.weight / math.sqrt(spec.attention)
            layers.append((self.key.weight.t() @ scaled, None))
        if scores:
            layers.append((self.beacon.weight, self.beacon.bias))
        own_part, q_part, *others = projections(hidden, *layers)
        beacons = torch.tanh(others.pop()) if scores else None
        return Projected(
            own_part=own_part,
            q_part=q_part,
            queries=others.pop() if hears else None,
            beacons=None if beacons is None else round_beacon(beacons, spec.beacon_dtype),
        )

    def scores(self, senders_TBNZ: Tensor, receivers_TBNZ: Tensor) -> Tensor:
        """[T, B, N, K] scores f(z_i, z_j, e_k) of each agent's out-edges (equation 2).

        The first layer acts on a concatenation, so it splits into W_i z_i + W_j z_j + W_e e_k: two
        products per agent and K additions instead of K products.
        """
        weight, beacon = self.scorer_hidden.weight, self.spec.beacon
        own, peer = weight[:, :beacon], weight[:, beacon : 2 * beacon]
        edge = weight[:, 2 * beacon :]
        embedding_KG = torch.tanh(self.edge(self.edge_features_KF))
        edge_KS = functional.linear(embedding_KG, edge, self.scorer_hidden.bias)
        own_TBNS = functional.linear(senders_TBNZ, own)
        peer_TBNS = functional.linear(receivers_TBNZ, peer)
        scores_TBNK = pair_scores(own_TBNS, peer_TBNS, edge_KS, self.scorer_out.weight[0])
        return scores_TBNK + self.scorer_out.bias

    def heard_weight(self) -> Tensor:
        """[M, M] from the attended messages (rows) to what a new message owes to them.

        The value projection is linear, so it commutes with the attention's weighted sum and merges
        with the message layer: W_c (W_v sum w m) = (W_c W_v) sum w m, one product less per step.
        """
        return (self.message.weight[:, self.spec.hidden :] @ self.value.weight).t()

    def q_values(self, q_part: Tensor, message: Tensor) -> Tensor:
        """[…, H], […, M] -> […, A] from the message before rounding."""
        weight, size = self.q_hidden.weight, self.spec.hidden
        hidden = torch.addmm(
            q_part.reshape(-1, size),
            message.reshape(-1, self.spec.message),
            weight[:, size:].t(),
        )
        return self.q_out(functional.relu(hidden, inplace=True)).view(*message.shape[:-1], -1)
