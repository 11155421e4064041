"""MAPPO: PPO whose critic sees the state (Yu et al., 2022).

V_i = critic(state, what agent i sees)
loss = -min(r A, clip(r) A) - entropy + value error,     r = pi / pi_old
"""

import torch
from torch import Tensor

from configs.algorithms.mappo import OPTIONS, TRAITS, MappoOptions
from learner.algorithms.actor_critic import ActorCritic
from learner.algorithms.base import Setup
from learner.experience.part import Part


class Mappo(ActorCritic):
    """Multi-agent PPO; all agents share parameters."""

    traits = TRAITS
    Options = OPTIONS

    @classmethod
    def inputs(cls, setup: Setup) -> int:
        sizes, options = setup.dimensions, setup.options
        return sizes.state_dim + (sizes.observation_dim if options.sees == "both" else 0)

    def seen(self, part: Part) -> Tensor:
        options: MappoOptions = self.setup.options
        state_TBNS = part.states.unsqueeze(2).expand(-1, -1, part.num_agents, -1)
        if options.sees == "state":
            return state_TBNS
        return torch.cat((state_TBNS, part.observations), dim=-1)


ALGORITHM = Mappo
