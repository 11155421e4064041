"""The torch twin of agents/comm/gacg.py, and all there is of it that computes.

    x = E(o)                                  embedding of an agent
    mu_ij = softmax_j (x_i · P x_j)           attention of agent i to j, over the living
    g_i = onehot argmax G(o^{t-L+1 .. t}_i)   group, straight-through
    e_ij = mu_ij + s (xi_i · g_j + small)     cov(e_ij, e_ik) = s² [j, k in one group]
    A = half of e + e', in [0, 1] over the graph, 0 up to 1/2, 1 for oneself
    m = tanh(A tanh(A x W_1 + b_1) W_2 + b_2) with A averaged over an agent's edges

s is 0 where nothing explores. Nothing depends on the step before but the last observations, so all
steps are one batch.

Dimension key: T = time, B = batch, N = agents, K = N - 1 edges of one direction, D = observation
features, X = embedding, M = message, G = groups, L = observations of a trajectory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.comm.gacg import Options
from agents.policy import PolicySpec
from learner.comm.base import Said, SchemeTwin
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import at_receivers
from learner.comm.gates import GateRule
from learner.kernels.straight_through import straight_through

_THRESHOLD = 0.5
"""Edges up to it are closed."""
_SMALL = 0.001
"""Of the variance that an edge has for itself, as released: a share of a group's."""
_NOBODY = -1e9
_TINY = 1e-6


class GacgTwin(SchemeTwin):
    """All agents at once."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        self._options: Options = spec.scheme_opts()
        options, seen = self._options, spec.observation_dim
        self._embed_hidden = nn.Linear(seen, spec.hidden)
        self._embed_out = nn.Linear(spec.hidden, spec.attention)
        self._pair = nn.Linear(spec.attention, spec.attention, bias=False)
        self._first = nn.Linear(spec.attention, spec.message)
        self._second = nn.Linear(spec.message, spec.message)
        self._group_hidden = nn.Linear(options.trajectory * seen, spec.hidden)
        self._group_out = nn.Linear(spec.hidden, options.groups)
        self.layers = {
            "embed_hidden": self._embed_hidden,
            "embed_out": self._embed_out,
            "pair": self._pair,
            "first_convolution": self._first,
            "second_convolution": self._second,
            "group_hidden": self._group_hidden,
            "group_out": self._group_out,
        }

    def begin(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        # The last L - 1 observations, oldest first, and how many of them there are.
        shape = (batch, self._options.trajectory - 1, self.num_agents, self.spec.observation_dim)
        return {"seen": like.new_zeros(shape), "known": like.new_zeros(batch)}

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        seen_TBND, alive_TBN = window.observations_TBND, window.alive_TBN
        x_TBNX = self._embed_out(torch.relu(self._embed_hidden(seen_TBND)))
        # [B, L - 1, N, D] -> [L - 1, B, N, D]
        history = torch.cat((carry.own["seen"].transpose(0, 1), seen_TBND))
        logits_TBNG = self._groups(history, len(seen_TBND))
        soft_TBNG = torch.softmax(logits_TBNG, dim=-1)
        hard_TBNG = torch.zeros_like(soft_TBNG)
        hard_TBNG.scatter_(-1, soft_TBNG.detach().argmax(-1, keepdim=True), 1.0)
        groups_TBNG = straight_through(soft_TBNG, hard_TBNG)
        steps_T = torch.arange(1, len(seen_TBND) + 1, device=seen_TBND.device)
        known_TB = carry.own["known"] + steps_T.unsqueeze(1)
        grouped_TB = known_TB >= self._options.trajectory
        edges_TBNN = self.edges(x_TBNX, groups_TBNG, grouped_TB, alive_TBN, rule)
        adjacency_TBNN = adjacency(edges_TBNN, alive_TBN)
        inner_TBNM = torch.tanh(self._first(adjacency_TBNN @ x_TBNX))
        messages_TBNM = torch.tanh(self._second(adjacency_TBNN @ inner_TBNM))
        # Everybody's embedding reaches everybody: that is what the attention costs.
        allowed_TBNK = alive_TBN.unsqueeze(-1) & at_receivers(alive_TBN, self.graph.offsets)
        gates_TBNK = allowed_TBNK.to(x_TBNX.dtype)
        last = history[len(history) - self._options.trajectory + 1 :]
        return Said.without_scores(
            (messages_TBNM, messages_TBNM[-1]),
            allowed_TBNK,
            gates_TBNK,
            own={"seen": last.transpose(0, 1), "known": known_TB[-1].to(x_TBNX.dtype)},
            of_loss={"groups": soft_TBNG, "grouped": grouped_TB, "alive": alive_TBN},
        )

    def _groups(self, history: Tensor, steps: int) -> Tensor:
        """[T, B, N, G] logits by the last L observations of each agent, oldest first."""
        by_lag = self._group_hidden.weight.chunk(self._options.trajectory, dim=1)
        hidden = self._group_hidden.bias
        for lag, weight in enumerate(by_lag):
            hidden = hidden + functional.linear(history[lag : lag + steps], weight)
        return self._group_out(torch.relu(hidden))

    def edges(
        self,
        x_TBNX: Tensor,
        groups_TBNG: Tensor,
        grouped_TB: Tensor,
        alive_TBN: Tensor,
        rule: GateRule,
    ) -> Tensor:
        """[T, B, N, N] of agent i (row) to j."""
        pairs_TBNN = self._pair(x_TBNX) @ x_TBNX.transpose(-1, -2)
        pairs_TBNN = pairs_TBNN.masked_fill(~alive_TBN.unsqueeze(-2), _NOBODY)
        mean_TBNN = torch.softmax(pairs_TBNN, dim=-1)
        if rule.noise is None or self._options.spread == 0.0:
            return mean_TBNN
        own_TBNN = _normal(mean_TBNN, rule)
        of_groups_TBNG = _normal(groups_TBNG, rule)
        together_TBNN = of_groups_TBNG @ groups_TBNG.transpose(-1, -2) + _SMALL**0.5 * own_TBNN
        noise_TBNN = torch.where(grouped_TB[..., None, None], together_TBNN, own_TBNN)
        if rule.noisy_B is not None:
            noise_TBNN = noise_TBNN * rule.noisy_B[None, :, None, None]
        return mean_TBNN + self._options.spread * noise_TBNN

    def own_loss(self, said: Said, q_TBNA: Tensor) -> Tensor | None:
        """[T, B] the group distance: how far apart the values of agents of one group are, over how
        far apart those of different groups are. Small where a group agrees and groups differ.
        """
        if self._options.group_loss == 0.0:
            return None
        groups_TBNG, alive_TBN = said.of_loss["groups"], said.of_loss["alive"]
        pairs_TBNN = (alive_TBN.unsqueeze(-1) & alive_TBN.unsqueeze(-2)).to(q_TBNA.dtype)
        pairs_TBNN = pairs_TBNN * (1.0 - torch.eye(self.num_agents, device=q_TBNA.device))
        same_TBNN = groups_TBNG @ groups_TBNG.transpose(-1, -2)
        apart_TBNN = torch.cdist(q_TBNA, q_TBNA)

        def mean(weights_TBNN: Tensor) -> Tensor:
            total_TB = (weights_TBNN * apart_TBNN).sum((-1, -2))
            return total_TB / (weights_TBNN.sum((-1, -2)) + _TINY)

        within_TB, between_TB = mean(pairs_TBNN * same_TBNN), mean(pairs_TBNN * (1.0 - same_TBNN))
        ratio_TB = within_TB / (between_TB + _TINY)
        counts_TB = said.of_loss["grouped"] & (pairs_TBNN.sum((-1, -2)) > 0.0)
        return self._options.group_loss * torch.where(counts_TB, ratio_TB, 0.0)


def adjacency(edges_TBNN: Tensor, alive_TBN: Tensor) -> Tensor:
    """[T, B, N, N] weights with which an agent averages over itself and the living it is open to;
    rows add up to 1.
    """
    edges_TBNN = 0.5 * (edges_TBNN + edges_TBNN.transpose(-1, -2))
    pairs_TBNN = alive_TBN.unsqueeze(-1) & alive_TBN.unsqueeze(-2)
    low = edges_TBNN.masked_fill(~pairs_TBNN, torch.inf).amin((-1, -2), keepdim=True)
    high = edges_TBNN.masked_fill(~pairs_TBNN, -torch.inf).amax((-1, -2), keepdim=True)
    somebody = pairs_TBNN.any(-1).any(-1)[..., None, None]
    low, high = torch.where(somebody, low, 0.0), torch.where(somebody, high, 1.0)
    weights_TBNN = (edges_TBNN - low) / (high - low + _TINY)
    weights_TBNN = weights_TBNN * ((weights_TBNN.detach() > _THRESHOLD) & pairs_TBNN)
    oneself = torch.eye(alive_TBN.shape[-1], dtype=torch.bool, device=alive_TBN.device)
    weights_TBNN = torch.where(oneself, 1.0, weights_TBNN)
    return weights_TBNN / weights_TBNN.sum(-1, keepdim=True)


def _normal(like_TBXX: Tensor, rule: GateRule) -> Tensor:
    """Normal noise in the shape of `like_TBXX`, drawn for the batch of which it is some rows."""
    shape = list(like_TBXX.shape)
    if rule.rows is not None:
        shape[1] = rule.rows.of
    noise = torch.randn(shape, generator=rule.noise, device=like_TBXX.device, dtype=like_TBXX.dtype)
    return noise if rule.rows is None else noise[:, rule.rows.slice]
