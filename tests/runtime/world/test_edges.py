"""Edges in use: what senders report becomes what receivers wait for, in any graph."""

import numpy as np
import pytest

from runtime.net.topology import Graph, complete, exponential
from runtime.world.edges import EdgesInUse

GRAPHS = [exponential(20), complete(20), complete(65)]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: str(graph.num_edges))
def test_an_open_edge_is_told_to_its_receiver_alone(graph: Graph) -> None:
    edges = EdgesInUse(2, graph)
    sender, k = 3, graph.num_edges - 1
    edges.out_EN[1, sender] = 1 << k
    edges.messages_are_sent()
    receiver = graph.out_neighbours(sender)[k]
    assert int(edges.in_EN[1, receiver]) == 1 << k
    edges.in_EN[1, receiver] = 0
    assert not edges.in_EN.any()


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: str(graph.num_edges))
def test_a_sender_is_told_which_neighbours_are_there(graph: Graph) -> None:
    edges = EdgesInUse(1, graph)
    present_EN = np.zeros((1, graph.num_agents), dtype=np.bool_)
    present_EN[0, 5] = True
    edges.step_ends(present_EN)
    for agent in range(graph.num_agents):
        there = [peer == 5 for peer in graph.out_neighbours(agent)]
        mask = int(edges.peers_EN[0, agent])
        assert [bool(mask >> k & 1) for k in range(graph.num_edges)] == there


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: str(graph.num_edges))
def test_masks_of_another_width_and_edges_that_do_not_exist_are_refused(graph: Graph) -> None:
    edges = EdgesInUse(2, graph)
    ours = graph.mask_dtype
    other = np.uint64 if ours is np.uint16 else np.uint16
    assert edges.fits(np.zeros(2, dtype=ours))
    assert not edges.fits(np.zeros(2, dtype=other))
    assert edges.exist(np.full(2, (1 << graph.num_edges) - 1, dtype=ours))
    if graph.num_edges < 64:
        assert not edges.exist(np.full(2, 1 << graph.num_edges, dtype=ours))


def test_nothing_is_expected_of_victims() -> None:
    graph = complete(20)
    edges = EdgesInUse(1, graph)
    edges.out_EN[:] = (1 << graph.num_edges) - 1
    edges.messages_are_sent()
    edges.spare([7])
    for agent in range(graph.num_agents):
        heard = [
            peer
            for k, peer in enumerate(graph.in_neighbours(agent))
            if int(edges.in_EN[0, agent]) >> k & 1
        ]
        assert set(heard) == set(range(20)) - {7, agent}
