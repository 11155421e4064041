"""Auxiliary losses that ground messages; thrown away after training (SOPS, section 4.3).

    predict   message -> MLP -> state, squared error                                 (equation 6)
    contrast  messages of one step attract, those of far-away steps repel (InfoNCE)  (equation 7)

The reference ExpoComm code computes equation 7 with positive · negative where the equation has
anchor · negative, and without a projection; ours follows the equation.

Both return a sum and its count, so that a batch can be worked off in parts.

Dimension key: T = time, B = batch, N = agents, S = state, M = message, C = negatives.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.found import scheme_of
from agents.policy import PolicySpec
from configs.schema import LearnerConfig
from learner.experience.episode import Dimensions

_HIDDEN = 64
"""Units of the predictor's hidden layer, as in the reference code."""


class _Draw(Protocol):
    """Uniform numbers in [0, 1) of a shape."""

    def __call__(self, *shape: int) -> Tensor: ...


class StatePredictor(nn.Module):
    """Recovers the global state from one agent's message."""

    def __init__(self, message: int, state_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(message, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, state_dim)
        )

    def forward(self, messages_TBNM: Tensor, states_TBS: Tensor, mask_TBN: Tensor) -> Tensor:
        """[T, B, N] error of each agent's step, a mean over the state; 0 outside the mask.

        Equation 6 draws one agent per step; the mean over all of them has the same expectation and
        less variance.
        """
        error_TBNS = self.mlp(messages_TBNM) - states_TBS.unsqueeze(2)
        return error_TBNS.square().mean(-1) * mask_TBN


class MessageContrast(nn.Module):
    """InfoNCE over messages with a learned projection g onto the unit sphere.

    Args:
        message: numbers M in a message.
        negatives: C for each positive.
        temperature: kappa.
        diameter: of the backbone; messages up to so many steps apart may share their origin and
            are no negatives.
    """

    def __init__(self, message: int, *, negatives: int, temperature: float, diameter: int) -> None:
        super().__init__()
        self.projection = nn.Linear(message, message)
        self._negatives = negatives
        self._temperature = temperature
        self._diameter = diameter

    def forward(
        self, messages_TBNM: Tensor, mask_TBN: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sum over steps of the loss of one random pair of agents; and the number of such steps.

        A step counts if at least two agents speak and the episode has steps further away than the
        diameter; negatives come from any agent in those.
        """
        time, batch, agents = mask_TBN.shape
        device = mask_TBN.device

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        # Speakers of each step in random order: the first two are anchor and positive.
        order_TBN = (mask_TBN + draw(time, batch, agents)).argsort(-1, descending=True)
        speakers_TB = mask_TBN.sum(-1)
        steps_TB = torch.arange(time, device=device).unsqueeze(1).expand(time, batch)
        rows_TB = torch.arange(batch, device=device).expand(time, batch)
        anchor = functional.normalize(
            self.projection(messages_TBNM[steps_TB, rows_TB, order_TBN[..., 0]]), dim=-1
        )
        positive = functional.normalize(
            self.projection(messages_TBNM[steps_TB, rows_TB, order_TBN[..., 1]]), dim=-1
        )

        then_TBC, exists_TB = self._far_steps(speakers_TB > 0, draw)
        rows_TBC = rows_TB.unsqueeze(-1).expand_as(then_TBC)
        crowd_TBC = speakers_TB[then_TBC, rows_TBC]
        place_TBC = (draw(*then_TBC.shape) * crowd_TBC).long().clamp(max=agents - 1)
        who_TBC = order_TBN[then_TBC, rows_TBC, place_TBC]
        negatives = functional.normalize(
            self.projection(messages_TBNM[then_TBC, rows_TBC, who_TBC]), dim=-1
        )

        alike_TB1 = (anchor * positive).sum(-1, keepdim=True)
        unlike_TBC = (anchor.unsqueeze(2) * negatives).sum(-1)
        logits = torch.cat((alike_TB1, unlike_TBC), dim=-1) / self._temperature
        loss_TB = -functional.log_softmax(logits, dim=-1)[..., 0]
        counts_TB = exists_TB & (speakers_TB >= 2)
        return (loss_TB * counts_TB).sum(), counts_TB.sum()

    def _far_steps(self, spoken_TB: Tensor, draw: _Draw) -> tuple[Tensor, Tensor]:
        """[T, B, C] random steps at least diameter + 1 away in which somebody speaks, and
        [T, B] whether there are any (where not, the steps mean nothing)."""
        time, _ = spoken_TB.shape
        device = spoken_TB.device
        # Steps that speak are ranked 0..R-1; those before t - diameter and after t + diameter are
        # the first `early` and the last `late` of them.
        upto_TB = functional.pad(spoken_TB.long().cumsum(0), (0, 0, 1, 0))
        t = torch.arange(time, device=device)
        early_TB = upto_TB[(t - self._diameter).clamp(min=0)]
        total_B = upto_TB[-1]
        late_TB = total_B - upto_TB[(t + self._diameter + 1).clamp(max=time)]
        far_TB = early_TB + late_TB
        pick_TBC = (draw(*far_TB.shape, self._negatives) * far_TB.unsqueeze(-1)).long()
        pick_TBC = pick_TBC.minimum((far_TB - 1).clamp(min=0).unsqueeze(-1))
        skipped_TB1 = (total_B - far_TB).unsqueeze(-1)
        rank_TBC = torch.where(pick_TBC < early_TB.unsqueeze(-1), pick_TBC, pick_TBC + skipped_TB1)
        # Stable: steps that speak first, in order of time.
        by_rank_TB = (~spoken_TB).long().argsort(dim=0, stable=True)
        rows_TBC = torch.arange(far_TB.shape[1], device=device)[None, :, None]
        rank_TBC = rank_TBC.clamp(max=time - 1)
        return by_rank_TB[rank_TBC, rows_TBC.expand_as(rank_TBC)], far_TB > 0


def make_auxiliary(
    config: LearnerConfig, spec: PolicySpec, dimensions: Dimensions
) -> StatePredictor | MessageContrast | None:
    """The network that `learner.aux` asks for."""
    graph = scheme_of(spec.scheme).graph(dimensions.num_agents, spec.scheme_opts())
    match config.aux:
        case "none":
            return None
        case "predict":
            return StatePredictor(spec.message, dimensions.state_dim)
        case "contrast":
            return MessageContrast(
                spec.message,
                negatives=config.aux_negatives,
                temperature=config.aux_temperature,
                diameter=graph.diameter,
            )
