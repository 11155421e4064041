"""Graphs on a ring of N agents: who may send to whom.

    offsets (1, 2, 4)  ->  agent i may send to i + 1, i + 2, i + 4 and hear from i - 1, i - 2, i - 4

The backbone is the exponential graph (SOPS, equation 1): every power of two up to N - 1, which are
K = floor(log2(N - 1)) + 1 offsets. With all offsets from 1 to N - 1 everybody may send to
everybody. The self-loop is always there and costs nothing. Neighbours are rotations, so the
backbone needs nothing of size N x N.
"""

from dataclasses import dataclass

import numpy as np

from configs.arrays import BoolArray
from configs.schema.limits import MOST_EDGES
from runtime.net.edge_bits import EdgeBits, edge_bits


@dataclass(frozen=True, slots=True)
class Graph:
    """Edges that exist; which of them carry something at a step is a scheme's own decision."""

    num_agents: int
    offsets: tuple[int, ...]
    """Ascending, each from 1 to N - 1."""
    wired: bool = True
    """Whether packets go along the edges, and masks name them; else there may be any number."""

    def __post_init__(self) -> None:
        ascending = tuple(sorted(set(self.offsets)))
        if (
            not self.offsets
            or ascending != self.offsets
            or not (self.offsets[0] >= 1 and self.offsets[-1] < self.num_agents)
        ):
            raise ValueError(
                f"offsets of {self.num_agents} agents ascend from 1 to at most "
                f"{self.num_agents - 1}, got {self.offsets}"
            )
        if self.wired and len(self.offsets) > MOST_EDGES:
            raise ValueError(
                f"an agent may have {MOST_EDGES} out-edges, and with {self.num_agents} agents it "
                f"would have {len(self.offsets)}: take fewer agents, or a scheme with fewer edges"
            )

    @property
    def num_edges(self) -> int:
        """K, out-edges of an agent and in-edges as well."""
        return len(self.offsets)

    @property
    def edge_bits(self) -> EdgeBits:
        """How masks of an agent's edges are written; those of a graph without packets name none,
        and are narrow at any size.
        """
        return edge_bits(self.num_edges if self.wired else 1)

    @property
    def diameter(self) -> int:
        """Steps until a message has reached every agent (breadth-first; the same from every
        agent).
        """
        hops_to = {0: 0}
        frontier: list[int] = [0]
        while frontier:
            reached = [(at + step) % self.num_agents for at in frontier for step in self.offsets]
            hops = hops_to[frontier[0]] + 1
            frontier = []
            for at in reached:
                if at not in hops_to:
                    hops_to[at] = hops
                    frontier.append(at)
        return max(hops_to.values())

    def out_neighbours(self, agent: int) -> tuple[int, ...]:
        """[K] agents that `agent` may send to, by offset."""
        return tuple((agent + offset) % self.num_agents for offset in self.offsets)

    def in_neighbours(self, agent: int) -> tuple[int, ...]:
        """[K] agents that `agent` may hear from, by offset: entry k sends over its own edge k."""
        return tuple((agent - offset) % self.num_agents for offset in self.offsets)

    def edges_of_ends(self, agents: BoolArray) -> BoolArray:
        """[…, N] -> […, N, K] of what is said of agents, that of the out-neighbours."""
        ends_NK = np.arange(self.num_agents)[:, None] + np.array(self.offsets)
        return agents[..., ends_NK % self.num_agents]

    def edges_of(self, pairs: BoolArray) -> BoolArray:
        """[…, N, N] -> […, N, K] of what is said of pairs, that of the edges: entry (i, k) is that
        of i and its out-neighbour k.
        """
        agents_N1 = np.arange(self.num_agents)[:, None]
        return pairs[..., agents_N1, (agents_N1 + np.array(self.offsets)) % self.num_agents]


def exponential(num_agents: int) -> Graph:
    """The backbone of SOPS and ExpoComm.

    Raises:
        ValueError: fewer than two agents.
    """
    return Graph(num_agents, offsets(num_agents))


def complete(num_agents: int) -> Graph:
    """Everybody may send to everybody.

    Raises:
        ValueError: fewer than two agents, or more than MOST_EDGES + 1.
    """
    return Graph(num_agents, tuple(range(1, num_agents)))


def offsets(num_agents: int) -> tuple[int, ...]:
    """Powers of two up to N - 1, ascending: N = 20 gives (1, 2, 4, 8, 16).

    Raises:
        ValueError: fewer than two agents have no edges.
    """
    if num_agents < 2:
        raise ValueError(f"a backbone needs at least 2 agents, got {num_agents}")
    return tuple(1 << k for k in range((num_agents - 1).bit_length()))


def out_neighbours(agent: int, num_agents: int) -> tuple[int, ...]:
    """[K] agents that `agent` may send to, by offset."""
    return tuple((agent + offset) % num_agents for offset in offsets(num_agents))


def in_neighbours(agent: int, num_agents: int) -> tuple[int, ...]:
    """[K] agents that `agent` may hear from, by offset: entry k sends over its own offset k."""
    return tuple((agent - offset) % num_agents for offset in offsets(num_agents))


def diameter(num_agents: int) -> int:
    """Of the backbone: at most ceil(log2(N - 1)), the paper's figure, and often less: N = 16 needs
    4, N = 100 needs 5.
    """
    return exponential(num_agents).diameter
