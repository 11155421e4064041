"""The torch twin of a network (agents/networks/base.py): the same function over whole sequences.

    observations of all steps, hidden before -> recur -> hidden of all steps

Dimension key: T = time, B = batch, N = agents, D = observation features, H = hidden.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from agents.policy import PolicySpec


class NetworkTwin:
    """Encoder and memory of a trainable policy."""

    layers: dict[str, nn.Module]
    """By the first word of their parameters' names in the layout. `learner.network.PolicyNetwork`
    has them as its own children: this object only calls them."""
    names: Mapping[str, str] = {}
    """Layout name -> torch's name, of parameters whose names differ."""

    is_row_by_row: ClassVar[bool] = False
    """Whether an agent's hidden states follow from its own observations alone, whoever stands
    beside it and at whatever place: then agents that are dead throughout are left out."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        self.spec = spec
        self.layers = {}

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        """[T, B, N, H] hidden states of a sequence in one call: they do not depend on messages.

        Args:
            hidden_BNH: before the first step; zeros where an episode begins.
        """
        raise NotImplementedError

    def uses(self) -> Mapping[str, int]:
        """How often an agent's step needs those of its layers that it does not need exactly
        once."""
        return {}
