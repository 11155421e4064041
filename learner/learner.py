"""The learner without its process: episodes in, gradient steps, parameters out.

    Episode -> replay -> windows -> unroll (online, target) -> TD targets -> loss -> Adam -> policy
                                                         masks, topology (learner/sparse/) ─┘

    loss = TD (equation 9; IQL: per agent) + alpha * auxiliary (equation 8) + price * open edges
           [+ TD of the central critic (learner/mixers/wqmix.py)]
           [+ lambda * distance to the return (learner/mixers/res.py)]
           [- the policy's value (learner/facmac.py)]

No socket, clock or process; `learner.process` is the shell. A batch is worked off in parts of
bounded size whose gradients add up to that of the whole, so that memory does not grow with it.
Several processes may share each part (learner/ranks.py): each has the same parameters, computes
with its rows, and takes the same step.

Dimension key: T = time, B = batch, N = agents, A = actions, K = offsets.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from agents.backbone import diameter
from agents.policy import FloatArray, PolicySpec
from configs.schema import RunConfig
from learner.auxiliary import MessageContrast, StatePredictor
from learner.central import CentralCritic, make_central
from learner.dual_replay import make_replay
from learner.dynamic_replay import WITNESSES, forget, policy_distance
from learner.episode import Dimensions, Episode
from learner.facmac import Critic, gumbel_one_hot, policy_value
from learner.gates import GateRule, deployed
from learner.mixers import Mixer, QMixer, make_mixer
from learner.mixers.res import Values, softmax_values
from learner.mixers.wqmix import optimistic_weights
from learner.network import PolicyNetwork
from learner.price import EdgePrice, open_edges
from learner.ranks import Order, Ranks, Share, shared_out
from learner.replay import Discounting, Rows, WindowBatch
from learner.sparse.topology import Topology
from learner.targets import (
    Outcome,
    individual_targets,
    living_only,
    next_values,
    returns_to_go,
    td_loss,
    team_targets,
)
from learner.teacher import Teacher
from learner.unroll import UnrollInput, UnrollOutput, unroll
from runtime.schedule import linear

AGENT_STEPS_PER_PART = {"cpu": 330_000, "cuda": 4_000_000}
"""Largest T × B × N of a part. On a CPU 16 episodes of Battle with 100 agents: calls cost less in
larger parts, and all 32 in one would take 5 GB."""
AGENT_STEPS_AT_ONCE = 660_000
"""Largest T × B × N of all parts that threads work off side by side."""
AGENT_STEPS_FOR_A_THREAD = 40_000
"""Smallest T × B × N for which a part of its own is worth a thread."""
_BETWEEN_LOOKS_S = 0.25


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
    rows: Rows
    """Of the part that several processes share."""
    generator: torch.Generator
    """Of noise: parts that are worked off side by side must not share a stream."""
    learns_TB: Tensor
    """bool: steps that count in the loss: played, and past the burn-in."""
    agent_mask_TBN: Tensor
    """bool: the same for each agent while it lives."""
    returns_TB: Tensor | None
    """The team's recorded return; None where no loss asks for it."""


class Learner:
    """Trains one policy.

    Args:
        config: of the run; `learner`, `gate`, `agents.dead` and `comm` matter here.
        spec: dimensions of the policy.
        dimensions: sizes of the task.
        flat: [P] parameters to begin with.
        device: where to train; "auto" has been resolved by then.
        workers: threads that work off parts of a large batch side by side, on a CPU. Two parts on
            a core each take less than one on both: most calls are too small to be divided.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: PolicySpec,
        dimensions: Dimensions,
        flat: FloatArray,
        device: torch.device | str = "cpu",
        workers: int = 1,
    ) -> None:
        self.config = config.learner
        self.spec = spec
        self.dimensions = dimensions
        self.device = torch.device(device)
        self.progress = Progress()
        self.replay = make_replay(config.learner)
        self._price = EdgePrice(config.gate)
        self.owed = 0.0
        """Gradient steps that the episodes so far ask for and that have not been taken."""
        self._run = config
        self._discounting: Discounting | None = None
        if config.learner.algorithm == "res":
            clip = config.learner.reward_clip or np.inf
            self._discounting = Discounting(config.learner.gamma, clip)
        self._ranks: Ranks | None = None
        self._ahead: Future[WindowBatch] | None = None
        """The next update's batch, on its way."""
        self._workers = workers
        self._crew: ThreadPoolExecutor | None = None
        if workers > 1 and self.device.type == "cpu":
            self._crew = ThreadPoolExecutor(workers, "part", _begin_worker)
        self._gatherer: ThreadPoolExecutor | None = None
        if config.learner.prefetch == "on" or (
            config.learner.prefetch == "auto" and self.device.type == "cuda"
        ):
            self._gatherer = ThreadPoolExecutor(1, "gather")

        # Two independent streams: what is drawn from the replay must not depend on the gates'
        # noise.
        self.rng = np.random.default_rng([config.seed, 1])
        self.generator = torch.Generator(self.device)
        self.reseed()

        self.network = PolicyNetwork(spec, dimensions.num_agents)
        self.network.load_flat(flat)
        self.mixer = make_mixer(config.learner, dimensions.num_agents, dimensions.state_dim)
        self.central = make_central(
            config.learner, spec, dimensions.num_agents, dimensions.state_dim
        )
        self.critic: Critic | None = None
        if self.config.algorithm == "facmac":
            hidden = self.config.critic_hidden
            self.critic = Critic(spec.observation_dim, spec.num_actions, hidden)
        self.auxiliary = self._make_auxiliary()
        self.teacher: Teacher | None = None
        if self.config.teacher:
            self.teacher = Teacher(self.config.teacher, self.config.teacher_margin, self.device)
        parts: dict[str, nn.Module] = {"policy": self.network}
        initial = torch.Generator().manual_seed(config.seed)
        for name, module in (
            ("mixer", self.mixer),
            ("auxiliary", self.auxiliary),
            ("central_agent", self.central and self.central.agent),
            ("central_mixer", self.central and self.central.mixer),
            ("critic", self.critic),
        ):
            if module is not None:
                initialise_linear_layers(module, initial)
                parts[name] = module
        self.online = nn.ModuleDict(parts).to(self.device)
        """Everything that is trained, by part: policy, mixer, auxiliary, critics."""
        self.topology: Topology | None = None
        if config.sparse.method != "none":
            layers = self.online.named_parameters()
            trained = config.policy != ""
            self.topology = Topology(config.sparse, layers, config.seed, trained=trained)
        self._loss: nn.Module = _TrainingLoss(self.online, self._loss_of)
        self.target_network = copy.deepcopy(self.network).requires_grad_(False)
        self.target_mixer: Mixer | None = None
        if self.mixer is not None:
            self.target_mixer = copy.deepcopy(self.mixer).requires_grad_(False)
        self.target_central: CentralCritic | None = None
        if self.central is not None:
            self.target_central = copy.deepcopy(self.central)
            self.target_central.agent.requires_grad_(False)
            self.target_central.mixer.requires_grad_(False)
        self.target_critic: Critic | None = None
        if self.critic is not None:
            self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimiser = torch.optim.Adam(
            self._parameter_groups(),
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

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """What Adam is given: parameters, and which share of the step size is theirs."""
        critics = () if self.critic is None else ("mixer", "critic")
        groups = [
            {
                "params": list(part.parameters()),
                "share": self.config.critic_rate if name in critics else 1.0,
            }
            for name, part in self.online.items()
        ]
        return [group for group in groups if group["params"]]

    def join(self, ranks: Ranks) -> None:
        """Share updates with other processes from now on.

        Their learners have the same configuration and the same state.
        """
        self._ranks = ranks
        self._loss = DistributedDataParallel(
            self._loss,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            process_group=ranks.group,
            forward_sync_buffers=False,
            # Without messages, or without a gate to learn, some layers have no part in the loss.
            find_unused_parameters=self._rule().mode != "learned",
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
    def looks_ahead(self) -> bool:
        """Whether targets look further than one step at this point of the training."""
        return self.progress.env_steps >= self.config.td_lambda_start

    @property
    def teacher_coef(self) -> float:
        """Weight of the teacher's loss at this point of the training."""
        falls = linear(self.config.teacher_coef, 0.0, self.config.teacher_steps)
        return falls(self.progress.env_steps)

    def parameters_flat(self) -> FloatArray:
        """[P] what is to be published, a fresh vector."""
        return self.network.to_flat()

    def mask_flat(self) -> NDArray[np.bool_] | None:
        """[P] which of the published numbers exist, a fresh vector; biases do, and all weights of
        dense layers. None: nothing is masked.
        """
        if self.topology is None:
            return None
        masks = [
            torch.ones_like(parameter, dtype=torch.bool) if mask is None else mask
            for parameter in self.network.tensors().values()
            for mask in (self.topology.mask_of(parameter),)
        ]
        flat: NDArray[np.bool_] = torch.cat([mask.flatten() for mask in masks]).cpu().numpy()
        return flat

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
        self._forget()
        batch = self._draw()
        agent_steps = (len(batch.actions) + 1) * self.dimensions.num_agents
        rows = self._rows_of_a_part(batch.size, agent_steps)
        if self._ranks is None:
            (shares,) = shared_out(batch, rows, ranks=1)
        else:
            order = Order(self.progress.env_steps)
            shares = self._ranks.hand_out(order, batch, rows * self._ranks.size)
        return self.gradient_of(shares, between_parts)

    def _rows_of_a_part(self, batch: int, agent_steps: int) -> int:
        """Rows of a part, of `agent_steps` agent-steps each."""
        rows = AGENT_STEPS_PER_PART[self.device.type] // agent_steps
        # Gradients are exchanged by one thread.
        if self._crew is not None and self._ranks is None:
            side_by_side = AGENT_STEPS_AT_ONCE // (self._workers * agent_steps)
            smallest = -(-AGENT_STEPS_FOR_A_THREAD // agent_steps)
            rows = min(rows, max(min(side_by_side, -(-batch // self._workers)), smallest))
        return max(rows, 1)

    def gradient_of(
        self, shares: list[Share], between_parts: Callable[[], None] | None = None
    ) -> dict[str, float]:
        """The gradient of a batch of which this process works off some rows; and its metrics.

        With several ranks all of them are here at the same time.
        """
        self.optimiser.zero_grad()
        generators = [self.generator]
        if len(shares) > 1:
            generators = [self._branch() for _ in shares]
        parts = [self._load(*pair) for pair in zip(shares, generators, strict=True)]
        # Divisors of the whole batch, known beforehand, so that the parts' losses add up to its
        # loss.
        divisors = torch.stack(
            [
                torch.stack([self._count(part) for part in parts]).sum(),
                torch.stack([part.agent_mask_TBN.sum() for part in parts]).sum(),
            ]
        )
        if self._ranks is not None:
            self._ranks.add_up(divisors)
        count, living = divisors.clamp(min=1)
        totals: dict[str, Tensor] = {}
        for sums in self._work_off(parts, count, living, between_parts):
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + value
        names, sums = list(totals), torch.stack([x.double() for x in totals.values()])
        if self._ranks is not None:
            self._ranks.add_up(sums)
        values: NDArray[np.float64] = sums.cpu().numpy()
        return _finish(dict(zip(names, map(float, values), strict=True)))

    def _work_off(
        self,
        parts: list[_Part],
        count: Tensor,
        living: Tensor,
        between_parts: Callable[[], None] | None,
    ) -> Iterator[dict[str, Tensor]]:
        """Add all parts' gradients to the parameters'; yields the numbers of each, in order."""
        tell = between_parts or (lambda: None)
        if self._crew is None or self._ranks is not None or len(parts) == 1:
            for part in parts:
                tell()
                yield self._accumulate(part, count, living, last=part is parts[-1])
            return
        futures = [self._crew.submit(self._differentiate, part, count, living) for part in parts]
        for future in futures:
            while not wait((future,), timeout=_BETWEEN_LOOKS_S).done:
                tell()
            gradients, sums = future.result()
            # In the order of the parts, whoever was first: the sum is the same to the last bit.
            for parameter, gradient in zip(self.online.parameters(), gradients, strict=True):
                if gradient is not None:
                    before = parameter.grad
                    parameter.grad = gradient if before is None else before.add_(gradient)
            yield sums

    @torch.no_grad()
    def _forget(self) -> None:
        """Now and then, let go of the oldest episodes if the policy has grown away from them."""
        bound, steps = self.config.replay_distance, self.progress.gradient_steps
        if bound == 0.0 or steps == 0 or steps % self.config.replay_check_period:
            return
        batch = self.replay.oldest(WITNESSES).gather()
        part = self._load(Share(batch, Rows(0, batch.size, batch.size)), self.generator)
        window = UnrollInput(part.observations, part.alive)
        q_TBNA = unroll(self.network, window, self._rule()).q_TBNA[:-1]
        if policy_distance(q_TBNA, part.actions, part.agent_mask_TBN) > bound:
            forget(self.replay, least=self.config.learning_starts)

    def _draw(self) -> WindowBatch:
        """The batch of this update; and while it is computed, a thread gathers the next one if that
        is owed already.
        """

        def choose() -> Callable[[], WindowBatch]:
            size, window = self.config.batch_size, self.config.window
            windows = self.replay.choose(self.rng, size, window)
            return partial(windows.gather, self._discounting)

        ahead, self._ahead = self._ahead, None
        batch = choose()() if ahead is None else ahead.result()
        if self._gatherer is not None and self.updates_owed > 1:
            self._ahead = self._gatherer.submit(choose())
        return batch

    def apply_gradient(self, metrics: dict[str, float]) -> None:
        """The fast half: clip, step, and now and then a new topology or target. Must not be
        interrupted.
        """
        self.owed = max(self.owed - 1.0, 0.0)
        dense = {} if self.topology is None else self.topology.mask_gradients()
        norm = nn.utils.clip_grad_norm_(
            self.online.parameters(), self.config.grad_clip, foreach=True
        )
        metrics["grad_norm"] = float(norm)
        metrics["temperature"] = self.temperature
        metrics["learning_rate"] = self.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * group["share"]
        metrics["gate_price"] = self.price
        if np.isfinite(metrics.get("deployed_loss", np.nan)):
            self._price.hear(metrics["deployed_loss"])
        # One broken batch must not turn the parameters into NaN for good.
        finite = bool(np.isfinite(metrics["grad_norm"]) and np.isfinite(metrics["loss"]))
        if finite:
            self.optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        else:
            self.progress.skipped_steps += 1
        self.progress.gradient_steps += 1
        if finite and self.topology is not None:
            self._evolve(self.topology, dense)
        if self.progress.gradient_steps % self.config.target_update_period == 0:
            self.copy_target()

    def _evolve(self, topology: Topology, dense: dict[str, Tensor]) -> None:
        """Move links if it is time to."""
        steps, progress = self.progress.gradient_steps, self.progress
        share = topology.share(steps, progress.env_steps / self._run.steps)
        if share > 0.0:
            topology.evolve(dense, self.optimiser.state, share, steps)

    def copy_target(self) -> None:
        """Move the target network (and mixer) to the online one, or towards it."""
        pairs: list[tuple[nn.Module, nn.Module]] = [(self.target_network, self.network)]
        if self.mixer is not None and self.target_mixer is not None:
            pairs.append((self.target_mixer, self.mixer))
        if self.central is not None and self.target_central is not None:
            pairs.append((self.target_central.agent, self.central.agent))
            pairs.append((self.target_central.mixer, self.central.mixer))
        if self.critic is not None and self.target_critic is not None:
            pairs.append((self.target_critic, self.critic))
        with torch.no_grad():
            for target, online in pairs:
                for kept, fresh in zip(target.parameters(), online.parameters(), strict=True):
                    kept.lerp_(fresh, self.config.target_rate)
                    if self.topology is not None:
                        self.topology.cut(kept, fresh)

    def _branch(self) -> torch.Generator:
        """A stream of its own, which the learner's determines."""
        number = torch.empty((), dtype=torch.int64, device=self.device)
        branch = torch.Generator(self.device)
        return branch.manual_seed(int(number.random_(generator=self.generator)))

    def _load(self, share: Share, generator: torch.Generator) -> _Part:
        """Move a part, or this rank's rows of it, to the device and work out what counts."""
        batch = share.batch

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
        returns_TB: Tensor | None = None
        if self._discounting is not None:
            after_B = tensor(batch.returns_after) * self.config.reward_scale
            returns_TB = returns_to_go(outcome, self.config.gamma, after_B)
        return _Part(
            observations=tensor(batch.observations).float(),
            actions=tensor(batch.actions),
            states=tensor(batch.states),
            alive=torch.ones_like(alive) if self._run.agents.dead == "relay" else alive,
            outcome=outcome,
            rows=share.rows,
            generator=generator,
            learns_TB=learns_TB,
            agent_mask_TBN=outcome.agent_mask_TBN & learns_TB.unsqueeze(-1),
            returns_TB=returns_TB,
        )

    def _count(self, part: _Part) -> Tensor:
        return (part.agent_mask_TBN if self.mixer is None else part.learns_TB).sum()

    def _rule(self, noise: torch.Generator | None = None) -> GateRule:
        return GateRule.of(self._run.comm, self._run.gate, self.temperature, noise)

    def _noisy_episodes(self, part: _Part) -> Tensor | None:
        """[B] bool: episodes whose gates get noise; None: all."""
        share = self._run.gate.noise_share
        if share == 1.0:
            return None
        drawn = torch.rand(part.rows.of, generator=part.generator, device=self.device)
        return drawn[part.rows.slice] < share

    def _accumulate(
        self, part: _Part, count: Tensor, living: Tensor, *, last: bool
    ) -> dict[str, Tensor]:
        """Add one part's gradient to the parameters'; returns its numbers."""
        exchange = nullcontext()
        if isinstance(self._loss, DistributedDataParallel) and not last:
            exchange = self._loss.no_sync()  # one for all parts
        with exchange:
            total_loss, sums = self._loss(part, count, living)
            # The ranks' gradients are averaged, and their losses are shares of one sum.
            torch.autograd.backward(total_loss * (1 if self._ranks is None else self._ranks.size))
        return {name: value.detach() for name, value in sums.items()}

    def _differentiate(
        self, part: _Part, count: Tensor, living: Tensor
    ) -> tuple[Sequence[Tensor | None], dict[str, Tensor]]:
        """One part's gradient of each parameter, None where it has none, and its numbers."""
        total_loss, sums = self._loss(part, count, living)
        parameters = list(self.online.parameters())
        return torch.autograd.grad(total_loss, parameters, allow_unused=True), sums

    def _loss_of(
        self, part: _Part, count: Tensor, living: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """[] what a part adds to the batch's loss; and to its metrics, as sums."""
        window = UnrollInput(part.observations, part.alive)
        noisy_B = self._noisy_episodes(part)
        with torch.no_grad():
            if self.target_central is not None:
                # OW-QMIX asks nothing of the policy's own target, nor of its mixer's.
                target_q_TBNA = self.target_central.agent(part.observations)
            else:
                # The target is the policy as it will be deployed, so its gates are the hard ones.
                target_q_TBNA = unroll(self.target_network, window, self._rule()).q_TBNA
        rule = replace(self._rule(part.generator), noisy_B=noisy_B, rows=part.rows)
        online = unroll(self.network, window, rule)

        if self.critic is not None:
            chosen_TBN = self.critic.of_actions(part.observations[:-1], part.actions)
        else:
            chosen_TBN = online.q_TBNA[:-1].gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            td_targets = self._targets(online.q_TBNA[1:], target_q_TBNA[1:], part)
        if self.mixer is None:
            values, mask = chosen_TBN, part.agent_mask_TBN
        else:
            living_TBN = living_only(chosen_TBN, part.outcome.alive_TBN[:-1])
            values, mask = self.mixer(living_TBN, part.states[:-1]), part.learns_TB
        # where() and not a product: a masked NaN would stay a NaN.
        td_error = torch.where(mask, values - td_targets, 0.0)
        weights = None
        if self.central is not None:
            weights = optimistic_weights(td_error, self.config.wqmix_alpha)
        loss = td_loss(td_error, self.config.huber, weights) / count
        total_loss, aux = loss, torch.zeros_like(loss)
        extra = {
            name: total / count
            for name, total in self._extra(part, online, values, td_targets).items()
        }
        total_loss = total_loss + sum(extra.values())
        if self.auxiliary is not None:
            aux = self._auxiliary_loss(self.auxiliary, part, online, living)
            total_loss = total_loss + self.config.aux_coef * aux
        taught = torch.zeros_like(loss)
        if self.teacher is not None and self.teacher_coef > 0.0:
            seen_TBND, mask_TBN = part.observations[:-1], part.agent_mask_TBN
            taught = self.teacher.loss(online.q_TBNA[:-1], seen_TBND, mask_TBN) / living
            total_loss = total_loss + self.teacher_coef * taught
        charge = self._charge(part, online) / living
        total_loss = total_loss + charge

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
            **extra,
        }
        if noisy_B is not None:
            clean = mask & ~noisy_B.view(1, -1, *[1] * (mask.ndim - 2))
            sums["deployed_squares"] = torch.where(clean, td_error, 0.0).square().sum()
            sums["deployed_steps"] = clean.sum()
        return total_loss, {name: value.detach() for name, value in sums.items()}

    def _deployed(self, online: UnrollOutput) -> Tensor:
        """[T + 1, B, N, K] bool: edges that would be open without noise."""
        if self._rule().mode != "learned":
            return online.gates_TBNK > 0.0
        return deployed(online.scores_TBNK, online.allowed_TBNK, self._run.gate.budget)

    def _charge(self, part: _Part, online: UnrollOutput) -> Tensor:
        """[] what the agents' open edges cost at this point of the training, in scaled reward."""
        price = self.price * self.config.reward_scale
        if price == 0.0 or self._rule().mode != "learned":
            return online.q_TBNA.new_zeros(())
        counts = online.allowed_TBNK[:-1] & part.agent_mask_TBN.unsqueeze(-1)
        return price * open_edges(online.scores_TBNK[:-1], online.gates_TBNK[:-1], counts)

    def _extra(
        self, part: _Part, online: UnrollOutput, q_tot_TB: Tensor, targets_TB: Tensor
    ) -> dict[str, Tensor]:
        """Sums over the part of the losses that some algorithms add to the TD loss, by metric."""
        extra: dict[str, Tensor] = {}
        if self.central is not None:
            q_TBNA = self.central.agent(part.observations[:-1])
            chosen_TBN = q_TBNA.gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
            living_TBN = living_only(chosen_TBN, part.outcome.alive_TBN[:-1])
            errors_TB = self.central.mixer(living_TBN, part.states[:-1]) - targets_TB
            masked_TB = torch.where(part.learns_TB, errors_TB, 0.0)
            extra["central_loss"] = td_loss(masked_TB, self.config.huber)
        if part.returns_TB is not None:
            distance_TB = torch.where(part.learns_TB, q_tot_TB - part.returns_TB, 0.0)
            extra["return_loss"] = self.config.res_lambda * distance_TB.square().sum()
        if self.critic is not None:
            assert isinstance(self.mixer, QMixer)
            value_TB = policy_value(
                self.critic,
                self.mixer,
                part.observations[:-1],
                gumbel_one_hot(online.q_TBNA[:-1], part.generator, part.rows),
                part.outcome.alive_TBN[:-1],
                part.states[:-1],
            )
            extra["actor_loss"] = -torch.where(part.learns_TB, value_TB, 0.0).sum()
        return extra

    def _targets(self, online_q_TBNA: Tensor, target_q_TBNA: Tensor, part: _Part) -> Tensor:
        """[T, B] (IQL: [T, B, N]) from q of the next steps."""
        outcome, gamma = part.outcome, self.config.gamma
        td_lambda, n_step = 0.0, 1
        if self.looks_ahead:
            td_lambda, n_step = self.config.td_lambda, self.config.n_step
        if self.target_critic is not None:
            greedy_TBN = target_q_TBNA.argmax(-1)
            next_TBN = self.target_critic.of_actions(part.observations[1:], greedy_TBN)
        else:
            next_TBN = next_values(online_q_TBNA, target_q_TBNA, self.config)
        if self.target_mixer is None:
            return individual_targets(next_TBN, outcome, gamma, td_lambda, n_step)
        alive_TBN, states_TBS = outcome.alive_TBN[1:], part.states[1:]
        if self.config.algorithm == "res":
            assert isinstance(self.mixer, QMixer)
            assert isinstance(self.target_mixer, QMixer)
            own_TBN = next_values(online_q_TBNA, online_q_TBNA, self.config)
            next_total_TB = softmax_values(
                Values(self.mixer, online_q_TBNA, own_TBN),
                Values(self.target_mixer, target_q_TBNA, next_TBN),
                states_TBS,
                alive_TBN,
                self.config.res_beta,
            )
        else:
            central = self.target_central
            mixer = self.target_mixer if central is None else central.mixer
            next_total_TB = mixer(living_only(next_TBN, alive_TBN), states_TBS)
        return team_targets(next_total_TB, outcome, gamma, td_lambda, n_step)

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
        total, number = auxiliary(messages_TBNM, part.agent_mask_TBN, part.generator)
        # How many steps have negatives is known only now; weigh parts by the agent-steps they hold.
        return total / number.clamp(min=1) * (part.agent_mask_TBN.sum() / living)


class _TrainingLoss(nn.Module):
    """The loss as a module that holds what is trained: DistributedDataParallel wraps no less."""

    def __init__(self, online: nn.Module, loss: Callable[..., tuple[Tensor, Any]]) -> None:
        super().__init__()
        self.online = online
        self._loss_of = loss

    def forward(self, *arguments: object) -> tuple[Tensor, Any]:
        return self._loss_of(*arguments)


def _begin_worker() -> None:
    """Prepare a thread that works off parts."""
    torch.set_num_threads(1)
    # Most calls are over in less than Python's 5 ms, for which the other thread would have to wait.
    sys.setswitchinterval(5e-4)


def _finish(totals: dict[str, float]) -> dict[str, float]:
    """Sums over parts -> metrics."""
    metrics = dict(totals)
    allowed = max(metrics.pop("edges_allowed"), 1.0)
    metrics["open_fraction"] = metrics.pop("edges_open") / allowed
    metrics["open_share"] = metrics.pop("edges_deployed") / allowed
    squares, steps = metrics.pop("deployed_squares", 0.0), metrics.pop("deployed_steps", 0.0)
    if steps > 0.0:
        metrics["deployed_loss"] = squares / steps
    return metrics


@torch.no_grad()
def initialise_linear_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every linear layer anew from U(±1/sqrt(fan_in)), and a GRU's from U(±1/sqrt(hidden)),
    torch's defaults, but from our own stream.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(layer, nn.GRU):
            bound = layer.hidden_size**-0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
