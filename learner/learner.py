"""The learner without its process: episodes in, gradient steps, parameters out.

    Episode -> replay -> windows -> unroll (online, target) -> TD targets -> loss -> Adam -> policy

    loss = TD (equation 9; IQL: per agent) + alpha * auxiliary (equation 8) + price * open edges

No socket, clock or process; `learner.process` is the shell. A batch is worked off in parts of
bounded size whose gradients add up to that of the whole, so that memory does not grow with it.

Dimension key: T = time, B = batch, N = agents, A = actions, K = offsets.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.backbone import diameter
from agents.policy import FloatArray, PolicySpec
from configs.schema import RunConfig
from learner.auxiliary import MessageContrast, StatePredictor
from learner.episode import Dimensions, Episode
from learner.gates import GateRule, deployed
from learner.mixers import Mixer, make_mixer
from learner.network import PolicyNetwork
from learner.price import EdgePrice, open_edges
from learner.replay import Replay, WindowBatch
from learner.targets import (
    Outcome,
    individual_targets,
    living_only,
    next_values,
    td_loss,
    team_targets,
)
from learner.teacher import Teacher
from learner.unroll import UnrollInput, UnrollOutput, unroll
from runtime.schedule import linear

AGENT_STEPS_PER_PART = {"cpu": 330_000, "cuda": 4_000_000}
"""Largest T × B × N unrolled at once. On a CPU 16 episodes of Battle with 100 agents: calls cost
less in larger parts, and all 32 at once would take 5 GB."""


@dataclass(slots=True)
class Progress:
    """Counters that outlive a process."""

    env_steps: int = 0
    """Training steps of all copies, as far as the learner has heard of them."""
    episodes: int = 0
    gradient_steps: int = 0
    skipped_steps: int = 0
    """Gradient steps not taken because the loss or the gradient was not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of a batch, on the device."""

    observations: Tensor
    actions: Tensor
    states: Tensor
    alive: Tensor
    outcome: Outcome
    learns_TB: Tensor
    """bool: steps that count in the loss: played, and past the burn-in."""
    agent_mask_TBN: Tensor
    """bool: the same for each agent while it lives."""


class Learner:
    """Trains one policy.

    Args:
        config: of the run; `learner`, `gate`, `agents.dead` and `comm` matter here.
        spec: dimensions of the policy.
        dimensions: sizes of the task.
        flat: [P] parameters to begin with.
        device: where to train; "auto" has been resolved by then.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: PolicySpec,
        dimensions: Dimensions,
        flat: FloatArray,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config.learner
        self.spec = spec
        self.dimensions = dimensions
        self.device = torch.device(device)
        self.progress = Progress()
        self.replay = Replay(config.learner.replay_episodes)
        self._price = EdgePrice(config.gate)
        self.owed = 0.0
        """Gradient steps that the episodes so far ask for and that have not been taken."""
        self._run = config

        # Two independent streams: what is drawn from the replay must not depend on the gates'
        # noise.
        self.rng = np.random.default_rng([config.seed, 1])
        self.generator = torch.Generator(self.device)
        self.reseed()

        self.network = PolicyNetwork(spec, dimensions.num_agents)
        self.network.load_flat(flat)
        self.mixer = make_mixer(config.learner, dimensions.num_agents, dimensions.state_dim)
        self.auxiliary = self._make_auxiliary()
        self.teacher: Teacher | None = None
        if self.config.teacher:
            self.teacher = Teacher(self.config.teacher, self.config.teacher_margin, self.device)
        parts: dict[str, nn.Module] = {"policy": self.network}
        initial = torch.Generator().manual_seed(config.seed)
        for name, module in (("mixer", self.mixer), ("auxiliary", self.auxiliary)):
            if module is not None:
                initialise_linear_layers(module, initial)
                parts[name] = module
        self.online = nn.ModuleDict(parts).to(self.device)
        """Everything that is trained, by part: policy, mixer, auxiliary."""
        self.target_network = copy.deepcopy(self.network).requires_grad_(False)
        self.target_mixer: Mixer | None = None
        if self.mixer is not None:
            self.target_mixer = copy.deepcopy(self.mixer).requires_grad_(False)
        self.optimiser = torch.optim.Adam(
            self.online.parameters(),
            lr=self.config.learning_rate,
            # One call for all parameters; elsewhere torch's own choice is such a one.
            fused=True if self.device.type == "cpu" else None,
        )

    def _make_auxiliary(self) -> StatePredictor | MessageContrast | None:
        match self.config.aux:
            case "none":
                return None
            case "predict":
                return StatePredictor(self.spec.message, self.dimensions.state_dim)
            case "contrast":
                return MessageContrast(
                    self.spec.message,
                    negatives=self.config.aux_negatives,
                    temperature=self.config.aux_temperature,
                    diameter=diameter(self.dimensions.num_agents),
                )

    def reseed(self) -> None:
        """Start the gates' noise from the run's seed and the number of gradient steps."""
        mixed = np.random.SeedSequence([self._run.seed, self.progress.gradient_steps])
        self.generator.manual_seed(int(mixed.generate_state(1, np.uint64)[0] >> 1))

    # --- episodes ---------------------------------------------------------------------------------

    def add(self, episode: Episode) -> None:
        """Put an episode into the replay; once that holds enough, updates are owed for it."""
        self.replay.add(episode)
        self.progress.episodes += 1
        self.progress.env_steps = max(self.progress.env_steps, episode.env_steps)
        if len(self.replay) >= self.config.learning_starts:
            self.owed += self.config.updates_per_episode

    @property
    def updates_owed(self) -> int:
        """Whole gradient steps that can be taken now: none before the replay holds enough."""
        return int(self.owed) if len(self.replay) >= self.config.learning_starts else 0

    @property
    def temperature(self) -> float:
        """Of the gates' surrogate at this point of the training."""
        gate = self._run.gate
        anneal = linear(gate.temperature_start, gate.temperature_end, gate.temperature_steps)
        return anneal(self.progress.env_steps)

    @property
    def price(self) -> float:
        """Of an open edge at this point of the training."""
        return self._price.at(self.progress.env_steps)

    @property
    def learning_rate(self) -> float:
        """Step size at this point of the training."""
        first, last = self.config.learning_rate, self.config.learning_rate_end
        return linear(first, last or first, self._run.steps)(self.progress.env_steps)

    @property
    def teacher_coef(self) -> float:
        """Weight of the teacher's loss at this point of the training."""
        falls = linear(self.config.teacher_coef, 0.0, self.config.teacher_steps)
        return falls(self.progress.env_steps)

    def parameters_flat(self) -> FloatArray:
        """[P] what is to be published, a fresh vector."""
        return self.network.to_flat()

    # --- updates ----------------------------------------------------------------------------------

    def update(self) -> dict[str, float]:
        """Take one gradient step; returns its metrics.

        Raises:
            ValueError: the replay is empty.
        """
        metrics = self.compute_gradient()
        self.apply_gradient(metrics)
        return metrics

    def compute_gradient(self, between_parts: Callable[[], None] | None = None) -> dict[str, float]:
        """The slow half of an update. It may be interrupted: no parameter has changed yet.

        Args:
            between_parts: called before each part of the batch, so at least as often as
                AGENT_STEPS_PER_PART agent-steps take.
        """
        self.optimiser.zero_grad()
        batch = self.replay.sample(self.rng, self.config.batch_size, self.config.window)
        agent_steps = (len(batch.actions) + 1) * self.dimensions.num_agents
        rows = max(1, AGENT_STEPS_PER_PART[self.device.type] // agent_steps)
        parts = [self._load(part) for part in batch.split(rows)]
        # Divisors of the whole batch, known beforehand, so that the parts' losses add up to its
        # loss.
        count = torch.stack([self._count(part) for part in parts]).sum().clamp(min=1)
        living = torch.stack([part.agent_mask_TBN.sum() for part in parts]).sum().clamp(min=1)
        totals: dict[str, Tensor] = {}
        for part in parts:
            if between_parts is not None:
                between_parts()
            self._accumulate(part, count, living, totals)
        return _finish(totals)

    def apply_gradient(self, metrics: dict[str, float]) -> None:
        """The fast half: clip, step, and now and then a new target. Must not be interrupted."""
        self.owed = max(self.owed - 1.0, 0.0)
        norm = nn.utils.clip_grad_norm_(
            self.online.parameters(), self.config.grad_clip, foreach=True
        )
        metrics["grad_norm"] = float(norm)
        metrics["temperature"] = self.temperature
        metrics["learning_rate"] = self.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        metrics["gate_price"] = self.price
        if np.isfinite(metrics.get("deployed_loss", np.nan)):
            self._price.hear(metrics["deployed_loss"])
        # One broken batch must not turn the parameters into NaN for good.
        if np.isfinite(metrics["grad_norm"]) and np.isfinite(metrics["loss"]):
            self.optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        else:
            self.progress.skipped_steps += 1
        self.progress.gradient_steps += 1
        if self.progress.gradient_steps % self.config.target_update_period == 0:
            self.copy_target()

    def copy_target(self) -> None:
        """Move the target network (and mixer) to the online one, or towards it."""
        pairs: list[tuple[nn.Module, nn.Module]] = [(self.target_network, self.network)]
        if self.mixer is not None and self.target_mixer is not None:
            pairs.append((self.target_mixer, self.mixer))
        with torch.no_grad():
            for target, online in pairs:
                for kept, fresh in zip(target.parameters(), online.parameters(), strict=True):
                    kept.lerp_(fresh, self.config.target_rate)

    def _load(self, batch: WindowBatch) -> _Part:
        """Move a part to the device and work out what counts."""

        def tensor(array: NDArray[Any]) -> Tensor:
            contiguous = np.ascontiguousarray(array)
            return torch.from_numpy(contiguous).to(self.device)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch

        outcome = Outcome.of(
            self.config,
            rewards_TBN=tensor(batch.rewards),
            alive_TBN=tensor(batch.alive),
            filled_TB=tensor(batch.filled),
            terminated_TB=tensor(batch.terminated),
            truncated_TB=tensor(batch.truncated),
        )
        # A window that begins with its episode starts from the true state: nothing to warm up, and
        # without its first steps nobody would ever learn how to begin.
        warming = np.arange(len(batch.actions))[:, None] < self.config.burn_in
        learns_TB = outcome.filled_TB & ~tensor(warming & (batch.starts > 0))
        alive = tensor(batch.alive)
        return _Part(
            observations=tensor(batch.observations).float(),
            actions=tensor(batch.actions),
            states=tensor(batch.states),
            alive=torch.ones_like(alive) if self._run.agents.dead == "relay" else alive,
            outcome=outcome,
            learns_TB=learns_TB,
            agent_mask_TBN=outcome.agent_mask_TBN & learns_TB.unsqueeze(-1),
        )

    def _count(self, part: _Part) -> Tensor:
        return (part.agent_mask_TBN if self.mixer is None else part.learns_TB).sum()

    def _rule(self, noise: torch.Generator | None, noisy_B: Tensor | None = None) -> GateRule:
        return GateRule.of(self._run.comm, self._run.gate, self.temperature, noise, noisy_B)

    def _noisy_episodes(self, batch: int) -> Tensor | None:
        """[B] bool: episodes whose gates get noise; None: all."""
        share = self._run.gate.noise_share
        if share == 1.0:
            return None
        return torch.rand(batch, generator=self.generator, device=self.device) < share

    def _accumulate(
        self, part: _Part, count: Tensor, living: Tensor, totals: dict[str, Tensor]
    ) -> None:
        """Add one part's gradient to the parameters' and its numbers to the totals."""
        window = UnrollInput(part.observations, part.alive)
        noisy_B = self._noisy_episodes(part.alive.shape[1])
        with torch.no_grad():
            # The target is the policy as it will be deployed, so its gates are the hard ones.
            target = unroll(self.target_network, window, self._rule(None))
        online = unroll(self.network, window, self._rule(self.generator, noisy_B))

        chosen_TBN = online.q_TBNA[:-1].gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            next_TBN = next_values(
                online.q_TBNA[1:], target.q_TBNA[1:], double_q=self.config.double_q
            )
            td_targets = self._targets(next_TBN, part)
        if self.mixer is None:
            values, mask = chosen_TBN, part.agent_mask_TBN
        else:
            living_TBN = living_only(chosen_TBN, part.outcome.alive_TBN[:-1])
            values, mask = self.mixer(living_TBN, part.states[:-1]), part.learns_TB
        # where() and not a product: a masked NaN would stay a NaN.
        td_error = torch.where(mask, values - td_targets, 0.0)
        loss = td_loss(td_error, self.config.huber) / count
        total_loss, aux = loss, torch.zeros_like(loss)
        if self.auxiliary is not None:
            aux = self._auxiliary_loss(self.auxiliary, part, online, living)
            total_loss = loss + self.config.aux_coef * aux
        taught = torch.zeros_like(loss)
        if self.teacher is not None and self.teacher_coef > 0.0:
            seen_TBND, mask_TBN = part.observations[:-1], part.agent_mask_TBN
            taught = self.teacher.loss(online.q_TBNA[:-1], seen_TBND, mask_TBN) / living
            total_loss = total_loss + self.teacher_coef * taught
        charge = self._charge(part, online) / living
        total_loss = total_loss + charge
        torch.autograd.backward(total_loss)

        allowed = online.allowed_TBNK[:-1] & part.outcome.filled_TB[..., None, None]
        sums = {
            "loss": loss,
            "td_error": td_error.abs().sum() / count,
            "q_mean": torch.where(part.agent_mask_TBN, chosen_TBN, 0.0).sum() / living,
            "target_mean": torch.where(mask, td_targets, 0.0).sum() / count,
            "aux_loss": aux,
            "teacher_loss": taught,
            "edge_charge": charge,
            "edges_open": (online.gates_TBNK[:-1] * allowed).sum(),
            "edges_deployed": self._deployed(online)[:-1][allowed].sum(),
            "edges_allowed": allowed.sum(),
        }
        if noisy_B is not None:
            clean = mask & ~noisy_B.view(1, -1, *[1] * (mask.ndim - 2))
            sums["deployed_squares"] = torch.where(clean, td_error, 0.0).square().sum()
            sums["deployed_steps"] = clean.sum()
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value.detach()

    def _deployed(self, online: UnrollOutput) -> Tensor:
        """[T + 1, B, N, K] bool: edges that would be open without noise."""
        if self._rule(None).mode != "learned":
            return online.gates_TBNK > 0.0
        return deployed(online.scores_TBNK, online.allowed_TBNK, self._run.gate.budget)

    def _charge(self, part: _Part, online: UnrollOutput) -> Tensor:
        """[] what the agents' open edges cost at this point of the training, in scaled reward."""
        price = self.price * self.config.reward_scale
        if price == 0.0 or self._rule(None).mode != "learned":
            return online.q_TBNA.new_zeros(())
        counts = online.allowed_TBNK[:-1] & part.agent_mask_TBN.unsqueeze(-1)
        return price * open_edges(online.scores_TBNK[:-1], online.gates_TBNK[:-1], counts)

    def _targets(self, next_TBN: Tensor, part: _Part) -> Tensor:
        outcome, gamma = part.outcome, self.config.gamma
        if self.target_mixer is None:
            return individual_targets(next_TBN, outcome, gamma, self.config.td_lambda)
        living_TBN = living_only(next_TBN, outcome.alive_TBN[1:])
        next_total_TB = self.target_mixer(living_TBN, part.states[1:])
        return team_targets(next_total_TB, outcome, gamma, self.config.td_lambda)

    def _auxiliary_loss(
        self,
        auxiliary: StatePredictor | MessageContrast,
        part: _Part,
        online: UnrollOutput,
        living: Tensor,
    ) -> Tensor:
        messages_TBNM = online.messages_TBNM[:-1]
        if isinstance(auxiliary, StatePredictor):
            total, _ = auxiliary(messages_TBNM, part.states[:-1], part.agent_mask_TBN)
            return total / living
        total, number = auxiliary(messages_TBNM, part.agent_mask_TBN, self.generator)
        # How many steps have negatives is known only now; weigh parts by the agent-steps they hold.
        return total / number.clamp(min=1) * (part.agent_mask_TBN.sum() / living)


def _finish(totals: dict[str, Tensor]) -> dict[str, float]:
    """Sums over parts -> metrics, with one transfer from the device."""
    numbers = torch.stack([x.float() for x in totals.values()]).cpu().numpy()
    metrics = {name: float(x) for name, x in zip(totals, numbers, strict=True)}
    allowed = max(metrics.pop("edges_allowed"), 1.0)
    metrics["open_fraction"] = metrics.pop("edges_open") / allowed
    metrics["open_share"] = metrics.pop("edges_deployed") / allowed
    squares, steps = metrics.pop("deployed_squares", 0.0), metrics.pop("deployed_steps", 0.0)
    if steps > 0.0:
        metrics["deployed_loss"] = squares / steps
    return metrics


@torch.no_grad()
def initialise_linear_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every linear layer anew from U(±1/sqrt(fan_in)), torch's default, but from our own
    stream.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
