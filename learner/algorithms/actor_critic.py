"""What policies that learn beside a critic have in common: IPPO, MAPPO and their kin.

    minibatch -> log pi of the agents, values of a critic -> clipped ratios, errors of values

The policy's head gives logits, or means and log deviations of real numbers. Agents heard what they
heard: the recorded gates are replayed, and gradients reach their scores nevertheless.

Dimension key: T = time, B = batch, N = agents, A = actions, X = what the critic sees.
"""

from abc import abstractmethod

from torch import Tensor, nn

from configs.algorithms.ippo import PpoOptions
from configs.columns import LOG_PROB
from learner.algorithms.base import Loss, Setup, Unrolled
from learner.algorithms.policy_gradient import PolicyGradient
from learner.experience.part import Divisors, Part
from learner.policy_gradient.critic import Critic, ValueScale
from learner.policy_gradient.distributions import Distribution, distribution_of


class ActorCritic(PolicyGradient):
    """Actor and critic; all agents share both."""

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        options: PpoOptions = setup.options
        critic = Critic(cls.inputs(setup), options.critic_hidden, options.critic)
        scale = {"scale": ValueScale()} if options.normalise_values else {}
        return {"critic": critic, **scale, **setup.auxiliary()}

    @classmethod
    @abstractmethod
    def inputs(cls, setup: Setup) -> int:
        """X"""

    @abstractmethod
    def seen(self, part: Part) -> Tensor:
        """[T + 1, B, N, X] what the critic knows."""

    def expected(self, part: Part) -> Tensor:
        return self.online["critic"](self.seen(part))

    def distribution(self, unrolled: Unrolled) -> Distribution:
        """Of the actions in the T steps of a part."""
        return distribution_of(unrolled.q_TBNA[:-1], self.setup.spec)

    def actor(self, unrolled: Unrolled, part: Part, divisors: Divisors) -> Loss:
        """The clipped surrogate and the entropy."""
        policy = self.distribution(unrolled)
        old_TBN = part.columns[LOG_PROB.name]
        policy_loss, sums = self.clipped(policy.log_prob(part.actions), old_TBN, part, divisors)
        entropy = self.mean(policy.entropy(part), part, divisors)
        total = policy_loss - self.options.entropy * entropy
        return Loss(total, {"policy_loss": policy_loss, "entropy": entropy, **sums})

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        unrolled = self.unroll(part, gates="recorded")
        values = self.value_errors(self.expected(part), part, divisors)
        both = self.actor(unrolled, part, divisors) + values
        both = Loss(both.total, both.sums | {"loss": both.total})
        return both + self.policy_terms(unrolled, part, divisors)
