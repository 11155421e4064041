"""Everybody hears everybody: agents without processes against the unroll."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.comm.base import Heard
from agents.comm.full import Full
from agents.policy import initialise, views
from agents.version import PolicyVersion
from configs.schema import GateConfig
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, unroll
from learner.network import PolicyNetwork
from runtime.net.topology import MOST_EDGES
from tests.learner_helpers import array, make_spec, make_window

SPEC = replace(make_spec(message_dtype="float32"), scheme="full")
RULE = GateRule.of("full", GateConfig())


def network_of(num_agents: int) -> PolicyNetwork:
    network = PolicyNetwork(SPEC, num_agents)
    network.load_flat(initialise(SPEC, np.random.default_rng(0)) * np.float32(3.0))
    return network


def test_it_has_neither_beacons_nor_a_scorer() -> None:
    names = {name.partition(".")[0] for name, _ in SPEC.layout}
    assert names == {"encoder", "gru", "query", "key", "value", "message", "q_hidden", "q_out"}
    assert RULE.mode == "open"


@pytest.mark.parametrize("num_agents", [2, 6, 20])
def test_an_agent_computes_what_the_unroll_computes(num_agents: int) -> None:
    """Messages of everybody, with deaths: the numpy policy, agent by agent, from the rows that the
    others said.
    """
    network = network_of(num_agents)
    window = make_window(SPEC, time=5, batch=1, num_agents=num_agents)
    with torch.no_grad():
        output = unroll(network, window, RULE)
    version = PolicyVersion(SPEC, network.to_flat(), num_agents)
    observations, alive_TN = array(window.observations_TBND)[:, 0], array(window.alive_TBN)[:, 0]
    sources = np.array([Full.graph(num_agents, None).in_neighbours(i) for i in range(num_agents)])
    hidden = version.begin(num_agents)
    said = np.zeros((num_agents, SPEC.message), dtype=np.float32)
    sent = np.zeros((num_agents, num_agents - 1), dtype=np.bool_)  # by in-edge, a step before
    for t, observation in enumerate(observations):
        hidden = version.recur(observation, hidden, version.parts(hidden))
        parts = version.parts(hidden)
        tokens = np.concatenate((said[:, None], said[sources]), axis=1)
        present = np.concatenate((np.ones((num_agents, 1), dtype=np.bool_), sent), axis=1)
        steps = np.full(num_agents, t)
        nothing = np.zeros((num_agents, 0), dtype=np.float32)
        heard = Heard(said, tokens, present, steps, nothing, observation)
        message = version.message(parts, heard)
        q = version.q_values(parts, message)
        assert_allclose(array(output.q_TBNA)[t, 0], q, rtol=1e-4, atol=1e-4)
        # Sent by who lives, to those who were alive a step before.
        before = alive_TN[t - 1] if t else np.ones(num_agents, dtype=np.bool_)
        sent = alive_TN[t][sources] & before[:, None]
        said = message


def test_every_edge_between_the_living_is_open() -> None:
    window = make_window(SPEC, time=6, batch=2, num_agents=6)
    output = unroll(network_of(6), window, RULE)
    assert_array_equal(array(output.gates_TBNK), array(output.allowed_TBNK).astype(np.float32))
    first = array(output.gates_TBNK)[0].sum(-1)
    assert_array_equal(first, array(window.alive_TBN)[0] * 5.0)


def test_what_is_seen_reaches_everybody_in_one_step() -> None:
    window = make_window(SPEC, time=2, batch=1, num_agents=20, deaths=False)
    other = window.observations_TBND.clone()
    other[0, 0, 7] += 1.0
    network = network_of(20)
    seen = unroll(network, window, RULE).messages_TBNM
    changed = unroll(network, UnrollInput(other, window.alive_TBN), RULE).messages_TBNM
    assert_array_equal(array((seen[0, 0] != changed[0, 0]).any(-1)), np.arange(20) == 7)
    assert bool((seen[1, 0] != changed[1, 0]).any(-1).all())


def test_all_parameters_learn() -> None:
    network = network_of(6)
    window = make_window(SPEC, deaths=False)
    torch.autograd.backward(unroll(network, window, RULE).q_TBNA.square().sum())
    for name, parameter in network.tensors().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_more_agents_than_a_mask_can_name_are_refused() -> None:
    assert Full.graph(MOST_EDGES + 1, None).num_edges == MOST_EDGES
    with pytest.raises(ValueError, match="take fewer agents, or a scheme with fewer edges"):
        Full.graph(MOST_EDGES + 2, None)


def test_parameters_are_stored_under_the_names_of_the_layout() -> None:
    network = network_of(6)
    assert set(network.tensors()) == set(views(SPEC, network.to_flat()))
