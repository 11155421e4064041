"""The loss of a part of a batch, and the numbers that tell how it was made up.

    unroll (online, target) -> TD targets -> TD error -> loss

    loss = TD (equation 9; IQL: per agent) + alpha * auxiliary (equation 8) + price * open edges
           [+ TD of the central critic (learner/mixers/wqmix.py)]
           [+ lambda * distance to the return (learner/mixers/res.py)]
           [- the policy's value (learner/facmac.py)]
           [+ coef * distance to the teacher's actions (learner/opponents/teacher.py)]

Equations are those of SOPS. Losses of the parts add up to that of the batch: their divisors are
given.

Dimension key: T = time, B = batch, N = agents, A = actions, K = offsets.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from configs.schema import RunConfig
from learner.auxiliary import StatePredictor
from learner.comm.gates import GateRule, deployed
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from learner.experience.part import Part
from learner.facmac import gumbel_one_hot, policy_value
from learner.mixers import QMixer
from learner.mixers.res import Values, softmax_values
from learner.mixers.wqmix import optimistic_weights
from learner.modules import Modules
from learner.opponents.teacher import Teacher
from learner.price import open_edges
from learner.schedules import Schedules
from learner.targets import individual_targets, living_only, next_values, td_loss, team_targets


class TrainingLoss(nn.Module):
    """The loss as a module that holds what is trained: DistributedDataParallel wraps no less.

    Args:
        modules: what is trained.
        target: what targets are computed with.
        teacher: whose actions are an example; None: nobody's.
    """

    def __init__(
        self,
        run: RunConfig,
        modules: Modules,
        target: Modules,
        schedules: Schedules,
        teacher: Teacher | None,
    ) -> None:
        super().__init__()
        self.online = nn.ModuleDict(modules.by_name())
        self._run = run
        self._config = run.learner
        self._trained = modules
        self._target = target
        self._schedules = schedules
        self._teacher = teacher

    def rule(self, noise: torch.Generator | None = None) -> GateRule:
        """How gates are decided at this point of the training."""
        return GateRule.of(self._run.comm, self._run.gate, self._schedules.temperature, noise)

    def forward(
        self, part: Part, count: Tensor, living: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What a part adds to the batch's loss.

        Args:
            count: [] steps (IQL: agent-steps) of the whole batch that count.
            living: [] agent-steps of the whole batch that count.

        Returns:
            [] its share of the loss; and what it adds to the metrics, as sums without a gradient.
        """
        noisy_B = part.noisy_episodes(self._run.gate.noise_share)
        target_q_TBNA = self._target_q(part)
        rule = replace(self.rule(part.generator), noisy_B=noisy_B, rows=part.rows)
        online = unroll(self._trained.policy, UnrollInput(part.observations, part.alive), rule)

        chosen_TBN = self._chosen(online, part)
        with torch.no_grad():
            targets = self._targets(online.q_TBNA[1:], target_q_TBNA[1:], part)
        values, mask = chosen_TBN, part.agent_mask_TBN
        if self._trained.mixer is not None:
            living_TBN = living_only(chosen_TBN, part.outcome.alive_TBN[:-1])
            values, mask = self._trained.mixer(living_TBN, part.states[:-1]), part.learns_TB
        # where() and not a product: a masked NaN would stay a NaN.
        td_error = torch.where(mask, values - targets, 0.0)
        weights = None
        if self._trained.central is not None:
            weights = optimistic_weights(td_error, self._config.wqmix_alpha)
        loss = td_loss(td_error, self._config.huber, weights) / count
        extra = {
            name: total / count
            for name, total in self._extra(part, online, values, targets).items()
        }
        aux = self._auxiliary_loss(part, online, living)
        taught = self._taught(part, online, living)
        charge = self._charge(part, online) / living
        total_loss = loss + sum(extra.values()) + self._config.aux_coef * aux
        total_loss = total_loss + self._schedules.teacher_coef * taught + charge

        allowed = online.allowed_TBNK[:-1] & part.outcome.filled_TB[..., None, None]
        sums = {
            "loss": loss,
            "td_error": td_error.abs().sum() / count,
            "q_mean": torch.where(part.agent_mask_TBN, chosen_TBN, 0.0).sum() / living,
            "target_mean": torch.where(mask, targets, 0.0).sum() / count,
            "aux_loss": aux,
            "teacher_loss": taught,
            "edge_charge": charge,
            "edges_open": (online.gates_TBNK[:-1] * allowed).sum(),
            "edges_deployed": self._deployed(online)[:-1][allowed].sum(),
            "edges_allowed": allowed.sum(),
            **extra,
        }
        if noisy_B is not None:
            clean = mask & ~noisy_B.view(1, -1, *[1] * (mask.ndim - 2))
            sums["deployed_squares"] = torch.where(clean, td_error, 0.0).square().sum()
            sums["deployed_steps"] = clean.sum()
        return total_loss, {name: value.detach() for name, value in sums.items()}

    # --- values and targets -----------------------------------------------------------------------

    def _chosen(self, online: UnrollOutput, part: Part) -> Tensor:
        """[T, B, N] value of what each agent did."""
        if self._trained.critic is not None:
            return self._trained.critic.of_actions(part.observations[:-1], part.actions)
        return online.q_TBNA[:-1].gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def _target_q(self, part: Part) -> Tensor:
        """[T + 1, B, N, A] by the targets."""
        if self._target.central is not None:
            # OW-QMIX asks nothing of the policy's own target, nor of its mixer's.
            return self._target.central.agent(part.observations)
        # The target is the policy as it will be deployed, so its gates are the hard ones.
        window = UnrollInput(part.observations, part.alive)
        return unroll(self._target.policy, window, self.rule()).q_TBNA

    def _targets(self, online_q_TBNA: Tensor, target_q_TBNA: Tensor, part: Part) -> Tensor:
        """[T, B] (IQL: [T, B, N]) from q of the next steps."""
        outcome, gamma = part.outcome, self._config.gamma
        td_lambda, n_step = 0.0, 1
        if self._schedules.looks_ahead:
            td_lambda, n_step = self._config.td_lambda, self._config.n_step
        if self._target.critic is not None:
            greedy_TBN = target_q_TBNA.argmax(-1)
            next_TBN = self._target.critic.of_actions(part.observations[1:], greedy_TBN)
        else:
            next_TBN = next_values(online_q_TBNA, target_q_TBNA, self._config)
        if self._target.mixer is None:
            return individual_targets(next_TBN, outcome, gamma, td_lambda, n_step)
        alive_TBN, states_TBS = outcome.alive_TBN[1:], part.states[1:]
        if self._config.algorithm == "res":
            assert isinstance(self._trained.mixer, QMixer)
            assert isinstance(self._target.mixer, QMixer)
            own_TBN = next_values(online_q_TBNA, online_q_TBNA, self._config)
            next_total_TB = softmax_values(
                Values(self._trained.mixer, online_q_TBNA, own_TBN),
                Values(self._target.mixer, target_q_TBNA, next_TBN),
                states_TBS,
                alive_TBN,
                self._config.res_beta,
            )
        else:
            central = self._target.central
            mixer = self._target.mixer if central is None else central.mixer
            next_total_TB = mixer(living_only(next_TBN, alive_TBN), states_TBS)
        return team_targets(next_total_TB, outcome, gamma, td_lambda, n_step)

    # --- what is added to the TD loss ---------------------------------------------------------

    def _deployed(self, online: UnrollOutput) -> Tensor:
        """[T + 1, B, N, K] bool: edges that would be open without noise."""
        if self.rule().mode != "learned":
            return online.gates_TBNK > 0.0
        return deployed(online.scores_TBNK, online.allowed_TBNK, self._run.gate.budget)

    def _charge(self, part: Part, online: UnrollOutput) -> Tensor:
        """[] what the agents' open edges cost at this point of the training, in scaled reward."""
        price = self._schedules.price * self._config.reward_scale
        if price == 0.0 or self.rule().mode != "learned":
            return online.q_TBNA.new_zeros(())
        counts = online.allowed_TBNK[:-1] & part.agent_mask_TBN.unsqueeze(-1)
        return price * open_edges(online.scores_TBNK[:-1], online.gates_TBNK[:-1], counts)

    def _extra(
        self, part: Part, online: UnrollOutput, q_tot_TB: Tensor, targets_TB: Tensor
    ) -> dict[str, Tensor]:
        """Sums over the part of the losses that some algorithms add to the TD loss, by metric."""
        extra: dict[str, Tensor] = {}
        if self._trained.central is not None:
            q_TBNA = self._trained.central.agent(part.observations[:-1])
            chosen_TBN = q_TBNA.gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
            living_TBN = living_only(chosen_TBN, part.outcome.alive_TBN[:-1])
            errors_TB = self._trained.central.mixer(living_TBN, part.states[:-1]) - targets_TB
            masked_TB = torch.where(part.learns_TB, errors_TB, 0.0)
            extra["central_loss"] = td_loss(masked_TB, self._config.huber)
        if part.returns_TB is not None:
            distance_TB = torch.where(part.learns_TB, q_tot_TB - part.returns_TB, 0.0)
            extra["return_loss"] = self._config.res_lambda * distance_TB.square().sum()
        if self._trained.critic is not None:
            assert isinstance(self._trained.mixer, QMixer)
            value_TB = policy_value(
                self._trained.critic,
                self._trained.mixer,
                part.observations[:-1],
                gumbel_one_hot(online.q_TBNA[:-1], part.generator, part.rows),
                part.outcome.alive_TBN[:-1],
                part.states[:-1],
            )
            extra["actor_loss"] = -torch.where(part.learns_TB, value_TB, 0.0).sum()
        return extra

    def _auxiliary_loss(self, part: Part, online: UnrollOutput, living: Tensor) -> Tensor:
        """[] equation 8, or the contrast that takes its place."""
        auxiliary, messages_TBNM = self._trained.auxiliary, online.messages_TBNM[:-1]
        if auxiliary is None:
            return living.new_zeros(())
        if isinstance(auxiliary, StatePredictor):
            total, _ = auxiliary(messages_TBNM, part.states[:-1], part.agent_mask_TBN)
            return total / living
        total, number = auxiliary(messages_TBNM, part.agent_mask_TBN, part.generator)
        # How many steps have negatives is known only now; weigh parts by the agent-steps they hold.
        return total / number.clamp(min=1) * (part.agent_mask_TBN.sum() / living)

    def _taught(self, part: Part, online: UnrollOutput, living: Tensor) -> Tensor:
        """[] how far the policy is from the teacher's actions."""
        if self._teacher is None or self._schedules.teacher_coef == 0.0:
            return living.new_zeros(())
        seen_TBND, mask_TBN = part.observations[:-1], part.agent_mask_TBN
        return self._teacher.loss(online.q_TBNA[:-1], seen_TBND, mask_TBN) / living
