"""What policies that learn beside a critic have in common: IPPO, MAPPO and their kin.

    minibatch -> log pi of the agents, values of a critic -> clipped ratios, errors of values

The policy's head gives logits, or means and log deviations of real numbers. Agents heard what they
heard: the recorded gates are replayed, and gradients reach their scores nevertheless.

Dimension key: T = time, B = batch, N = agents, A = actions, X = what the critic sees.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.algorithms.ippo import PpoOptions
from configs.columns import LOG_PROB
from learner.algorithms.base import Loss, Setup, Unrolled
from learner.algorithms.policy_gradient import PolicyGradient
from learner.experience.episode import Episode
from learner.experience.part import Divisors, Part
from learner.network import PolicyNetwork
from learner.policy_gradient.critic import Critic, ValueScale
from learner.policy_gradient.critic_memory import CRITIC_MEMORY, CriticMemory
from learner.policy_gradient.distributions import Distribution, distribution_of
from learner.schedules import Schedules


class ActorCritic(PolicyGradient):
    """Actor and critic; all agents share both."""

    def __init__(
        self,
        setup: Setup,
        policy: PolicyNetwork,
        schedules: Schedules,
        initial: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__(setup, policy, schedules, initial, device)
        options: PpoOptions = setup.options
        self._memory: CriticMemory | None = None
        if options.rollout_steps and self._critic.remembers:
            self._memory = CriticMemory(options.critic_hidden)

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

    @torch.no_grad()
    def prepared(self, episodes: Sequence[Episode]) -> list[Episode]:
        if self._memory is not None:
            episodes = self._memory.begin(episodes)
            pieces = iter(episodes)
            for part, lengths in self.parts_of(episodes):
                states_TBNH = self._critic.states(self.seen(part), _before(part)).cpu()
                for b, length in enumerate(lengths):
                    piece = next(pieces)
                    if piece.piece.goes_on:
                        self._memory.end(piece, states_TBNH[length - 1, b].numpy().copy())
        return super().prepared(episodes)

    @property
    def _critic(self) -> Critic:
        critic = self.online["critic"]
        assert isinstance(critic, Critic)
        return critic

    def expected(self, part: Part) -> Tensor:
        return self._critic(self.seen(part), _before(part))

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


def _before(part: Part) -> Tensor | None:
    """[B, N, H] what the critic remembered before each row; None: rows begin episodes."""
    memory = part.columns.get(CRITIC_MEMORY.name)
    return None if memory is None else memory[0]
