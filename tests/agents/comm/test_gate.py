import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from agents.comm.gate import EDGE_FEATURES, Scorer, edge_features, logistic_noise, within_budget
from agents.policy import views
from configs.schema import GateMode
from runtime.net import topology
from tests.agents_helpers import (
    OPEN_ALL,
    SPEC,
    acted,
    edges_of,
    make_agent,
    make_flat,
    make_network,
    make_rules,
    observation,
    sops,
)

POPULATIONS = (*range(2, 70), 100, 127, 128, 129, 1000, 4095, 4096)


def test_edge_features_are_finite_and_bounded_for_every_population() -> None:
    for num_agents in POPULATIONS:
        features = edge_features(num_agents)
        assert features.shape == (len(topology.offsets(num_agents)), EDGE_FEATURES)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert np.abs(features).max() <= 11 / 8  # 4096 agents have offsets 0 to 11


def test_every_offset_of_a_population_has_features_of_its_own() -> None:
    for num_agents in POPULATIONS:
        features = edge_features(num_agents)
        assert len(np.unique(features, axis=0)) == len(features)


def test_edge_features_are_what_they_say() -> None:
    # Of eight agents, offset 2 is a quarter of the ring.
    expected = [
        [0.0, 0.125, np.sqrt(0.5), np.sqrt(0.5)],
        [0.125, 0.25, 1.0, 0.0],
        [0.25, 0.5, 0.0, -1.0],
    ]
    assert_allclose(edge_features(8), expected, atol=1e-7)


def test_an_index_means_the_same_offset_at_every_population() -> None:
    # What training at N=20 learns about offset 2^3 is found again at N=100.
    assert_array_equal(edge_features(20)[:, 0], edge_features(100)[:5, 0])


def score_one(own: np.ndarray, peer: np.ndarray, k: int, num_agents: int) -> float:
    """Equation 2 for one edge as it is written: a two-layer net on the concatenation."""
    tensors = views(SPEC, make_flat())
    features = edge_features(num_agents)[k]
    embedding = np.tanh(tensors["edge.weight"] @ features + tensors["edge.bias"])
    pair = np.concatenate((own, peer, embedding))
    hidden = np.maximum(tensors["scorer_hidden.weight"] @ pair + tensors["scorer_hidden.bias"], 0)
    score = tensors["scorer_out.weight"] @ hidden + tensors["scorer_out.bias"]
    return float(score[0])


@pytest.mark.parametrize("num_agents", [2, 6, 20])
def test_scorer_equals_the_concatenation(num_agents: int) -> None:
    rng = np.random.default_rng(1)
    offsets, copies = len(topology.offsets(num_agents)), 3
    own_EZ = rng.uniform(-1, 1, (copies, SPEC.beacon)).astype(np.float32)
    peers_EKZ = rng.uniform(-1, 1, (copies, offsets, SPEC.beacon)).astype(np.float32)
    scorer = Scorer(views(SPEC, make_flat()), edge_features(num_agents))
    expected_EK = [
        [score_one(own_EZ[e], peers_EKZ[e, k], k, num_agents) for k in range(offsets)]
        for e in range(copies)
    ]
    # The order of additions differs.
    assert_allclose(scorer(own_EZ, peers_EKZ), expected_EK, rtol=1e-5, atol=1e-5)


def test_a_score_tells_sender_from_receiver() -> None:
    rng = np.random.default_rng(1)
    own, peer = rng.uniform(-1, 1, (2, 1, SPEC.beacon)).astype(np.float32)
    scorer = sops(make_network(num_agents=2)).scorer
    assert scorer(own, peer[:, None]) != pytest.approx(scorer(peer, own[:, None]))


def test_a_score_depends_on_its_own_receiver_only() -> None:
    rng = np.random.default_rng(1)
    own_EZ = rng.uniform(-1, 1, (1, SPEC.beacon)).astype(np.float32)
    peers_EKZ = rng.uniform(-1, 1, (1, 3, SPEC.beacon)).astype(np.float32)
    scorer = sops(make_network()).scorer
    before = scorer(own_EZ, peers_EKZ)[0]
    peers_EKZ[0, 1] = -peers_EKZ[0, 1]
    changed = scorer(own_EZ, peers_EKZ)[0] != before
    assert_array_equal(changed, [False, True, False])


def test_noise_is_logistic_by_its_moments() -> None:
    noise = logistic_noise(np.random.default_rng(0), (200, 1000)).astype(np.float64)
    assert noise.shape == (200, 1000)
    # Five standard errors of 200 000 draws.
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 3, rel=0.02)
    # Its tails: a logistic kurtosis is 4.2, a normal one 3.
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(4.2, abs=0.15)
    assert (noise > 1.0).mean() == pytest.approx(1.0 / (1.0 + np.e), abs=0.006)


def test_noise_is_float32_and_comes_from_the_generator_given() -> None:
    first, second = (logistic_noise(np.random.default_rng(5), (2, 3)) for _ in range(2))
    assert first.dtype == np.float32
    assert_array_equal(first, second)


def test_a_budget_opens_the_highest_scores() -> None:
    scores = np.array([[0.5, 3.0, 1.0, 2.0], [4.0, 3.0, 2.0, 1.0]], dtype=np.float32)
    chosen = within_budget(scores, scores > 0.0, 2)
    assert_array_equal(chosen, [[False, True, False, True], [True, True, False, False]])


def test_of_equal_scores_a_budget_opens_the_lower_offset() -> None:
    scores = np.array([[1.0, 2.0, 1.0, 2.0, 2.0]], dtype=np.float32)
    assert_array_equal(within_budget(scores, scores > 0.0, 2), [[False, True, False, True, False]])
    assert_array_equal(within_budget(scores, scores > 0.0, 4), [[True, True, False, True, True]])


def test_a_budget_opens_no_edge_that_would_be_closed_without_it() -> None:
    scores = np.array([[5.0, -1.0, 4.0, -2.0]], dtype=np.float32)
    candidates = scores > 0.0
    candidates[0, 0] = False  # its receiver is dead: it must not use up the budget either
    assert_array_equal(within_budget(scores, candidates, 1), [[False, False, True, False]])
    assert_array_equal(within_budget(scores, candidates, 3), candidates)


@pytest.mark.parametrize("budget", [0, 3, 12])
def test_no_budget_or_a_large_one_closes_nothing(budget: int) -> None:
    candidates = np.array([[True, False, True]])
    assert_array_equal(within_budget(np.ones((1, 3), np.float32), candidates, budget), candidates)


@pytest.mark.parametrize("mode", ["learned", "open"])
def test_an_agent_sends_over_no_more_edges_than_its_budget(mode: GateMode) -> None:
    rules = make_rules(mode=mode)
    flat = make_flat(score_bias=OPEN_ALL)
    sent: list[set[int]] = []
    for budget in range(1, len(topology.offsets(rules.num_agents)) + 1):
        agent = make_agent(dataclasses.replace(rules, gate_budget=budget), flat=flat)
        commands = agent.handle(observation(rules, 1))
        sent.append(edges_of(commands))
        assert len(sent[-1]) == budget
        assert acted(commands).out_masks == sum(1 << k for k in sent[-1])
    for fewer, more in pairwise(sent):
        assert fewer < more
    # Without a scorer all edges are equal, and of equal ones the lower offset is taken.
    assert mode == "learned" or sent[0] == {0}
