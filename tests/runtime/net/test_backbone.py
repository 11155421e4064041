import math
from collections import deque

import numpy as np
import pytest

from runtime.net import topology
from runtime.net.topology import Graph, complete, exponential

POPULATIONS = [*range(2, 40), 64, 65, 100, 128, 129, 257]


def farthest(num_agents: int) -> int:
    """Hops to the agent that is farthest from agent 0, by walking the graph."""
    hops = {0: 0}
    queue = deque([0])
    while queue:
        agent = queue.popleft()
        for neighbour in topology.out_neighbours(agent, num_agents):
            if neighbour not in hops:
                hops[neighbour] = hops[agent] + 1
                queue.append(neighbour)
    assert len(hops) == num_agents, "some agent cannot be reached"
    return max(hops.values())


@pytest.mark.parametrize(
    ("num_agents", "expected"),
    [
        (2, (1,)),
        (3, (1, 2)),
        (4, (1, 2)),
        (5, (1, 2, 4)),
        (20, (1, 2, 4, 8, 16)),
        (64, (1, 2, 4, 8, 16, 32)),
        (65, (1, 2, 4, 8, 16, 32, 64)),
        (100, (1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_offsets_are_the_powers_of_two_below_n(num_agents: int, expected: tuple[int, ...]) -> None:
    assert topology.offsets(num_agents) == expected


@pytest.mark.parametrize("num_agents", POPULATIONS)
def test_number_of_offsets_is_the_papers_k(num_agents: int) -> None:
    assert len(topology.offsets(num_agents)) == math.floor(math.log2(num_agents - 1)) + 1


@pytest.mark.parametrize("num_agents", POPULATIONS)
def test_hearing_is_the_inverse_of_sending_offset_by_offset(num_agents: int) -> None:
    for agent in range(num_agents):
        for k, target in enumerate(topology.out_neighbours(agent, num_agents)):
            assert topology.in_neighbours(target, num_agents)[k] == agent


@pytest.mark.parametrize("num_agents", POPULATIONS)
def test_neighbours_are_distinct_and_never_oneself(num_agents: int) -> None:
    for agent in range(num_agents):
        for neighbours in (topology.out_neighbours, topology.in_neighbours):
            found = neighbours(agent, num_agents)
            assert len({*found, agent}) == len(found) + 1
            assert all(0 <= neighbour < num_agents for neighbour in found)


@pytest.mark.parametrize("num_agents", POPULATIONS)
def test_diameter_is_what_a_walk_of_the_graph_finds(num_agents: int) -> None:
    assert topology.diameter(num_agents) == farthest(num_agents)


@pytest.mark.parametrize("num_agents", POPULATIONS)
def test_diameter_is_never_above_the_papers_figure(num_agents: int) -> None:
    papers = math.ceil(math.log2(num_agents - 1)) if num_agents > 2 else 1
    assert topology.diameter(num_agents) <= max(papers, 1)


@pytest.mark.parametrize(("num_agents", "diameter"), [(2, 1), (16, 4), (100, 5)])
def test_diameter_of_known_populations(num_agents: int, diameter: int) -> None:
    assert topology.diameter(num_agents) == diameter


def test_papers_example_of_neighbours() -> None:
    assert topology.out_neighbours(18, 20) == (19, 0, 2, 6, 14)
    assert topology.in_neighbours(1, 20) == (0, 19, 17, 13, 5)


@pytest.mark.parametrize("num_agents", [-1, 0, 1])
def test_population_without_edges_is_refused(num_agents: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 agents, got {num_agents}"):
        topology.offsets(num_agents)


@pytest.mark.parametrize("graph", [exponential(20), complete(20), complete(65), Graph(7, (2, 3))])
def test_an_edge_has_the_same_number_at_both_ends(graph: Graph) -> None:
    for agent in range(graph.num_agents):
        for k, peer in enumerate(graph.out_neighbours(agent)):
            assert graph.in_neighbours(peer)[k] == agent


def test_the_complete_graph_reaches_everybody_but_oneself() -> None:
    assert set(complete(9).out_neighbours(4)) == set(range(9)) - {4}


def test_masks_are_as_wide_as_the_graph_has_edges() -> None:
    assert exponential(4096).edge_bits.dtype is np.uint16
    assert complete(17).edge_bits.dtype is np.uint16
    assert complete(18).edge_bits.dtype is np.uint64
    assert complete(65).edge_bits.shape == ()
    assert complete(66).edge_bits.shape == (2,)
    assert Graph(300, tuple(range(1, 300)), wired=False).edge_bits.shape == ()


@pytest.mark.parametrize(
    ("num_agents", "offsets", "says"),
    [
        (258, tuple(range(1, 258)), "256 out-edges, and with 258 agents it would have 257"),
        (5, (2, 1), "ascend"),
        (5, (1, 5), "at most 4"),
        (5, (), "ascend"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(
    num_agents: int, offsets: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Graph(num_agents, offsets)
