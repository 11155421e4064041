"""What algorithms with a guide have in common: one policy that decides for all agents.

    rollout that the guide played -> its values -> advantages, targets (once)
    minibatch -> log mu, values -> losses

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from configs.algorithms.guided import GuideOptions
from configs.columns import ACTION_MASK, GUIDE_LOG_PROB
from configs.streams import Role
from learner import noise
from learner.algorithms.base import Loss, Setup
from learner.algorithms.policy_gradient import PolicyGradient, played
from learner.experience.part import Divisors, Part
from learner.guides.acting import MEMORY, memory_of
from learner.guides.base import Guide, Played
from learner.guides.mat import Mat
from learner.guides.mat_guide import MatGuide
from learner.guides.sable import Sable
from learner.guides.sable_guide import SableGuide
from learner.policy_gradient.critic import ValueScale


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the guide says of a part."""

    log_mu_TBNA: Tensor
    """Of all actions, by the actions of the agents before."""
    values_TBN: Tensor
    """[T + 1, …]"""
    log_prob_TBN: Tensor
    """Of the actions that were played."""
    old_TBN: Tensor
    """The same when they were chosen."""


class Guided(PolicyGradient):
    """A guide in training."""

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        options: GuideOptions = setup.options
        # Its layers begin as they say, from a stream of the run's own.
        with noise.seeded(setup.run.seed, Role.GUIDE_NETWORK):
            guide = cls.make_guide(setup)
        scale = {"scale": ValueScale()} if options.normalise_values else {}
        return {"guide": guide, **scale}

    @classmethod
    @abstractmethod
    def make_guide(cls, setup: Setup) -> Guide:
        """What decides for all agents."""

    @property
    def guide(self) -> Guide:
        guide = self.online["guide"]
        assert isinstance(guide, Guide)
        return guide

    def expected(self, part: Part) -> Tensor:
        return self.guide.judge(self._played(part))[1]

    def judged(self, part: Part) -> Judged:
        """The guide over a part."""
        logits_TBNA, values_TBN = self.guide.judge(self._played(part))
        log_mu_TBNA = logits_TBNA.log_softmax(-1)
        old_TBN = part.columns[GUIDE_LOG_PROB.name]
        return Judged(log_mu_TBNA, values_TBN, played(log_mu_TBNA, part), old_TBN)

    def _played(self, part: Part) -> Played:
        mask, rows = part.columns.get(ACTION_MASK.name), part.columns.get(MEMORY.name)
        memory = self.guide.begin(len(part.start_B))
        if rows is not None:
            memory = memory_of(rows[0], memory)
        return Played(
            part.observations,
            part.actions,
            part.outcome.alive_TBN,
            None if mask is None else mask.bool(),
            part.start_B,
            memory,
        )

    def guides_loss(self, judged: Judged, part: Part, divisors: Divisors) -> Loss:
        """PPO's: the clipped surrogate, the entropy, and the errors of the values."""
        log_prob_TBN, old_TBN = judged.log_prob_TBN, judged.old_TBN
        loss, sums = self.clipped(log_prob_TBN, old_TBN, part, divisors, heard=False)
        entropy = self.entropy(judged.log_mu_TBNA, part, divisors)
        total = loss - self.options.entropy * entropy
        surrogate = Loss(total, {"policy_loss": loss, "entropy": entropy, **sums})
        return surrogate + self.value_errors(judged.values_TBN, part, divisors)


def make_sable(setup: Setup) -> SableGuide:
    """Sable, as a run's options have it."""
    options, sizes = setup.options, setup.dimensions
    sable = Sable(
        sizes.observation_dim + sizes.num_agents,
        sizes.num_actions,
        size=options.size,
        heads=options.heads,
        blocks=options.blocks,
        norm_input=options.norm_input,
        decay=options.decay,
        dead=options.dead_blocks,
    )
    return SableGuide(sizes.num_agents, sizes.num_actions, sable)


def make_mat(setup: Setup) -> MatGuide:
    """The multi-agent transformer, as a run's options have it."""
    options, sizes = setup.options, setup.dimensions
    mat = Mat(
        sizes.observation_dim + sizes.num_agents,
        sizes.num_actions,
        size=options.size,
        heads=options.heads,
        blocks=options.blocks,
        norm_input=options.norm_input,
    )
    return MatGuide(sizes.num_agents, sizes.num_actions, mat)
