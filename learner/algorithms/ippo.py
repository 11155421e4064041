"""IPPO: every agent improves its policy on its own (de Witt et al., 2020).

A_i = GAE of the agent's rewards and its critic's values, which see what the agent sees
loss = -min(r A, clip(r) A) - entropy + value error,     r = pi / pi_old
"""

from torch import Tensor

from configs.algorithms.ippo import OPTIONS, TRAITS
from learner.algorithms.actor_critic import ActorCritic
from learner.algorithms.base import Setup
from learner.experience.part import Part


class Ippo(ActorCritic):
    """Independent PPO; all agents share parameters."""

    traits = TRAITS
    Options = OPTIONS

    @classmethod
    def inputs(cls, setup: Setup) -> int:
        return setup.dimensions.observation_dim

    def seen(self, part: Part) -> Tensor:
        return part.observations


ALGORITHM = Ippo
