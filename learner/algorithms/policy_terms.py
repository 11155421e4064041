"""What goes with any algorithm's loss, for the policy's sake.

    + alpha * auxiliary (equation 8 of SOPS; learner/auxiliary.py)
    + price * open edges (learner/price.py)
    + coef * distance to the teacher's actions (learner/opponents/teacher.py)
    + what the scheme itself asks for (learner/comm/base.py, own_loss)

Dimension key: T = time, B = batch, N = agents, K = offsets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from configs.algorithms.described import traits_of
from configs.schema import RunConfig
from learner.auxiliary import StatePredictor
from learner.comm.gates import GateRule, deployed
from learner.comm.unroll import UnrollOutput
from learner.experience.episode import Episode
from learner.experience.part import Divisors, Part
from learner.opponents.teacher import EXAMPLE, Teacher
from learner.price import open_edges
from learner.schedules import Schedules


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """A part's share of a loss, and what it adds to the metrics."""

    total: Tensor
    """[] with the gradient."""
    sums: dict[str, Tensor]
    """[] each: by metric, as sums over the parts."""

    def __add__(self, other: "Loss") -> "Loss":
        return Loss(self.total + other.total, self.sums | other.sums)


class PolicyTerms:
    """These terms of a run.

    Args:
        auxiliary: the network of `learner.aux`; None: there is none.
        device: of the teacher.
    """

    def __init__(
        self,
        run: RunConfig,
        schedules: Schedules,
        auxiliary: nn.Module | None,
        device: torch.device,
    ) -> None:
        self._run = run
        self._config = run.learner
        self._schedules = schedules
        self._auxiliary = auxiliary
        self._teacher: Teacher | None = None
        if self._config.teacher:
            says_logits = traits_of(self._config).acting in ("sample", "guided")
            margin = None if says_logits else self._config.teacher_margin
            self._teacher = Teacher(self._config.teacher, margin, device)

    def annotated(self, episode: Episode) -> Episode:
        """An episode with what these terms need of it and what no update changes."""
        return episode if self._teacher is None else self._teacher.annotated(episode)

    def __call__(
        self, online: UnrollOutput, part: Part, divisors: Divisors, rule: GateRule
    ) -> Loss:
        living = divisors.agent_steps
        aux = self._auxiliary_loss(part, online, living)
        taught = self._taught(part, online, living)
        charge = self._charge(part, online, rule) / living
        allowed = online.allowed_TBNK[:-1] & part.outcome.filled_TB[..., None, None]
        terms = Loss(
            self._config.aux_coef * aux + self._schedules.factor("teacher_coef") * taught + charge,
            {
                "aux_loss": aux,
                "teacher_loss": taught,
                "edge_charge": charge,
                "edges_open": (online.gates_TBNK[:-1] * allowed).sum(),
                "edges_deployed": (self._deployed(online, rule)[:-1] & allowed).sum(),
                "edges_allowed": allowed.sum(),
            },
        )
        if online.own_loss_TB is None:
            return terms
        own = torch.where(part.learns_TB, online.own_loss_TB[:-1], 0.0).sum() / divisors.steps
        return terms + Loss(own, {"scheme_loss": own})

    def _deployed(self, online: UnrollOutput, rule: GateRule) -> Tensor:
        """[T + 1, B, N, K] bool: edges that would be open without noise."""
        if rule.mode != "learned":
            return online.gates_TBNK > 0.0
        return deployed(online.scores_TBNK, online.allowed_TBNK, self._run.gate.budget)

    def _charge(self, part: Part, online: UnrollOutput, rule: GateRule) -> Tensor:
        """[] what the agents' open edges cost at this point of the training, in scaled reward."""
        if self._schedules.price == 0.0 or rule.mode != "learned":
            return online.q_TBNA.new_zeros(())
        counts = online.allowed_TBNK[:-1] & part.agent_mask_TBN.unsqueeze(-1)
        charge = self._schedules.factor("charge")
        return charge * open_edges(online.scores_TBNK[:-1], online.gates_TBNK[:-1], counts)

    def _auxiliary_loss(self, part: Part, online: UnrollOutput, living: Tensor) -> Tensor:
        """[] equation 8, or the contrast that takes its place."""
        auxiliary, messages_TBNM = self._auxiliary, online.messages_TBNM[:-1]
        if auxiliary is None:
            return living.new_zeros(())
        if isinstance(auxiliary, StatePredictor):
            errors_TBN = auxiliary(messages_TBNM, part.states[:-1], part.agent_mask_TBN)
            part.charge(errors_TBN, living, self._config.aux_coef)
            return errors_TBN.sum() / living
        total, number = auxiliary(messages_TBNM, part.agent_mask_TBN, part.generator)
        # How many steps have negatives is known only now; weigh parts by the agent-steps they hold.
        return total / number.clamp(min=1) * (part.agent_mask_TBN.sum() / living)

    def _taught(self, part: Part, online: UnrollOutput, living: Tensor) -> Tensor:
        """[] how far the policy is from the teacher's actions."""
        if self._teacher is None or self._schedules.teacher_coef == 0.0:
            return living.new_zeros(())
        example_TBN, mask_TBN = part.columns[EXAMPLE.name], part.agent_mask_TBN
        gaps_TBN = self._teacher.losses(online.q_TBNA[:-1], example_TBN, mask_TBN)
        part.charge(gaps_TBN, living, self._schedules.factor("teacher_coef"))
        return gaps_TBN.sum() / living
