"""Edges in use: what senders report becomes what receivers wait for, in any graph."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from runtime.net.topology import Graph, complete, exponential
from runtime.world.edges import EdgesInUse

GRAPHS = [exponential(20), complete(20), complete(65), complete(66), complete(115)]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: str(graph.num_edges))
def test_an_open_edge_is_told_to_its_receiver_alone(graph: Graph) -> None:
    edges = EdgesInUse(2, graph)
    sender, k = 3, graph.num_edges - 1
    edges.out_EN[1, sender] = graph.edge_bits.of_each[k]
    edges.messages_are_sent()
    receiver = graph.out_neighbours(sender)[k]
    assert_array_equal(edges.in_EN[1, receiver], graph.edge_bits.of_each[k])
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
        assert_array_equal(graph.edge_bits.unpack(edges.peers_EN[0, agent]), there)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: str(graph.num_edges))
def test_masks_of_another_width_and_edges_that_do_not_exist_are_refused(graph: Graph) -> None:
    edges = EdgesInUse(2, graph)
    bits = graph.edge_bits
    other = np.uint64 if bits.dtype is np.uint16 else np.uint16
    assert edges.fits(bits.zeros(2))
    assert not edges.fits(bits.zeros(2).astype(other))
    assert not edges.fits(bits.zeros(3))
    assert not edges.fits(np.zeros((2, 3), dtype=bits.dtype))
    every = bits.pack(np.ones((2, graph.num_edges), dtype=np.bool_))
    assert edges.exist(every)
    if graph.num_edges % 64:
        *_, last = every.reshape(-1)
        beyond = every.copy()
        beyond.reshape(-1)[-1] = last + bits.dtype(1)
        assert not edges.exist(beyond)


@pytest.mark.parametrize("size", [20, 115])
def test_nothing_is_expected_of_victims(size: int) -> None:
    graph = complete(size)
    edges = EdgesInUse(1, graph)
    edges.out_EN[:] = graph.edge_bits.every
    edges.messages_are_sent()
    edges.spare([7])
    for agent in range(size):
        heard = graph.edge_bits.unpack(edges.in_EN[0, agent])
        peers = np.array(graph.in_neighbours(agent))[heard]
        assert set(peers.tolist()) == set(range(size)) - {7, agent}
