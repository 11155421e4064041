"""MAT: a transformer decides for one agent after the other (Wen et al., 2022).

mu(a_i | what all agents see, a_1 … a_i-1)
loss = -min(r A, clip(r) A) - entropy + value error,     r = mu / mu_old

It decides in the learner's process, in training and in evaluations. No agent can act by itself
afterwards.
"""

from configs.algorithms.mat import OPTIONS, TRAITS
from learner.algorithms.base import Setup
from learner.algorithms.guided import make_mat
from learner.algorithms.sable import Sable
from learner.guides.base import Guide


class Mat(Sable):
    """PPO of a policy for all agents, without memory."""

    traits = TRAITS
    Options = OPTIONS

    @classmethod
    def make_guide(cls, setup: Setup) -> Guide:
        return make_mat(setup)


ALGORITHM = Mat
