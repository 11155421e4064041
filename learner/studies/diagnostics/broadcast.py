"""Broadcast coverage of a graph: how many agents know after S rounds what one agent knew at first.

    graph -> rounds: every informed agent contacts up to K neighbours -> share of informed agents

Figure 1 of the SOPS paper. A round is synchronous: agents that learn something in a round pass it
on in the next. An agent with more than K neighbours contacts K of them, drawn anew in every round,
uniformly and without replacement; it does not know who is informed already.

Dimension key: N = agents, D = most neighbours of an agent, S = rounds.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from runtime.net.topology import offsets

NOBODY = -1

GraphName = Literal["exponential", "er", "er-4", "torus"]


def neighbours_of(adjacency_NN: BoolArray) -> NDArray[np.int64]:
    """[N, D] whom each agent may contact, filled up with `NOBODY`."""
    degrees_N = adjacency_NN.sum(axis=1)
    neighbours_ND = np.full((len(adjacency_NN), max(int(degrees_N.max()), 1)), NOBODY)
    for agent, row_N in enumerate(adjacency_NN):
        found = np.flatnonzero(row_N)
        neighbours_ND[agent, : len(found)] = found
    return neighbours_ND


def exponential_adjacency(num_agents: int) -> BoolArray:
    """[N, N] directed: agent i contacts i + 1, i + 2, i + 4, … modulo N (equation 1)."""
    adjacency_NN = np.zeros((num_agents, num_agents), dtype=np.bool_)
    agents_N = np.arange(num_agents)
    for offset in offsets(num_agents):
        adjacency_NN[agents_N, (agents_N + offset) % num_agents] = True
    return adjacency_NN


def torus_adjacency(num_agents: int) -> BoolArray:
    """[N, N] a grid, closed at its edges, with the sides that are nearest to each other.

    Every agent has four neighbours, fewer where a side is shorter than three. A prime number of
    agents makes a ring.
    """
    height = max(d for d in range(1, math.isqrt(num_agents) + 1) if num_agents % d == 0)
    places_HW = np.arange(num_agents).reshape(height, -1)
    adjacency_NN = np.zeros((num_agents, num_agents), dtype=np.bool_)
    for axis in (0, 1):
        for step in (-1, 1):
            adjacency_NN[places_HW, np.roll(places_HW, step, axis)] = True
    np.fill_diagonal(adjacency_NN, False)
    return adjacency_NN


def random_adjacency(num_agents: int, degree: float, rng: np.random.Generator) -> BoolArray:
    """[N, N] Erdős–Rényi, undirected: every pair is joined with probability degree / (N - 1)."""
    drawn_NN = rng.random((num_agents, num_agents)) < degree / (num_agents - 1)
    upper_NN = np.triu(drawn_NN, 1)
    return upper_NN | upper_NN.T


def budget_of(num_agents: int) -> int:
    """K(N) = ceil(log2 N), contacts of an agent in a round; the degree of the exponential graph."""
    return (num_agents - 1).bit_length()


def rounds_of(num_agents: int, time_scale: float) -> int:
    """S = ceil(c log2 N)"""
    # Without rounding, c = 0.7 and N = 1024 would be 7.000000000000001 and so 8 rounds.
    return math.ceil(round(time_scale * math.log2(num_agents), 9))


def broadcast(
    neighbours_ND: NDArray[np.int64],
    source: int,
    budget: int,
    rounds: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """[S + 1] share of informed agents after 0, 1, …, S rounds.

    Args:
        neighbours_ND: of `neighbours_of`.
        source: who knows it at first.
        budget: K, contacts of an informed agent in a round.
        rng: draws the contacts of agents that have more neighbours than that.
    """
    num_agents = len(neighbours_ND)
    must_choose_N = (neighbours_ND != NOBODY).sum(axis=1) > budget
    informed_N = np.zeros(num_agents, dtype=np.bool_)
    informed_N[source] = True
    shares = [1.0 / num_agents]
    for _ in range(rounds):
        contacts = [neighbours_ND[informed_N & ~must_choose_N].ravel()]
        choosing_CD = neighbours_ND[informed_N & must_choose_N]
        if len(choosing_CD):
            lots_CD = rng.random(choosing_CD.shape)
            lots_CD[choosing_CD == NOBODY] = np.inf
            drawn_CK = np.argpartition(lots_CD, budget - 1, axis=1)[:, :budget]
            contacts.append(np.take_along_axis(choosing_CD, drawn_CK, axis=1).ravel())
        contacted = np.concatenate(contacts)
        informed_N[contacted[contacted != NOBODY]] = True
        shares.append(float(informed_N.mean()))
    return np.array(shares)
