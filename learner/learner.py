"""The learner without its process: episodes in, gradient steps, parameters out.

    Episode -> replay -> windows -> loss (learner/algorithms/) -> Adam -> policy
                                                 masks, topology (learner/sparse/) ─┘

No socket, clock or process; `learner.process` is the shell. A batch is worked off in parts of
bounded size whose gradients add up to that of the whole, so that memory does not grow with it.
Several processes may share each part (learner/ranks.py): each has the same parameters, computes
with its rows, and takes the same step.

Dimension key: T = time, B = batch, N = agents.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from agents.policy import PolicySpec
from agents.pretrained import pretrained_layout
from configs import streams
from configs.algorithms.base import OnPolicy
from configs.arrays import FloatArray
from configs.schema import RunConfig
from configs.streams import Role
from learner import noise
from learner.algorithms import find_algorithm, options_of
from learner.algorithms.base import ParameterGroup, Setup, SharedLoss
from learner.average import Average
from learner.captured import CapturedUpdate, Recorder, Worked, refusal
from learner.cuda_graph import CudaRecorder
from learner.experience.device_batch import DeviceBatch, Transfer
from learner.experience.dual import make_replay
from learner.experience.dynamic import WITNESSES, forget, policy_distance
from learner.experience.episode import Dimensions, Episode, Piece
from learner.experience.part import Divisors, Part, part_of
from learner.experience.replay import Replay, Rows, WindowBatch, Windows
from learner.experience.rollout import Rollout
from learner.guides.acting import GuideActor
from learner.network import PolicyNetwork
from learner.population import Population
from learner.progress import Progress
from learner.ranks import Order, Ranks, Share, shared_out
from learner.schedules import Schedules
from learner.sparse.topology import Topology
from runtime.net import wire

logger = logging.getLogger(__name__)

AGENT_STEPS_PER_PART = {"cpu": 165_000, "cuda": 4_000_000}
"""Largest T × B × N of a part. On a CPU 8 episodes of Battle with 100 agents: twice as many take as
long and twice the memory."""
AGENT_STEPS_AT_ONCE = 330_000
"""Largest T × B × N of all parts that threads work off side by side."""
AGENT_STEPS_FOR_A_THREAD = 40_000
"""Smallest T × B × N for which a part of its own is worth a thread."""
_BETWEEN_LOOKS_S = 0.25


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
        recorder: records updates where `learner.cuda_graph` asks for it; None: CUDA graphs do.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: PolicySpec,
        dimensions: Dimensions,
        flat: FloatArray,
        device: torch.device | str = "cpu",
        workers: int = 1,
        recorder: Recorder | None = None,
    ) -> None:
        self.config = config.learner
        self.spec = spec
        self.dimensions = dimensions
        self.device = torch.device(device)
        self.progress = Progress()
        self.schedules = Schedules(config, self.progress)
        self.owed = 0.0
        """Gradient steps that the episodes so far ask for and that have not been taken."""
        self.data_version: int | None = None
        """Newest policy version that has played the rollout in work; None: there was none."""
        self._run = config
        self._ranks: Ranks | None = None
        self._ahead: Future[tuple[WindowBatch, list[Share]]] | None = None
        """The next update's batch, on its way."""
        self._before_ahead: Mapping[str, Any] = {}
        """State of `rng` before that batch was drawn."""
        self._workers = workers
        self._crew: ThreadPoolExecutor | None = None
        if workers > 1 and self.device.type == "cpu":
            self._crew = ThreadPoolExecutor(workers, "part", _begin_worker)
        self._gatherer: ThreadPoolExecutor | None = None
        if config.learner.prefetch == "on" or (
            config.learner.prefetch == "auto" and self.device.type == "cuda"
        ):
            self._gatherer = ThreadPoolExecutor(1, "gather")

        # What is drawn from the replay must not depend on the gates' noise.
        self.rng = streams.generator(config.seed, Role.REPLAY)
        self.generator = self._begin_noise()

        self.network = PolicyNetwork(spec, dimensions.num_agents)
        self.network.load_flat(flat)
        if config.keeps_pretrained:
            tensors = self.network.tensors()
            for name, _ in pretrained_layout(spec):
                tensors[name].requires_grad_(False)
        options = options_of(config.learner)
        self.algorithm = find_algorithm(config.learner.algorithm)(
            Setup(run=config, spec=spec, dimensions=dimensions, options=options),
            self.network,
            self.schedules,
            noise.generator(config.seed, Role.NETWORKS),
            self.device,
        )
        experience = self.algorithm.experience
        self._rollout: Rollout | None = None
        if isinstance(experience, OnPolicy):
            self._rollout = Rollout(experience, self.algorithm.turns, config.env.copies)
        self.replay: Replay = (
            make_replay(config.learner) if self._rollout is None else self._rollout
        )
        self.replay.annotated = self.algorithm.annotated
        if self._rollout is not None:
            self._rollout.prepared = self.algorithm.prepared
            self._rollout.in_turn = self.algorithm.in_turn
        self._guide: GuideActor | None = None
        if self.algorithm.guide is not None:
            self._guide = GuideActor(
                self.algorithm.guide,
                config.env.copies,
                noise.generator(config.seed, Role.GUIDE, self.device, life=config.life),
                everywhere=self.algorithm.centralised,
                sampled=config.evaluation.sampled,
            )
        self.populations = [
            Population(config, number, self.device) for number in config.learner.also_agents
        ]
        """Others that learn beside the run's agents, and share their policy."""
        for population in self.populations:
            population.replay.annotated = self.algorithm.annotated
        self.online = self.algorithm.online
        """Everything that is trained, by part: policy, mixer, auxiliary, critics."""
        self.topology: Topology | None = None
        if config.sparse.method != "none":
            layers = self.online.named_parameters()
            trained = ("policy",) if config.policy else ()  # a policy file has nothing else
            self.topology = Topology(config.sparse, layers, config.seed, trained=trained)
        self._norms: list[tuple[list[nn.Parameter], Tensor]] = []
        """Of the gradient, by what is clipped together."""
        self.dense: dict[str, Tensor] = {}
        """Gradients of masked layers before they were masked: by them links may grow."""
        self.algorithm.begin(self.topology)
        self.target = self.algorithm.target
        """What targets are computed with, by part."""
        self.average: Average | None = None
        """What agents act with; None: the newest parameters, as a rollout has to be of them."""
        if config.learner.average_rate < 1.0 and self._rollout is None:
            self.average = Average(self.network, config.learner.average_rate)
        self._loss = SharedLoss(self.algorithm)
        self._shared_loss: nn.Module = self._loss
        self._captured: CapturedUpdate | None = None
        if self.config.cuda_graph == "on":  # auto: not before it has been measured on a GPU
            recordable = vars(type(self.algorithm)).get("recordable", False)
            why_not = refusal(config, self.device, recordable=recordable)
            if recorder is None and why_not is not None:
                logger.warning("learner.cuda_graph on: updates run step by step: %s", why_not)
            else:
                recorder = recorder or CudaRecorder()
                self._captured = CapturedUpdate(self._work, recorder, self.schedules)
        self._transfer = Transfer(self.device, finds_living=self._leaves_out_the_dead())
        self._groups = self.algorithm.parameter_groups()
        self.optimiser = torch.optim.Adam(
            [{"params": self._parameters(group), "share": group.share} for group in self._groups],
            lr=self.config.learning_rate,
            # One call for all parameters; elsewhere torch's own choice is such a one.
            fused=True if self.device.type == "cpu" else None,
        )

    def _leaves_out_the_dead(self) -> bool:
        """Whether nothing is computed for agents that are dead in a whole window. On a GPU, and in
        a recording, every batch has to have the same shape.
        """
        return (
            self.device.type == "cpu"
            and self._captured is None
            and self._rollout is None  # who has died before a piece may still be heard in it
            and vars(type(self.algorithm)).get("needs_living_only", False)
            and self._run.agents.dead == "silent"
            and not self.config.dead_in_loss
        )

    def _parameters(self, *groups: ParameterGroup) -> list[nn.Parameter]:
        """All that are in these groups, in the order of the parts: sums of norms depend on it."""
        names = {name for group in groups for name in group.parts}
        parts = [part for name, part in self.online.items() if name in names]
        return [parameter for part in parts for parameter in part.parameters()]

    def join(self, ranks: Ranks) -> None:
        """Share updates with other processes from now on.

        Their learners have the same configuration and the same state.
        """
        self._ranks = ranks
        self._captured = None
        self._shared_loss = DistributedDataParallel(
            self._loss,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            process_group=ranks.group,
            forward_sync_buffers=False,
            # Without messages, without a gate to learn, or in turns, some layers have no part in
            # the loss.
            find_unused_parameters=(
                self.algorithm.rule().mode != "learned" or self.algorithm.turns > 1
            ),
        )

    def reseed(self) -> None:
        """Start the gates' noise from the run's seed and the number of gradient steps."""
        self.generator = self._begin_noise()

    def _begin_noise(self) -> torch.Generator:
        steps = self.progress.gradient_steps
        return noise.generator(self._run.seed, Role.GATE_NOISE, self.device, gradient_steps=steps)

    # --- episodes ---------------------------------------------------------------------------------

    def add(self, episode: Episode) -> None:
        """Put an episode into the replay; once that holds enough, updates are owed for it, or for
        the whole rollout.
        """
        known = episode if self._guide is None else self._guide.with_memory(episode)
        if known is not None:
            self.replay.add(known)
        else:
            self.lost(episode.piece, episode.length)
        self.progress.episodes += 1
        self.progress.env_steps = max(self.progress.env_steps, episode.env_steps)
        for population in self.populations:
            population.owed += 1
        if (
            self._rollout is None
            and self.algorithm.trains
            and len(self.replay) >= self.config.learning_starts
        ):
            self.owed += self.config.updates_per_episode

    def guide(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        """What everybody does in a step of training.

        Raises:
            ValueError: the algorithm has no guide.
        """
        if self._guide is None:
            raise ValueError(f"algorithm {self.config.algorithm} has no guide to be asked")
        return self._guide.answer(question)

    @property
    def updates_owed(self) -> int:
        """Whole gradient steps that can be taken now: none before the replay holds enough."""
        if self._rollout is not None:
            return self._rollout.steps_left
        return int(self.owed) if len(self.replay) >= self.config.learning_starts else 0

    @property
    def publishes(self) -> bool:
        """Whether the step just taken is one after which a version is due: every so many, or the
        last of a rollout.
        """
        if self._rollout is not None:
            return self._rollout.ends
        return self.progress.gradient_steps % self.config.publish_period == 0

    def parameters_flat(self) -> FloatArray:
        """[P] what is to be published, a fresh vector."""
        return (self.network if self.average is None else self.average.network).to_flat()

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

    def lost(self, piece: Piece, steps: int) -> None:
        """A piece of a rollout of so many steps will not come."""
        if self._rollout is not None:
            self._rollout.lost(piece, steps)

    @property
    def is_on_policy(self) -> bool:
        """Whether it learns from rollouts."""
        return self._rollout is not None

    @property
    def rollouts_owed(self) -> int:
        """Rollouts that are full and have not been worked off."""
        return 0 if self._rollout is None else self._rollout.owed

    @property
    def rollout_done(self) -> int:
        """Newest rollout of fixed length that has been worked off, by its number; -1: none."""
        return -1 if self._rollout is None else self._rollout.done

    @rollout_done.setter
    def rollout_done(self, number: int) -> None:
        if self._rollout is not None:
            self._rollout.done = number

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
        batch, shares = self._draw()
        if self._rollout is not None:
            self.data_version = self._rollout.policy_version
        if self._ranks is not None:
            order, rows = Order(self.progress.env_steps), self._rows_of_a_part(batch)
            shares = self._ranks.hand_out(order, batch, rows * self._ranks.size)
        for population in self.populations:
            noise_rule = self.algorithm.rule(population.noise)
            population.catch_up(self.network, noise_rule, self.progress.env_steps, between_parts)
            size, window = self.config.batch_size, self.config.window
            _, more = self._gathered(population.replay.choose(self.rng, size, window))
            shares = [*shares, *more]
        return self.gradient_of(shares, between_parts)

    def _gathered(self, windows: Windows) -> tuple[WindowBatch, list[Share]]:
        """A batch; and unless other ranks take rows of it, its parts on their way to the device."""
        batch = windows.gather(self.algorithm.discounting, self._transfer.zeros)
        if self._ranks is not None:
            return batch, []
        (shares,) = shared_out(batch, self._rows_of_a_part(batch), ranks=1)
        return batch, [replace(x, on_device=self._transfer.begin(x.batch)) for x in shares]

    def _rows_of_a_part(self, whole: WindowBatch) -> int:
        time, batch, agents = whole.actions.shape[:3]
        agent_steps = (time + 1) * agents
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
        totals = self._replayed(shares)
        if totals is None:
            totals = self._added_up(shares, between_parts)
        names, sums = list(totals), torch.stack([x.double() for x in totals.values()])
        if self._ranks is not None:
            self._ranks.add_up(sums)
        if self.topology is not None:
            self.dense = self.topology.mask_gradients()
        self._norms = self._norms_of_gradients()
        norms = torch.stack([norm for _, norm in self._norms])
        # The one moment of an update in which the host waits for the device.
        read: NDArray[np.float64] = torch.cat((sums, norms.double())).cpu().numpy()
        values = [float(value) for value in read]
        metrics = _finish(dict(zip(names, values, strict=False)))
        metrics["grad_norm"] = math.hypot(*values[len(names) :])
        return metrics

    def _replayed(self, shares: list[Share]) -> dict[str, Tensor] | None:
        """Give the parameters a batch's gradient by a recording; None if there is none for it."""
        if self._captured is None or len(shares) > 1:
            return None
        worked = self._captured(self._on_device(shares[0]), self.generator)
        if worked is None:
            return None
        for parameter, gradient in zip(self.online.parameters(), worked.gradients, strict=True):
            parameter.grad = gradient
        return worked.sums

    @property
    def updates_replayed(self) -> int:
        """Updates that a recording has worked off (`learner.cuda_graph`)."""
        return 0 if self._captured is None else self._captured.replays

    def _work(self, batch: DeviceBatch, generator: torch.Generator) -> Worked:
        """A whole batch that is one part: what is recorded."""
        rows = len(batch.fields["starts"])
        part = part_of(batch, Rows(0, rows, rows), generator, self._run)
        return Worked(*self._differentiate(part, self._divisors([part])))

    def _added_up(
        self, shares: list[Share], between_parts: Callable[[], None] | None
    ) -> dict[str, Tensor]:
        """Give the parameters a batch's gradient, part by part; its sums for the metrics."""
        generators = noise.branches(self.generator, len(shares))
        parts = [self._part(*pair) for pair in zip(shares, generators, strict=True)]
        divisors = self._divisors_by_size(parts)
        totals: dict[str, Tensor] = {}
        for sums in self._work_off(parts, divisors, between_parts):
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    def _divisors_by_size(self, parts: list[Part]) -> dict[int, Divisors]:
        """By number of agents: each population's mean has the same weight in the loss."""
        sizes = dict.fromkeys(part.num_agents for part in parts)
        return {
            size: self._divisors([p for p in parts if p.num_agents == size], among=len(sizes))
            for size in sizes
        }

    def _divisors(self, parts: list[Part], among: int = 1) -> Divisors:
        """Of the whole batch, known beforehand, so that the parts' losses add up to its loss."""
        counts = torch.stack(
            [
                torch.stack([part.learns_TB.sum() for part in parts]).sum(),
                torch.stack([part.agent_mask_TBN.sum() for part in parts]).sum(),
            ]
        )
        if self._ranks is not None:
            self._ranks.add_up(counts)
        return Divisors(*counts.clamp(min=1) * among)

    def _on_device(self, share: Share) -> DeviceBatch:
        return share.on_device or self._transfer.begin(share.batch)

    def _part(self, share: Share, generator: torch.Generator) -> Part:
        batch = self._on_device(share)
        batch.wait()
        return part_of(batch, share.rows, generator, self._run)

    def _work_off(
        self,
        parts: list[Part],
        divisors: Mapping[int, Divisors],
        between_parts: Callable[[], None] | None,
    ) -> Iterator[dict[str, Tensor]]:
        """Add all parts' gradients to the parameters'; yields the numbers of each, in order."""
        tell = between_parts or (lambda: None)
        if self._crew is None or self._ranks is not None or len(parts) == 1:
            for part in parts:
                tell()
                yield self._accumulate(part, divisors[part.num_agents], last=part is parts[-1])
            return
        futures = [
            self._crew.submit(self._differentiate, part, divisors[part.num_agents])
            for part in parts
        ]
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
        whole = Share(batch, Rows(0, batch.size, batch.size))
        part = self._part(whole, self.generator)
        q_TBNA = self.algorithm.unroll_deployed(self.network, part).q_TBNA[:-1]
        if policy_distance(q_TBNA, part.actions, part.agent_mask_TBN) > bound:
            forget(self.replay, least=self.config.learning_starts)

    def _draw(self) -> tuple[WindowBatch, list[Share]]:
        """The batch of this update, `_gathered`; and while it is computed, a thread gathers the
        next one if that is owed already.
        """

        def choose() -> Callable[[], tuple[WindowBatch, list[Share]]]:
            size, window = self.config.batch_size, self.config.window
            windows = self.replay.choose(self.rng, size, window)
            return partial(self._gathered, windows)

        ahead, self._ahead = self._ahead, None
        drawn = choose()() if ahead is None else ahead.result()
        if self._gatherer is not None and self.updates_owed > 1 and self.replay.draws_ahead:
            self._before_ahead = self.rng.bit_generator.state
            self._ahead = self._gatherer.submit(choose())
        return drawn

    @property
    def sampling(self) -> Mapping[str, Any]:
        """State from which the next update's batch is drawn, or has been drawn ahead."""
        return self.rng.bit_generator.state if self._ahead is None else self._before_ahead

    def apply_gradient(self, metrics: dict[str, float]) -> None:
        """The fast half: clip, step, and now and then a new topology or target. Must not be
        interrupted.

        Args:
            metrics: those of the gradient; some are added.
        """
        self.owed = max(self.owed - 1.0, 0.0)
        self._clip()
        metrics["temperature"] = self.schedules.temperature
        metrics["learning_rate"] = self.schedules.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedules.learning_rate * group["share"]
        metrics["gate_price"] = self.schedules.price
        if np.isfinite(metrics.get("deployed_loss", np.nan)):
            self.schedules.hear(metrics["deployed_loss"])
        # One broken batch must not turn the parameters into NaN for good.
        finite = bool(np.isfinite(metrics["grad_norm"]) and np.isfinite(metrics["loss"]))
        if finite:
            self.optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        else:
            self.progress.skipped_steps += 1
        self.progress.gradient_steps += 1
        if finite and self.topology is not None:
            self._evolve(self.topology, self.dense)
        if finite and self.average is not None:
            self.average.follow(self.topology)
        self.replay.stepped()
        self.algorithm.after_step(self.progress)

    def _norms_of_gradients(self) -> list[tuple[list[nn.Parameter], Tensor]]:
        """[] the norm, on the device, of each set of parameters that are clipped together."""
        together: dict[str, list[ParameterGroup]] = {}
        for group in self._groups:
            together.setdefault(group.clipped_with, []).append(group)
        found: list[tuple[list[nn.Parameter], Tensor]] = []
        for groups in together.values():
            parameters = self._parameters(*groups)
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients, foreach=True)
            found.append((parameters, norm.to(self.device)))
        return found

    def _clip(self) -> None:
        """Bound the norms of the gradients."""
        for parameters, norm in self._norms:
            largest = self.config.grad_clip or math.inf
            nn.utils.clip_grads_with_norm_(parameters, largest, norm, foreach=True)

    def _evolve(self, topology: Topology, dense: dict[str, Tensor]) -> None:
        """Move links if it is time to."""
        steps, progress = self.progress.gradient_steps, self.progress
        share = topology.share(steps, progress.env_steps / self._run.steps)
        if share > 0.0:
            topology.evolve(dense, self.optimiser.state, share, steps)

    def _accumulate(self, part: Part, divisors: Divisors, *, last: bool) -> dict[str, Tensor]:
        """Add one part's gradient to the parameters'; returns its numbers."""
        exchange = nullcontext()
        if isinstance(self._shared_loss, DistributedDataParallel) and not last:
            exchange = self._shared_loss.no_sync()  # one for all parts
        with exchange:
            total_loss, sums = self._shared_loss(part, divisors)
            # The ranks' gradients are averaged, and their losses are shares of one sum.
            torch.autograd.backward(total_loss * (1 if self._ranks is None else self._ranks.size))
        return {name: value.detach() for name, value in sums.items()}

    def _differentiate(
        self, part: Part, divisors: Divisors
    ) -> tuple[Sequence[Tensor | None], dict[str, Tensor]]:
        """One part's gradient of each parameter, None where it has none, and its numbers."""
        total_loss, sums = self._shared_loss(part, divisors)
        parameters = list(self.online.parameters())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        found = torch.autograd.grad(total_loss, trained, allow_unused=True)
        gradients = dict(zip(trained, found, strict=True))
        return [_laid_out(gradients.get(p), p) for p in parameters], sums


def _begin_worker() -> None:
    """Prepare a thread that works off parts."""
    torch.set_num_threads(1)
    # Most calls are over in less than Python's 5 ms, for which the other thread would have to wait.
    sys.setswitchinterval(5e-4)


def _laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """The same, in memory as the parameter is and as `backward` would leave it: torch's fused Adam
    goes through both from end to end, and would step each weight by another's gradient.
    """
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _finish(totals: dict[str, float]) -> dict[str, float]:
    """Sums over parts -> metrics. A loss without agents has no edges."""
    metrics = dict(totals)
    allowed = max(metrics.pop("edges_allowed", 0.0), 1.0)
    metrics["open_fraction"] = metrics.pop("edges_open", 0.0) / allowed
    metrics["open_share"] = metrics.pop("edges_deployed", 0.0) / allowed
    squares, steps = metrics.pop("deployed_squares", 0.0), metrics.pop("deployed_steps", 0.0)
    if steps > 0.0:
        metrics["deployed_loss"] = squares / steps
    return metrics
