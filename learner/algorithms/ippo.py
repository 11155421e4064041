"""IPPO: every agent improves its policy on its own (de Witt et al., 2020).

A_i = GAE of the agent's rewards and its critic's values, which see what the agent sees
loss = -min(r A, clip(r) A) - entropy + value error,     r = pi / pi_old

With `--comm nvif` and `sees=context` it is NVIF-PPO: actor and critic read the latent state beside
the observation.
"""

import torch
from torch import Tensor

from configs.algorithms.ippo import OPTIONS, TRAITS, IppoOptions
from learner.algorithms.actor_critic import ActorCritic
from learner.algorithms.base import Setup
from learner.experience.part import Part


class Ippo(ActorCritic):
    """Independent PPO; all agents share parameters."""

    traits = TRAITS
    Options = OPTIONS

    @classmethod
    def inputs(cls, setup: Setup) -> int:
        options: IppoOptions = setup.options
        context = setup.spec.context if options.sees == "context" else 0
        return setup.dimensions.observation_dim + context

    def seen(self, part: Part) -> Tensor:
        options: IppoOptions = self.setup.options
        if options.sees == "observation":
            return part.observations
        with torch.no_grad():  # the critic's errors do not shape what agents say
            output = self.unroll(part, gates="recorded").output
        return torch.cat((part.observations, output.context_TBNC), dim=-1)


ALGORITHM = Ippo
