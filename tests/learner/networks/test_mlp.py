"""A memoryless network, as agents and learner compute it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import PolicySpec, initialise, views
from agents.version import PolicyVersion
from configs.options import OptionsError
from learner.network import PolicyNetwork
from tests.agents_helpers import SPEC

LENGTH, AGENTS = 5, 6


def mlp(options: str = "") -> PolicySpec:
    return replace(SPEC, network="mlp", network_options=options)


@pytest.mark.parametrize("options", ["", "layers=1", "layers=3"])
def test_agents_and_learner_compute_the_same_hidden_states(options: str) -> None:
    spec = mlp(options)
    flat = initialise(spec, np.random.default_rng(0))
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    shape = (LENGTH, 1, AGENTS, spec.observation_dim)
    seen = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    with torch.no_grad():
        hidden = network.recur(torch.tensor(seen), torch.zeros(1, AGENTS, spec.hidden)).numpy()
    version = PolicyVersion(spec, flat, AGENTS)
    before = version.begin(AGENTS)
    for step in range(LENGTH):
        before = version.recur(seen[step, 0], before, version.parts(before))
        # Sums of some ten products in another order.
        assert_allclose(before, hidden[step, 0], atol=1e-6)


def test_what_was_seen_before_is_forgotten() -> None:
    spec = mlp()
    version = PolicyVersion(spec, initialise(spec, np.random.default_rng(0)), AGENTS)
    seen_ED = np.random.default_rng(1).normal(size=(1, spec.observation_dim)).astype(np.float32)
    fresh_EH = version.begin(1)
    other_EH = np.ones_like(fresh_EH)
    assert_array_equal(
        version.recur(seen_ED, fresh_EH, version.parts(fresh_EH)),
        version.recur(seen_ED, other_EH, version.parts(other_EH)),
    )


def test_a_learner_finds_its_parameters_again() -> None:
    spec = mlp("layers=3")
    flat = initialise(spec, np.random.default_rng(0))
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    assert_array_equal(network.to_flat(), flat)
    assert "layer2.weight" in views(spec, flat)
    assert not any(name.startswith("gru") for name in views(spec, flat))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"--network.options: layers must be between 1 and 64"):
        mlp("layers=0").network_opts()
