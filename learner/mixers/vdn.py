"""VDN: the team's value is the sum of the agents' (Sunehag et al., 2017).

Dimension key: N = agents, S = state.
"""

from torch import Tensor, nn


class VDNMixer(nn.Module):
    """No parameters."""

    def forward(self, q_N: Tensor, state_S: Tensor) -> Tensor:
        """[…, N], […, S] -> […]; the state plays no part."""
        return q_N.sum(-1)
