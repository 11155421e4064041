"""Schemes that one place computes for all agents, so that no process can be an agent.

    a run's world -> all observations -> the torch twin -> all actions -> the world
                                         (learner/central.py)

Such a scheme has parameters and a twin, and no numpy side: what it needs of other agents in a step
cannot be had by messages along edges. It trains with `--serial` and is evaluated with `--simulate`;
everything else refuses it in one line.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agents.comm.base import Scheme
from configs.arrays import FloatArray
from configs.errors import UserError

if TYPE_CHECKING:
    from agents.policy import PolicySpec


class CentralisedError(UserError, ValueError):
    """An agent was asked to run what only a centre can."""


def refusal(comm: str, way_out: str) -> CentralisedError:
    """What is said of such a scheme where agents are processes of their own."""
    return CentralisedError(
        f"--comm {comm} computes all agents in one place, so none can run on its own: {way_out}"
    )


class Centralised(Scheme):
    """Derive from it, and give a layout, a graph and a twin."""

    centralised = True

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        raise refusal(spec.scheme, "evaluate its policy with runtime.evaluate --simulate")
