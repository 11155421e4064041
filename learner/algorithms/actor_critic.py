"""What policies that learn beside a critic have in common: IPPO, MAPPO and their kin.

    minibatch -> log pi of the agents, values of a critic -> clipped ratios, errors of values

The policy's head gives logits. Agents heard what they heard: the recorded gates are replayed, and
gradients reach their scores nevertheless.

Dimension key: T = time, B = batch, N = agents, A = actions, X = what the critic sees.
"""

from abc import abstractmethod

from torch import Tensor, nn

from configs.algorithms.ippo import PpoOptions
from configs.columns import LOG_PROB
from learner.algorithms.base import Loss, Setup, Unrolled
from learner.algorithms.policy_gradient import PolicyGradient, played
from learner.experience.part import Divisors, Part
from learner.policy_gradient.critic import Critic, ValueScale


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

    def actor(self, unrolled: Unrolled, part: Part, divisors: Divisors) -> Loss:
        """The clipped surrogate and the entropy."""
        log_p_TBNA = unrolled.q_TBNA[:-1].log_softmax(-1)
        old_TBN = part.columns[LOG_PROB.name]
        policy_loss, sums = self.clipped(played(log_p_TBNA, part), old_TBN, part, divisors)
        entropy = self.entropy(log_p_TBNA, part, divisors)
        total = policy_loss - self.options.entropy * entropy
        return Loss(total, {"policy_loss": policy_loss, "entropy": entropy, **sums})

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        unrolled = self.unroll(part, gates="recorded")
        values = self.value_errors(self.expected(part), part, divisors)
        both = self.actor(unrolled, part, divisors) + values
        both = Loss(both.total, both.sums | {"loss": both.total})
        return both + self.policy_terms(unrolled, part, divisors)
