"""Schemes that one place computes for all agents: every one that is registered.

What they learn is tested with the scheme itself, such as tests/learner/comm/test_gacg.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.comm.graphs import graph_of
from agents.found import scheme_of
from agents.policy import PolicyFile, PolicySpec, initialise, save_policy
from configs.extensions import SCHEME, names
from configs.load import preset_for
from configs.schema import RunConfig
from envs.registry import make_copies, spec_of
from learner.central import CentralAgents
from learner.simulate import simulate
from runtime import deploy, evaluate, launch
from runtime.acting import Policy
from runtime.run.central import CentralRun
from tests import agents_helpers, world_helpers

AGENTS = 6
EPISODES = 12
CENTRALISED = [name for name in names(SCHEME) if scheme_of(name).centralised]
EVERY = pytest.mark.parametrize("comm", CENTRALISED)


def config_of(comm: str, env: str = "relay", options: str = "") -> RunConfig:
    preset = preset_for(env)
    env_config = replace(preset.env, copies=4, opponent="scripted")
    return replace(preset, num_agents=AGENTS, comm=comm, comm_options=options, env=env_config)


def policy_of(config: RunConfig) -> PolicyFile:
    env = spec_of(config.env, config.num_agents)
    spec = PolicySpec.of(
        config.network,
        env.observation_dim,
        env.num_actions,
        comm=config.comm,
        comm_options=config.comm_options,
    )
    flat = initialise(spec, np.random.default_rng(0)) * np.float32(2.0)
    return PolicyFile(spec, flat, 1, {"comm": config.comm})


def central_run(config: RunConfig, policy: PolicyFile) -> CentralRun:
    spec, agents = policy.spec, config.num_agents
    rules = agents_helpers.make_rules(
        num_agents=agents, copies=config.env.copies, spec=spec, comm=config.comm, ships="all"
    )
    rules = replace(rules, comm_options=config.comm_options)
    world_rules = replace(world_helpers.make_rules(train_steps=0), graph=rules.graph)
    copies = make_copies(config.env, agents, config.seed)
    return CentralRun(
        copies,
        rules,
        policy.flat,
        world_rules,
        config.seed,
        lambda rules, store, rngs: CentralAgents(config, rules, store, rngs),
    )


def test_there_is_one() -> None:
    assert "gacg" in CENTRALISED


@EVERY
@pytest.mark.parametrize("env", ["relay", "battle"])
def test_a_run_in_one_place_plays_what_the_simulation_plays(comm: str, env: str) -> None:
    """In Battle agents die, and episodes are longer than a trajectory."""
    config = config_of(comm, env)
    config = replace(config, env=replace(config.env, max_cycles=40))
    policy = policy_of(config)
    run = central_run(config, policy)
    run.evaluate(EPISODES)
    assert not run.dropped
    assert run.world.missed_deadlines == 0
    copies = make_copies(config.env, AGENTS, config.seed)
    simulated = simulate(config, policy, copies, EPISODES)
    assert sorted(r.length for r in run.results) == sorted(r.length for r in simulated)
    returns = sorted(result.episode_return for result in simulated)
    assert sorted(result.episode_return for result in run.results) == pytest.approx(returns)
    figures = run.figures()
    assert figures["edges_open"] == sum(result.edges_open for result in simulated)
    assert figures["agent_steps"] == sum(result.agent_steps for result in simulated)
    assert figures["sent_packets_message"] == figures["sent_packets_beacon"] == 0
    assert len(run.trajectories) == EPISODES * AGENTS


@EVERY
def test_a_new_version_takes_effect_with_the_next_step(comm: str) -> None:
    config = config_of(comm)
    policy = policy_of(config)
    run = central_run(config, policy)
    run.world.evaluate(EPISODES)
    run.tick()
    run.parameters.flat, run.parameters.version = np.zeros_like(policy.flat), 2
    while run.is_playing:
        run.tick()
    run.farewell()
    assert {t.last_version for t in run.trajectories} == {2}
    late = [t for t in run.trajectories if t.first_version == 2]
    assert late
    assert all((t.actions == 0).all() for t in late), "with zeros all actions are worth the same"


@EVERY
@pytest.mark.parametrize("serial", [True, False])
def test_it_trains_in_one_process_and_nowhere_else(
    comm: str, serial: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--env", "relay", "--agents", str(AGENTS), "--comm", comm, "--device", "cpu"]
    arguments += ["--env-copies", "4", "--steps", "160", "--learner.learning-starts", "4"]
    arguments += ["--learner.batch-size", "4", "--evaluation.episodes", "4"]
    arguments += ["--metrics-port", "0", "--runtime.runs-dir", str(tmp_path)]
    if not serial:
        with pytest.raises(SystemExit) as end:
            launch.main(arguments)
        assert end.value.code == 2
        assert capsys.readouterr().err == (
            f"error: --comm {comm} computes all agents in one place, so none can run on its own: "
            "train with --serial\n"
        )
        assert not list(tmp_path.iterdir())
        return
    assert launch.main([*arguments, "--serial"]) == 0
    (folder,) = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["learner_updates"] > 0
    assert summary["out_degree_mean"] == AGENTS - 1
    assert summary["message_payload_bytes"] == 0, "nothing goes along an edge"
    path = str(folder / "policy.safetensors")
    capsys.readouterr()
    asked = ["--policy", path, "--env", "relay", "--agents", str(AGENTS), "--episodes", "4"]
    assert evaluate.main([*asked, "--simulate", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["out_degree_mean"] == AGENTS - 1


@EVERY
def test_evaluation_by_processes_and_deployment_are_refused_in_one_line(
    comm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, hosts = tmp_path / "policy.safetensors", tmp_path / "hosts.yaml"
    save_policy(path, policy_of(config_of(comm)))
    asked = ["--policy", str(path), "--agents", str(AGENTS)]
    for main, arguments, way_out in (
        (evaluate.main, ["--env", "relay"], "evaluate with --simulate"),
        (deploy.main, ["--hosts", str(hosts), "--out", str(tmp_path / "out")], "simulated"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*asked, *arguments])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: --comm {comm} computes all agents in one place")
        assert way_out in line


@EVERY
def test_a_team_in_python_is_refused(comm: str) -> None:
    with pytest.raises(ValueError, match=r"--comm gacg computes all agents .* --simulate"):
        Policy(policy_of(config_of(comm))).team(AGENTS)


@EVERY
def test_a_hundred_agents_have_more_edges_than_a_mask_can_name(comm: str) -> None:
    assert graph_of(comm, "", 100).num_edges == 99
    config = replace(config_of(comm), num_agents=100)
    run = central_run(config, policy_of(config))
    run.evaluate(2)
    assert len(run.results) == 2
    assert run.figures()["edges_open"] == 99 * run.figures()["agent_steps"]
