"""Networks of agents' own: agents and learner compute alike, and nobody learns from another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.parameters import ParameterStore
from agents.policy import PolicyFile, PolicySpec, initialise, load_policy, save_policy
from agents.shared_parameters import freeze
from configs.columns import LOG_PROB, Q_VALUES
from configs.load import ConfigError, load_run_config
from configs.schema import NetworkConfig
from envs.relay import Relay
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, unroll
from learner.network import PolicyNetwork
from tests.learner.algorithms.test_ppo import OPTIONS, collected, learner_of
from tests.test_rich_run import furthest, make_run, played

AGENTS = 6
OWN = 4
"""Fewer than agents: agents 0 and 4 share a network."""
CLOSED = GateRule("causal", "closed")


def small(policies: int) -> PolicySpec:
    network = NetworkConfig(hidden=8, message=6, policies=policies)
    return PolicySpec.of(network, observation_dim=3, num_actions=2, comm="none")


def window() -> UnrollInput:
    seen = torch.randn(3, 2, AGENTS, 3, generator=torch.Generator().manual_seed(0))
    return UnrollInput(seen, torch.ones(3, 2, AGENTS, dtype=torch.bool))


def test_the_learner_reads_the_network_by_which_an_agent_acted() -> None:
    run = make_run(
        Relay(AGENTS), acting="sample", columns=(Q_VALUES, LOG_PROB), policies=OWN, comm="none",
        gate_mode="closed",
    )  # fmt: skip
    assert furthest(run, played(run), recorded=True) < 1e-3


def test_each_agent_computes_what_its_network_would_alone() -> None:
    spec = small(OWN)
    flat = initialise(spec, np.random.default_rng(0))
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    assert_array_equal(network.to_flat(), flat)
    with torch.no_grad():
        both = unroll(network, window(), CLOSED)
        for agent in range(AGENTS):
            alone = PolicyNetwork(spec.one, AGENTS)
            alone.load_flat(spec.own(flat, agent).copy())
            expected = unroll(alone, window(), CLOSED)
            assert_array_equal(both.q_TBNA[:, :, agent], expected.q_TBNA[:, :, agent])
            assert_array_equal(both.messages_TBNM[:, :, agent], expected.messages_TBNM[:, :, agent])
            kept = both.carry.hidden_BNH[:, agent]
            assert_array_equal(kept, expected.carry.hidden_BNH[:, agent])
            policy = ParameterStore(flat, 1).policy(spec, AGENTS, agent)
            assert policy.spec == spec.one
    first, fifth = both.q_TBNA[:, :, 0], both.q_TBNA[:, :, 5]
    assert not torch.equal(first, fifth)
    with pytest.raises(ValueError, match="without edges, got learned"):
        unroll(network, window(), GateRule("causal", "learned"))


def test_only_the_network_that_learns_has_a_gradient() -> None:
    spec = small(OWN)
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(initialise(spec, np.random.default_rng(0)))

    def moved() -> list[bool]:
        return [any(p.grad is not None for p in one.parameters()) for one in network.each]

    torch.autograd.backward(unroll(network, window(), CLOSED, learns=2).q_TBNA.sum())
    assert moved() == [False, False, True, False]
    torch.autograd.backward(unroll(network, window(), CLOSED).q_TBNA.sum())
    assert moved() == [True] * OWN


def test_in_an_agents_turn_of_happo_no_other_network_moves() -> None:
    run, episodes = collected(policies=AGENTS, comm="none", gate_mode="closed")
    learner = learner_of(run, "happo", OPTIONS)
    for episode in episodes:
        learner.add(episode)
    before = learner.parameters_flat().reshape(AGENTS, -1)
    moved = list[int]()
    for _ in range(AGENTS):
        learner.update()
        after = learner.parameters_flat().reshape(AGENTS, -1)
        (agent,) = np.flatnonzero((after != before).any(axis=1)).tolist()
        moved.append(agent)
        before = after
    assert sorted(moved) == list(range(AGENTS))
    learner.update()  # the critic's turn
    assert_array_equal(learner.parameters_flat().reshape(AGENTS, -1), before)


def test_a_file_holds_all_networks_and_a_host_keeps_them_flat(tmp_path: Path) -> None:
    spec = small(OWN)
    assert spec.size == OWN * small(1).size
    names = [name for name, _ in spec.layout]
    assert names[0].startswith("0/")
    assert names[-1].startswith("3/")
    flat = initialise(spec, np.random.default_rng(1))
    assert (spec.own(flat, 0) != spec.own(flat, 1)).any()
    save_policy(tmp_path / "policy.safetensors", PolicyFile(spec, flat, 3, {}))
    found = load_policy(tmp_path / "policy.safetensors")
    assert found.spec == spec
    assert_allclose(found.flat, flat)
    assert replace(found.spec, policies=1) == small(1) == spec.one
    assert freeze(spec, flat, AGENTS).size > flat.nbytes


def test_networks_that_share_nothing_do_not_speak() -> None:
    given = ["--env", "relay", "--agents", "6", "--network.policies", "6"]
    assert load_run_config([*given, "--comm", "none"]).network.policies == 6
    with pytest.raises(ConfigError, match="do not understand each other's messages"):
        load_run_config([*given, "--comm", "sops"])
