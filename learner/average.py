"""The average of the policy's latest parameters, for agents to act with.

    online policy --(each gradient step, rate)--> average --> published versions, policy file

Near the end of a training each step still moves the greedy policy: of two neighbouring versions one
may win and the other lose. Their average lies between them and moves less (Polyak and Juditsky
1992, averaged iterates; the exponential weights forget the beginning). The learner itself, its
targets included, goes on with the newest parameters.
"""

import copy

import torch

from learner.network import PolicyNetwork
from learner.sparse.topology import Topology


class Average:
    """A slow copy of the policy."""

    def __init__(self, policy: PolicyNetwork, rate: float) -> None:
        """Begin with the policy as it is.

        Args:
            rate: share of the newest parameters after each step.
        """
        self.network = copy.deepcopy(policy).requires_grad_(False)
        self._policy = policy
        self._rate = rate

    @torch.no_grad()
    def follow(self, topology: Topology | None) -> None:
        """A step has been taken."""
        for kept, fresh in zip(self.network.parameters(), self._policy.parameters(), strict=True):
            kept.lerp_(fresh, self._rate)
            if topology is not None:
                topology.cut(kept, fresh)
