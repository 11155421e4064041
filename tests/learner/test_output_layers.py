"""Output layers of agents' own: agents and learner read the same one, and learn it alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from agents.head import own_outputs
from agents.policy import PolicyFile, PolicySpec, initialise, load_policy, save_policy, views
from configs.columns import LOG_PROB, Q_VALUES
from configs.schema import GateTiming, NetworkConfig
from envs.relay import Relay
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, unroll
from learner.network import PolicyNetwork
from tests.test_rich_run import TIMINGS, furthest, make_run, played

AGENTS = 6
HEADS = 4
"""Fewer than agents: agents 0 and 4 share a layer."""


def small(heads: int) -> PolicySpec:
    network = NetworkConfig(hidden=8, message=6, heads=heads)
    return PolicySpec.of(network, observation_dim=3, num_actions=2, comm="none")


@pytest.mark.parametrize("timing", TIMINGS)
def test_the_learner_reads_the_layer_by_which_an_agent_acted(timing: GateTiming) -> None:
    run = make_run(
        Relay(AGENTS), timing=timing, acting="sample", columns=(Q_VALUES, LOG_PROB), heads=HEADS
    )
    episodes = played(run)
    assert furthest(run, episodes, recorded=True) < 1e-3


def test_each_layer_learns_from_its_own_agents_alone() -> None:
    spec = small(HEADS)
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(initialise(spec, np.random.default_rng(0)))
    window = UnrollInput(torch.randn(2, 1, AGENTS, 3), torch.ones(2, 1, AGENTS, dtype=torch.bool))
    rule = GateRule("causal", "closed")
    q_TBNA = unroll(network, window, rule).q_TBNA
    assert q_TBNA.shape == (2, 1, AGENTS, 2)
    (gradient,) = torch.autograd.grad(q_TBNA[:, :, 5].sum(), [network.q_out.weight])
    rows = gradient.abs().sum(1).view(HEADS, 2).sum(1)
    assert [bool(row > 0.0) for row in rows] == [False, True, False, False]


def test_one_layer_is_what_there_was_before(tmp_path: Path) -> None:
    spec = small(1)
    assert own_outputs(spec, 3) is None
    several = small(HEADS)
    assert own_outputs(several, 5) == slice(2, 4)
    names = dict(several.layout)
    assert names["q_out.weight"] == (HEADS * 2, 8)
    flat = initialise(several, np.random.default_rng(1))
    save_policy(tmp_path / "policy.safetensors", PolicyFile(several, flat, 3, {}))
    found = load_policy(tmp_path / "policy.safetensors")
    assert found.spec == several
    assert_allclose(found.flat, flat)
    assert replace(found.spec, heads=1) == spec
    assert views(several, flat)["q_out.bias"].shape == (HEADS * 2,)
