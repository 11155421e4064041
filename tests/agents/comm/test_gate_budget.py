"""The budget as an option: trained with it, a policy is played and deployed with it, unless told
otherwise.
"""

from pathlib import Path

import numpy as np
import pytest

from agents.policy import (
    PolicyFile,
    PolicyFileError,
    PolicySpec,
    initialise,
    load_policy,
    save_policy,
)
from configs.load import load_run_config, preset_for
from envs.registry import make_copies, spec_of
from learner.simulate import simulate
from runtime.deploy import DeployCommand, deploy
from runtime.deployment.bundle import DeployOptions, read_all
from runtime.evaluate import EvaluateOptions, resolve
from runtime.net.failures import Failures
from runtime.net.topology import offsets

AGENTS = 16


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "policy.safetensors", "2")


def write_policy(path: Path, budget: str) -> Path:
    preset = preset_for("relay")
    env = spec_of(preset.env, AGENTS)
    spec = PolicySpec.of(preset.network, env.observation_dim, env.num_actions)
    flat = initialise(spec, np.random.default_rng(0))
    save_policy(path, PolicyFile(spec, flat, 1, {"env": "relay", "gate_budget": budget}))
    return path


@pytest.mark.parametrize(("asked", "expected"), [(None, 2), (1, 1), (0, 0)])
def test_a_policy_is_played_with_the_budget_of_its_training_or_the_one_asked_for(
    policy: Path, asked: int | None, expected: int
) -> None:
    options = EvaluateOptions(policy=f"{policy}", env="relay", agents=AGENTS, gate_budget=asked)
    config, read = resolve(options)
    assert config.gate.budget == expected
    (episode,) = simulate(config, read, make_copies(config.env, AGENTS, 0), 1)
    # Untrained gates are open, so the budget alone decides.
    assert episode.out_degree == (expected or len(offsets(AGENTS)))


@pytest.mark.parametrize(("asked", "expected"), [(None, 2), (1, 1), (0, 0)])
def test_a_policy_is_deployed_with_the_budget_of_its_training_or_the_one_asked_for(
    policy: Path, tmp_path: Path, asked: int | None, expected: int
) -> None:
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text("hosts: {a: {address: 10.0.0.1}, b: {address: 10.0.0.2}}")
    out = tmp_path / "out"
    deploy(
        DeployCommand(
            policy=f"{policy}", agents=AGENTS, hosts=f"{hosts}", out=f"{out}", gate_budget=asked
        )
    )
    for bundle in read_all(out):
        assert bundle.options is not None
        assert bundle.options.gate_budget == expected


def test_a_policy_of_which_nothing_is_known_has_no_budget() -> None:
    spec = PolicySpec.of(preset_for("relay").network, 6, 4)
    assert PolicyFile(spec, np.zeros(spec.size, np.float32), 0, {}).gate_budget == 0
    assert DeployOptions(comm="sops", gate_mode="learned").gate_budget == 0


@pytest.mark.parametrize("budget", ["-1", "many", "", "²"])
def test_a_file_with_a_budget_that_is_no_number_is_damaged(tmp_path: Path, budget: str) -> None:
    path = write_policy(tmp_path / "damaged.safetensors", budget)
    with pytest.raises(PolicyFileError, match="gate_budget must be a whole number"):
        load_policy(path)


def test_a_run_is_told_its_budget_and_price_on_the_command_line() -> None:
    words = "--env relay --agents 16 --gate.budget 2 --gate.price 0.001 --gate.price-start 6000"
    gate = load_run_config(words.split()).gate
    assert (gate.budget, gate.price, gate.price_start) == (2, 0.001, 6000)


def test_losses_with_a_budget_are_refused_by_the_simulation(policy: Path) -> None:
    options = EvaluateOptions(
        policy=f"{policy}", env="relay", agents=AGENTS, drop_edges=0.1, simulate=True
    )
    with pytest.raises(ValueError, match=r"say --gate\.budget 0"):
        resolve(options)
    config, read = resolve(EvaluateOptions(policy=f"{policy}", env="relay", agents=AGENTS))
    with pytest.raises(ValueError, match=r"^losses are simulated without gate\.budget only, got 2"):
        simulate(
            config, read, make_copies(config.env, AGENTS, 0), 1, failures=Failures(drop_edges=0.1)
        )


@pytest.mark.parametrize(("asked", "expected"), [(None, 0.0), (0.4, 0.4)])
def test_beacons_are_said_as_in_training_or_as_asked_for(
    policy: Path, asked: float | None, expected: float
) -> None:
    options = EvaluateOptions(policy=f"{policy}", env="relay", agents=AGENTS, beacon_delta=asked)
    config, read = resolve(options)
    assert (config.network.beacon_delta, read.spec.beacon_delta) == (expected, expected)
    options = EvaluateOptions(
        policy=f"{policy}", env="relay", agents=AGENTS, beacon_period=3, beacon_dtype="float16"
    )
    config, read = resolve(options)
    assert (config.network.beacon_period, read.spec.beacon_period) == (3, 3)
    assert (config.network.beacon_dtype, read.spec.beacon_dtype) == ("float16", "float16")
    with pytest.raises(ValueError, match=r"network\.beacon-delta must be in"):
        resolve(EvaluateOptions(policy=f"{policy}", env="relay", agents=16, beacon_delta=3.0))
