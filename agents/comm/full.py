"""Everybody hears everybody: attention over the messages of all agents, in every step.

    own last message and those of all others -> attention by h -> message -> Q head, everybody

The dense end of what SOPS thins out: its message (agents/comm/attention.py) on the complete graph,
with no gate, for at most 65 agents. An agent sends N - 1 messages in each step.
"""

from typing import Any

from agents.comm.attention import Attention
from runtime.net.topology import Graph, complete


class Full(Attention):
    """One version of it, ready to run."""

    twin = "learner.comm.full:FullTwin"

    @classmethod
    def graph(cls, num_agents: int, options: Any) -> Graph:
        return complete(num_agents)


SCHEME = Full
