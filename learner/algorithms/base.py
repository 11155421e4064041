"""What an algorithm is. Each has a file here that reads from top to bottom as that algorithm.

    traits             configs/algorithms/NAME.py: what agents record, how they act, where batches
                       come from; all that is known without torch
    parts              its networks beside the policy
    loss               of a part of a batch
    followed           which networks have a target, and `after_step`, which moves these
    parameter_groups   step sizes, and what is clipped together
    flops              on paper, for MAST's tables (learner/sparse/accounting.py)

A file says ALGORITHM = TheClass; nothing else has to be edited, also not for one from outside:
--algorithm package.module:TheClass. Its own options are a frozen dataclass, `Options`.

Dimension key: T = time, B = batch, N = agents, K = offsets, A = actions.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from agents.comm.graphs import graph_of
from agents.policy import PolicySpec
from configs.algorithms.base import Traits
from configs.columns import ACTION_MASK, CARRY, GATES, PRESENT
from configs.schema import LearnerConfig, RunConfig
from learner.algorithms.policy_terms import Loss, PolicyTerms
from learner.auxiliary import make_auxiliary
from learner.comm.gates import GateRule, open_edges_of
from learner.comm.unroll import Carry, UnrollInput, UnrollOutput, unroll
from learner.estimators import arm, score_function
from learner.estimators.passes import LossOf
from learner.experience.episode import Dimensions, Episode
from learner.experience.part import Divisors, Part
from learner.experience.replay import Discounting
from learner.forbidden import forbidding
from learner.guides.base import Guide
from learner.initialisation import initialise_linear_layers
from learner.network import PolicyNetwork
from learner.progress import Progress
from learner.schedules import Schedules
from learner.sparse.layer_costs import Networks
from learner.sparse.topology import Topology

__all__ = ["Algorithm", "Loss", "ParameterGroup", "Setup", "Unrolled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What the sizes of an algorithm's networks follow from."""

    run: RunConfig
    spec: PolicySpec
    dimensions: Dimensions
    options: Any = None
    """An instance of the algorithm's own `Options`."""

    @property
    def config(self) -> LearnerConfig:
        return self.run.learner

    def auxiliary(self) -> dict[str, nn.Module]:
        """The network of `learner.aux` as a part of this name; empty without."""
        found = make_auxiliary(self.config, self.spec, self.dimensions)
        return {} if found is None else {"auxiliary": found}


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parts that have a step size together."""

    parts: tuple[str, ...]
    share: float = 1.0
    """Of `learner.learning_rate`."""
    clipped_with: str = "all"
    """Groups that say the same have one norm together, bounded by `learner.grad_clip`."""


@dataclass(frozen=True, slots=True, eq=False)
class Unrolled:
    """What the policy in training does in the steps of a part."""

    output: UnrollOutput
    noisy_B: Tensor | None
    """bool: episodes whose gates got noise; None: all of them."""

    @property
    def q_TBNA(self) -> Tensor:
        """[T + 1, B, N, A] of the policy's head: values, or logits."""
        return self.output.q_TBNA


class Algorithm(ABC):
    """One algorithm with its networks.

    Args:
        setup: sizes and options.
        policy: all agents' network with the parameters to begin with.
        schedules: what changes over the run.
        initial: source of all other parameters.
        device: where to train.
    """

    traits: Traits | Callable[[Any], Traits] = Traits()
    """Or a function of the options that returns them."""
    Options: ClassVar[type | None] = None
    """A frozen dataclass of options that it alone has; each has a default."""
    recordable: ClassVar[bool] = False
    """Whether its loss may be recorded and replayed (`learner.cuda_graph`): it does the same
    operations for all batches of the same shapes and whenever `Schedules.ways` are the same, and
    takes values of schedules by `Schedules.factor`. A subclass says it anew."""
    needs_living_only: ClassVar[bool] = False
    """Whether its loss reads nothing of dead agents: then nothing is computed for agents that are
    dead in a whole window. A subclass says it anew."""
    idle_targets: ClassVar[frozenset[str]] = frozenset()
    """Parts whose target takes no part in training: it does not count in the model's size."""

    def __init__(
        self,
        setup: Setup,
        policy: PolicyNetwork,
        schedules: Schedules,
        initial: torch.Generator,
        device: torch.device,
    ) -> None:
        self.setup = setup
        self.config = setup.config
        given: Any = type(self).traits
        traits: Traits = given if isinstance(given, Traits) else given(setup.options)
        self.trains = traits.trains
        self.experience = traits.experience
        self.centralised = traits.centralised
        self.options = setup.options
        self.schedules = schedules
        self.policy = self.target_policy = policy
        parts = self.parts(setup)
        for part in parts.values():
            initialise_linear_layers(part, initial)
        self.online = nn.ModuleDict({"policy": policy, **parts}).to(device)
        """Everything that is trained, by part; checkpoints and masks rely on names and order."""
        self.target = nn.ModuleDict()
        """Slow copies, by part; see `begin`."""
        self.discounting: Discounting | None = None
        """How recorded returns behind a window are made up; None: no loss asks for them."""
        self._terms = PolicyTerms(setup.run, schedules, parts.get("auxiliary"), device)
        self._topology: Topology | None = None

    # --- what an algorithm says -------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        """Its networks beside the policy, in an order that never changes: checkpoints and draws
        rely on it. Linear layers and GRUs are initialised afterwards, from the run's seed.
        """

    @abstractmethod
    def loss(self, part: Part, divisors: Divisors) -> Loss:
        """What a part adds to the loss of the batch.

        Args:
            part: rows of a batch.
            divisors: of the whole batch, so that the parts' losses add up to its loss.
        """

    @classmethod
    def flops(cls, networks: Networks) -> float:
        """One step of all agents in a batch (MAST, equation 16): forward passes online and target,
        and a backward pass that costs two of them.
        """
        return 4 * networks.total

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        """Of one step, of what no layer stands for: products with generated weights."""
        return 0

    def followed(self) -> Iterable[str]:
        """Parts that have a target."""
        return [name for name in self.online if name != "auxiliary"]

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parts, each in one group."""
        return [ParameterGroup((name,)) for name in self.online]

    def after_step(self, progress: Progress) -> None:
        """Called after each gradient step. The targets follow every `target_update_period`."""
        if progress.gradient_steps % self.config.target_update_period == 0:
            self.follow(self.config.target_rate)

    # --- what it can use --------------------------------------------------------------------------

    def begin(self, topology: Topology | None) -> None:
        """Make the targets: parameters are now where they will stay, and masked if they are."""
        self._topology = topology
        for name in self.followed():
            self.target[name] = copy.deepcopy(self.online[name])
        self.target.requires_grad_(False)
        for module in self.target.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # a copy's lie apart, which costs cuDNN a copy per call
        if "policy" in self.target:
            target: Any = self.target["policy"]
            self.target_policy = target

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move the targets to the online networks (rate 1), or towards them."""
        for name, target in self.target.items():
            online = self.online[name]
            for kept, fresh in zip(target.parameters(), online.parameters(), strict=True):
                kept.lerp_(fresh, rate)
                if self._topology is not None:
                    self._topology.cut(kept, fresh)

    def rule(self, noise: torch.Generator | None = None) -> GateRule:
        """How gates are decided at this point of the training."""
        run = self.setup.run
        return GateRule.of(run.comm, run.gate, self.schedules.factor("temperature"), noise)

    def unroll(
        self,
        part: Part,
        *,
        gates: Literal["drawn", "recorded"] = "drawn",
        learns: int | None = None,
    ) -> Unrolled:
        """The policy in training over T + 1 steps.

        Args:
            gates: drawn anew with noise; or those that were open when the data was made, so that
                the agents hear what they heard then. Either way gradients reach the scores.
            learns: as in `learner.comm.unroll`.
        """
        noisy_B = part.noisy_episodes(self.setup.run.gate.noise_share)
        rule = self.rule(part.generator)
        rule = replace(rule, noisy_B=noisy_B, rows=part.rows, draw=part.draw)
        if gates == "recorded":
            run = self.setup.run
            graph = graph_of(run.comm, run.comm_options, part.num_agents)
            recorded_TBNK = open_edges_of(part.columns[GATES.name], graph.num_edges)
            rule = replace(rule, recorded_TBNK=recorded_TBNK)
        network = self.policy.of_size(part.num_agents)
        output = unroll(network, _window(network, part), rule, _carry(network, part), learns)
        return Unrolled(allowed_only(output, part), noisy_B)

    @torch.no_grad()
    def unroll_deployed(self, policy: PolicyNetwork, part: Part) -> UnrollOutput:
        """A policy over T + 1 steps as it will be deployed: its gates are the hard ones."""
        network = policy.of_size(part.num_agents)
        output = unroll(network, _window(network, part), self.rule(), _carry(network, part))
        return allowed_only(output, part)

    def annotated(self, episode: Episode) -> Episode:
        """An episode on its way into the replay, with what `policy_terms` will need of it."""
        return self._terms.annotated(episode)

    @property
    def guide(self) -> Guide | None:
        """What chooses the actions of training, where agents act as guided; part of `online`."""
        return None

    def prepared(self, episodes: Sequence[Episode]) -> Sequence[Episode]:
        """A rollout that is full, with what the losses of all its gradient steps have in common, as
        further columns. Called once, by on-policy algorithms' learners.
        """
        return episodes

    @property
    def turns(self) -> int:
        """How often a rollout is worked off, in turns that each have all its epochs."""
        return 1

    def in_turn(
        self, episodes: Sequence[Episode], turn: int, rng: np.random.Generator
    ) -> Sequence[Episode]:
        """A prepared rollout, with what the losses of one turn have in common; called before each
        turn, with the parameters that the turn before has left.

        Args:
            episodes: as the turn before has left them.
            turn: 0, 1, … `turns` - 1.
            rng: what minibatches are drawn from, too.
        """
        return episodes

    def policy_terms(self, unrolled: Unrolled, part: Part, divisors: Divisors) -> Loss:
        """Auxiliary loss, price of edges and teacher, which go with any algorithm; and how many
        edges are open. A loss that leaves them out leaves those options without effect.
        """
        return self._terms(unrolled.output, part, divisors, self.rule())


def _window(network: PolicyNetwork, part: Part) -> UnrollInput:
    window = UnrollInput(
        part.observations, part.alive, part.start_B, part.begins_TBN, part.living_R
    )
    # Nobody hears what is said in the step after the last one.
    if network.scheme.says_actions:
        unheard_1BN = torch.zeros_like(part.actions[:1])
        window = replace(window, actions_TBN=torch.cat((part.actions, unheard_1BN)))
    if network.scheme.moves:
        # Agents have used the edges to all their neighbours and no others.
        masks_TBN = part.columns[GATES.name]
        masks_TBN = torch.cat((masks_TBN, torch.zeros_like(masks_TBN[:1])))
        near_TBNK = open_edges_of(masks_TBN, network.scheme.graph.num_edges)
        window = replace(window, neighbours_TBNK=near_TBNK)
    return window


def _carry(network: PolicyNetwork, part: Part) -> Carry | None:
    """What the agents remembered where pieces of episodes begin; None: rows are whole episodes, or
    windows of which nobody knows what was before.
    """
    if CARRY.name not in part.columns:
        return None
    rows_BNX, present_BN = part.columns[CARRY.name][0], part.columns[PRESENT.name][0] != 0
    return Carry.of_rows(network, rows_BNX, present_BN, part.start_B)


def allowed_only(output: UnrollOutput, part: Part) -> UnrollOutput:
    """The same with what is said of actions that the environment did not allow replaced."""
    mask = part.columns.get(ACTION_MASK.name)
    if mask is None:
        return output
    return replace(output, q_TBNA=forbidding(output.q_TBNA, mask.bool()))


class SharedLoss(nn.Module):
    """An algorithm's loss as a module that holds what is trained: DistributedDataParallel wraps no
    less.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.online = algorithm.online
        self._loss: LossOf = algorithm.loss
        gate = algorithm.setup.run.gate
        self.estimates = gate.estimator != "straight-through" and algorithm.rule().mode == "learned"
        """Whether the gates' gradient is estimated by several passes."""
        if self.estimates:
            estimate = {"score-function": score_function.estimate, "arm": arm.estimate}
            self._loss = partial(estimate[gate.estimator], algorithm.loss, gate=gate)

    def forward(self, part: Part, divisors: Divisors) -> tuple[Tensor, dict[str, Tensor]]:
        """[] the part's share of the loss; and its sums for the metrics, without a gradient."""
        loss = self._loss(part, divisors)
        return loss.total, {name: value.detach() for name, value in loss.sums.items()}
