"""Coverage and out-degree of graphs small enough to count by hand."""

import numpy as np
import pytest

from configs.arrays import BoolArray
from learner.studies.diagnostics.coverage import (
    adjacency,
    coverage,
    coverage_over_time,
    open_graph,
    out_degree,
    random_graph,
    whole_graph,
)
from learner.studies.diagnostics.realised import RealisedEpisode
from runtime.net.topology import offsets


def graphs(agents: int, *steps: list[tuple[int, int]]) -> BoolArray:
    """[T, N, N] from the edges of each step."""
    graph_TNN = np.zeros((len(steps), agents, agents), dtype=np.bool_)
    for graph_NN, edges in zip(graph_TNN, steps, strict=True):
        for sender, receiver in edges:
            graph_NN[sender, receiver] = True
    return graph_TNN


def all_alive(steps: int, agents: int) -> BoolArray:
    return np.ones((steps, agents), dtype=np.bool_)


def episode(open_TNK: BoolArray, alive_TN: BoolArray) -> RealisedEpisode:
    return RealisedEpisode(alive_TN, alive_TN, np.ones_like(open_TNK), open_TNK)


CHAIN = [(0, 1), (1, 2), (2, 3)]


def test_edge_k_leads_offset_k_further_around_the_ring() -> None:
    open_TNK = np.zeros((1, 5, 3), dtype=np.bool_)
    open_TNK[0, 4, 1] = open_TNK[0, 2, 2] = True
    assert np.argwhere(adjacency(open_TNK, (1, 2, 4))[0]).tolist() == [[2, 1], [4, 1]]


def test_coverage_counts_ordered_pairs_joined_by_a_path_of_the_step() -> None:
    found = coverage(graphs(4, CHAIN), all_alive(1, 4), (1, 2, 3))
    np.testing.assert_allclose(found, np.array([3, 5, 6]) / 12)


def test_coverage_is_the_mean_over_steps() -> None:
    found = coverage(graphs(4, CHAIN, []), all_alive(2, 4), (3,))
    np.testing.assert_allclose(found, [(6 / 12 + 0) / 2])


def test_the_dead_are_no_pairs_and_steps_of_a_single_survivor_do_not_count() -> None:
    alive_TN = np.array([[True, True, False, False], [True, False, False, False]])
    found = coverage(graphs(4, [(0, 1)], []), alive_TN, (1,))
    np.testing.assert_allclose(found, [1 / 2])
    assert np.isnan(coverage(graphs(4, []), alive_TN[1:], (1,))).all()


def test_a_dead_agent_that_relays_joins_others() -> None:
    alive_TN = np.array([[True, False, True]])
    np.testing.assert_allclose(coverage(graphs(3, [(0, 1), (1, 2)]), alive_TN, (2,)), [1 / 2])


def test_over_time_hops_take_successive_steps() -> None:
    in_order = graphs(4, [(0, 1)], [(1, 2)], [(2, 3)])
    alive_TN = all_alive(3, 4)
    # From step 0: 0 reaches 1, then 2, and 1 reaches 2. From step 1: 1 reaches 2, 3; 2 reaches 3.
    np.testing.assert_allclose(coverage_over_time(in_order, alive_TN, (2,)), [3 / 12])
    # 0 reaches 1, 2, 3; 1 reaches 2, 3; 2 reaches 3.
    np.testing.assert_allclose(coverage_over_time(in_order, alive_TN, (3,)), [6 / 12])
    against = in_order[::-1]
    np.testing.assert_allclose(coverage_over_time(against, alive_TN, (3,)), [3 / 12])


def test_over_time_an_agent_keeps_what_it_knows() -> None:
    waits = graphs(3, [(0, 1)], [], [(1, 2)])
    found = coverage_over_time(waits, all_alive(3, 3), (3,))
    np.testing.assert_allclose(found, [3 / 6])


def test_over_time_pairs_live_at_both_ends() -> None:
    alive_TN = np.array([[True, True, True], [True, True, False]])
    found = coverage_over_time(graphs(3, [(0, 1), (0, 2)], []), alive_TN, (2,))
    np.testing.assert_allclose(found, [1 / 2])


def test_over_time_an_episode_shorter_than_the_hops_says_nothing() -> None:
    found = coverage_over_time(graphs(3, [(0, 1)]), all_alive(1, 3), (1, 2))
    np.testing.assert_allclose(found, [1 / 6, np.nan])


def test_of_a_graph_that_stands_still_both_readings_say_the_same() -> None:
    rng = np.random.default_rng(0)
    graph_TNN = np.repeat(rng.random((1, 12, 12)) < 0.15, 6, axis=0)
    alive_TN = all_alive(6, 12)
    np.testing.assert_allclose(
        coverage(graph_TNN, alive_TN), coverage_over_time(graph_TNN, alive_TN)
    )


def test_with_all_edges_coverage_is_that_of_the_backbone() -> None:
    agents = 64
    everything = episode(np.ones((1, agents, 6), dtype=np.bool_), all_alive(1, agents))
    whole = coverage(whole_graph(everything, offsets(agents)), everything.alive_TN)
    # Distances of at most h ones in binary: 21, 41 and 56 of 63.
    np.testing.assert_allclose(whole, np.array([21, 41, 56]) / 63)
    opened = coverage(open_graph(everything, offsets(agents)), everything.alive_TN)
    np.testing.assert_allclose(opened, whole)
    assert out_degree(everything) == 6


def test_an_edge_to_the_dead_is_open_but_leads_nowhere() -> None:
    alive_TN = np.array([[True, False, True]])
    open_TNK = np.zeros((1, 3, 2), dtype=np.bool_)
    open_TNK[0, 0] = True
    of = episode(open_TNK, alive_TN)
    assert np.argwhere(open_graph(of, (1, 2))[0]).tolist() == [[0, 2]]
    assert out_degree(of) == pytest.approx(2 / 2)


def test_a_random_graph_has_as_many_edges_between_those_who_take_part() -> None:
    alive_TN = np.array([[True, True, True, False, True]])
    open_TNN = graphs(5, [(0, 1), (1, 2), (0, 2), (4, 0)])
    drawn = random_graph(open_TNN, alive_TN, np.random.default_rng(0))
    assert drawn.sum() == 4
    assert not drawn[0].diagonal().any()
    assert not drawn[0, 3].any()
    assert not drawn[0, :, 3].any()
