"""Broadcasts on graphs whose coverage is known by hand, and figure 1 made of them."""

from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from learner.studies.analysis import Finished
from learner.studies.diagnostics.broadcast import (
    broadcast,
    budget_of,
    exponential_adjacency,
    neighbours_of,
    random_adjacency,
    rounds_of,
    torus_adjacency,
)
from learner.studies.diagnostics.broadcast_maps import (
    BroadcastOptions,
    cells,
    study,
)
from runtime.net.topology import exponential

SMALL = BroadcastOptions(
    populations=(16, 100), time_scales=(0.5, 1.0), sources=3, resamples=3, seed=1
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_on_the_exponential_graph_a_round_is_a_further_power_of_two() -> None:
    neighbours_ND = neighbours_of(exponential_adjacency(16))
    shares = broadcast(neighbours_ND, source=5, budget=4, rounds=5, rng=rng())
    # Agents at a distance with at most S ones in binary: 1, 5, 11, 15 and all 16.
    np.testing.assert_allclose(shares * 16, [1, 5, 11, 15, 16, 16])


def test_the_exponential_graph_is_the_backbone_and_its_degree_the_budget() -> None:
    for agents in (5, 16, 20, 42, 64, 65, 121):
        adjacency_NN = exponential_adjacency(agents)
        assert (adjacency_NN.sum(axis=1) == budget_of(agents)).all()
        assert set(np.flatnonzero(adjacency_NN[3])) == set(exponential(agents).out_neighbours(3))


def test_contacts_are_directed() -> None:
    chain_NN = np.eye(4, k=1, dtype=np.bool_)
    assert broadcast(neighbours_of(chain_NN), 1, 1, 5, rng())[-1] == 0.75


def test_an_agent_with_more_neighbours_than_its_budget_contacts_so_many_and_draws_anew() -> None:
    star_NN = np.zeros((11, 11), dtype=np.bool_)
    star_NN[0, 1:] = True
    neighbours_ND = neighbours_of(star_NN)
    first = [broadcast(neighbours_ND, 0, 3, 1, np.random.default_rng(s))[1] for s in range(20)]
    np.testing.assert_allclose(first, 4 / 11)
    # It does not know whom it has told: the second round repeats some, 3 × 0.7 are new on average.
    second = [broadcast(neighbours_ND, 0, 3, 2, np.random.default_rng(s))[2] for s in range(400)]
    assert np.mean(second) * 11 == pytest.approx(4 + 3 * 0.7, abs=0.15)
    assert broadcast(neighbours_ND, 0, 3, 60, rng())[-1] == 1.0


def test_who_has_fewer_neighbours_than_the_budget_contacts_them_all() -> None:
    ring_NN = np.roll(np.eye(9, dtype=np.bool_), 1, axis=1)
    np.testing.assert_allclose(broadcast(neighbours_of(ring_NN), 8, 4, 3, rng()) * 9, [1, 2, 3, 4])


def test_a_torus_spreads_as_a_diamond() -> None:
    adjacency_NN = torus_adjacency(81)
    assert (adjacency_NN.sum(axis=1) == 4).all()
    assert (adjacency_NN == adjacency_NN.T).all()
    shares = broadcast(neighbours_of(adjacency_NN), 40, 7, 3, rng())
    np.testing.assert_allclose(shares * 81, [1, 5, 13, 25])


@pytest.mark.parametrize(("agents", "degrees"), [(7, {2}), (6, {3}), (20, {4})])
def test_a_torus_of_any_population_has_no_edge_twice_and_none_to_oneself(
    agents: int, degrees: set[int]
) -> None:
    adjacency_NN = torus_adjacency(agents)
    assert set(adjacency_NN.sum(axis=1).tolist()) == degrees
    assert not adjacency_NN.diagonal().any()


def test_a_random_graph_is_undirected_and_has_the_degree_that_was_asked_for() -> None:
    adjacency_NN = random_adjacency(1000, 10.0, rng())
    assert (adjacency_NN == adjacency_NN.T).all()
    assert not adjacency_NN.diagonal().any()
    assert adjacency_NN.sum(axis=1).mean() == pytest.approx(10.0, abs=0.4)


def test_an_agent_that_nobody_knows_stays_uninformed() -> None:
    alone_NN = np.zeros((3, 3), dtype=np.bool_)
    np.testing.assert_allclose(broadcast(neighbours_of(alone_NN), 0, 2, 2, rng()), 1 / 3)


@pytest.mark.parametrize(
    ("agents", "scale", "rounds"), [(1024, 0.7, 7), (1024, 0.71, 8), (20, 1.0, 5), (64, 0.25, 2)]
)
def test_rounds_are_rounded_up(agents: int, scale: float, rounds: int) -> None:
    assert rounds_of(agents, scale) == rounds


def test_cells_follow_from_the_seed_and_a_longer_time_never_covers_less() -> None:
    found = cells(SMALL)
    assert found == cells(SMALL)
    by_place = {(c.graph, c.agents, c.time_scale): c for c in found}
    assert len(by_place) == 4 * 2 * 2
    assert by_place["exponential", 16, 0.5].coverage == pytest.approx(11 / 16)
    for graph, agents, scale in by_place:
        if scale == 0.5:
            later = by_place[graph, agents, 1.0]
            assert later.coverage >= by_place[graph, agents, scale].coverage
    torus, er = by_place["torus", 100, 0.5], by_place["er", 100, 0.5]
    assert torus.coverage < by_place["exponential", 100, 0.5].coverage
    assert (torus.graphs, torus.error, er.graphs) == (1, 0.0, 3)


def test_figure_one_is_a_file_of_cells_a_table_and_a_picture(tmp_path: Path) -> None:
    options = {"populations": [16, 100], "time_scales": [0.5, 1.0], "sources": 3, "resamples": 3}
    text = study(Finished("sops-fig1", "smoke", tmp_path, (), options, {}))
    assert "| 0.5 | 0.69 | 0.92 |" in text
    lines = (tmp_path / "broadcast.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 2 * 2
    assert lines[1].startswith("exponential,16,4,4.0,0.5,2,0.6875,0.0,1,3")
    assert (tmp_path / "broadcast.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"sops-fig1: .*densities"):
        study(Finished("sops-fig1", "smoke", tmp_path, (), {"densities": [1]}, {}))
