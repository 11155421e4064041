"""The K nearest backbone neighbours: agents/comm/budget_k.py, and what a run says of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from agents.comm.budget_k import nearness, ring_nearness
from agents.comm.gate import within_budget
from agents.policy import PolicySpec, initialise
from configs.arrays import BoolArray, FloatArray
from configs.effects import without_effect
from configs.load import preset_for
from configs.schema import NetworkConfig, RunConfig
from envs.copies import Copies
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, unroll
from learner.network import PolicyNetwork
from runtime.host import preflight
from runtime.net.errors import SetupError
from runtime.net.topology import exponential, offsets
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.world_helpers import ScriptedEnv

AGENTS = 20


def run_of(env: str, *, env_options: str = "", comm_options: str = "") -> RunConfig:
    preset = preset_for(env)
    env_config = replace(preset.env, options=env_options)
    return replace(
        preset, num_agents=AGENTS, comm="budget-k", comm_options=comm_options, env=env_config
    )


def spec_of(options: str) -> PolicySpec:
    return PolicySpec.of(NetworkConfig(), 3, 4, comm="budget-k", comm_options=options)


def gates_of(options: str, places_NP: FloatArray) -> BoolArray:
    """[T, N, K] of three steps in which nobody moves."""
    spec = spec_of(options)
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(initialise(spec, np.random.default_rng(0)))
    seen_ND = np.concatenate((np.zeros((AGENTS, 1)), places_NP), axis=1).astype(np.float32)
    seen_TBND = torch.tensor(seen_ND).expand(3, 1, AGENTS, 3)
    window = UnrollInput(seen_TBND, torch.ones(3, 1, AGENTS, dtype=torch.bool))
    with torch.no_grad():
        output = unroll(network, window, GateRule("causal", "open"))
    return output.gates_TBNK[:, 0].numpy() > 0.5


@pytest.mark.parametrize("k", [2, 3, 4])
def test_exactly_the_k_nearest_neighbours_are_open(k: int) -> None:
    places_NP = np.random.default_rng(k).uniform(-1.0, 1.0, (AGENTS, 2)).astype(np.float32)
    gates_TNK = gates_of(f"k={k}", places_NP)
    rounded_NP = np.rint(places_NP * 127.0) / 127.0
    for agent in range(AGENTS):
        peers_K = [(agent + offset) % AGENTS for offset in offsets(AGENTS)]
        distances_K = np.linalg.norm(rounded_NP[peers_K] - rounded_NP[agent], axis=1)
        nearest = set(np.argsort(distances_K, kind="stable")[:k].tolist())
        assert set(np.flatnonzero(gates_TNK[1, agent]).tolist()) == nearest
        assert_array_equal(gates_TNK[2, agent], gates_TNK[1, agent])


def test_who_has_not_been_heard_is_as_far_as_all_others_so_lower_offsets_are_open() -> None:
    places_NP = np.random.default_rng(0).uniform(-1.0, 1.0, (AGENTS, 2)).astype(np.float32)
    first_NK = gates_of("k=3", places_NP)[0]
    assert first_NK[:, :3].all()
    assert not first_NK[:, 3:].any()


def test_of_equally_near_neighbours_the_lower_offset_is_open() -> None:
    own_EZ = np.zeros((1, 2), np.float32)
    peers_EKZ = np.array([[[0.5, 0.0], [0.0, -0.5], [-0.5, 0.0], [0.25, 0.0]]], np.float32)
    chosen_EK = within_budget(nearness(own_EZ, peers_EKZ), np.ones((1, 4), np.bool_), 2)
    assert_array_equal(chosen_EK, [[True, False, False, True]])


def test_places_on_the_ring_are_counted_the_shorter_way_round() -> None:
    assert_array_equal(ring_nearness(exponential(AGENTS)), [-1, -2, -4, -8, -4])
    nowhere_NP = np.zeros((AGENTS, 2), np.float32)
    gates_TNK = gates_of("k=4,distance=ring", nowhere_NP)
    assert_array_equal(gates_TNK[0], np.tile([True, True, True, False, True], (AGENTS, 1)))


@pytest.mark.parametrize(("options", "says"), [("k=2", True), ("k=2,distance=ring", False)])
def test_a_position_crosses_the_wire_as_two_numbers_and_places_on_the_ring_do_not(
    options: str, says: bool
) -> None:
    spec = spec_of(options)
    assert spec.beacon == 2
    env = ScriptedEnv(6, num_agents=AGENTS, roams=True)
    rules = agents_helpers.make_rules(
        num_agents=AGENTS, copies=1, spec=spec, comm="budget-k", ships="none"
    )
    rules = replace(rules, comm_options=options)
    world_rules = replace(world_helpers.make_rules(), graph=rules.graph)
    flat = initialise(spec, np.random.default_rng(0))
    run = SerialRun(Copies([env], 0), rules, flat, world_rules)
    run.evaluate(1)
    figures = run.figures()
    assert figures["edges_open"] == 2 * figures["agent_steps"]
    assert (figures["sent_packets_beacon"] > 0) == says


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (run_of("battle"), "give --env.options position=true, or --comm.options distance=ring"),
        (run_of("relay"), "observations of relay have none: take another environment, or --comm."),
    ],
    ids=["battle", "relay"],
)
def test_observations_without_a_position_are_refused_with_the_way_out(
    config: RunConfig, says: str
) -> None:
    with pytest.raises(SetupError, match=says.replace(".", r"\.")):
        preflight.require_scheme(config)


@pytest.mark.parametrize(
    "config",
    [
        run_of("battle", env_options="position=true"),
        run_of("adversarial-pursuit", env_options="position=true"),
        run_of("gather", env_options="position=true"),
        run_of("relay", comm_options="distance=ring"),
    ],
    ids=lambda config: config.env.name,
)
def test_positions_or_places_on_the_ring_are_enough(config: RunConfig) -> None:
    preflight.require_scheme(replace(config, num_agents=31))


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be between 1 and 64, got 0"):
        spec_of("k=0")


def test_formats_of_beacons_matter_only_where_positions_are_said() -> None:
    def idle(comm_options: str) -> str:
        usual = run_of("battle", env_options="position=true", comm_options=comm_options)
        network = replace(usual.network, beacon_dtype="float32")
        gate = replace(usual.gate, budget=2)
        return "; ".join(without_effect(replace(usual, network=network, gate=gate), usual))

    assert "beacon_dtype" not in idle("k=2")
    assert "gate.budget" in idle("k=2")
    assert "beacon_dtype" in idle("distance=ring")
