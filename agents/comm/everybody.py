"""What schemes have in common that reach everybody, or with `neighbours=true` the neighbours of the
moment: the complete graph, over which an agent that moves sends to those alone who are near.
"""

from typing import Any

from agents.comm.base import Scheme
from runtime.net.topology import Graph, complete


class Everybody(Scheme):
    """A scheme whose Options have `neighbours`."""

    @classmethod
    def graph(cls, num_agents: int, options: Any) -> Graph:
        return complete(num_agents)

    @classmethod
    def moves(cls, options: Any) -> bool:
        return options.neighbours
