"""Acting from Python: a team in this process acts as agents in a run do, and needs no torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.policy import PolicyFile, save_policy
from configs import streams
from configs.streams import Role
from envs.copies import Copies
from envs.relay import Relay
from runtime import load_policy
from runtime.acting import MOST_STEPS, Policy
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.agents_helpers import make_flat, make_spec

NUM_AGENTS = 6
MIXED = -1.5
"""A bias of the scorer with which some edges open and some stay shut."""


def make_policy(timing: str = "causal", mode: str = "learned", dead: str = "silent") -> Policy:
    task = Relay(NUM_AGENTS).spec
    spec = make_spec(observation_dim=task.observation_dim, num_actions=task.num_actions)
    flat = make_flat(spec, score_bias=MIXED)
    trained = {"comm": "sops", "gate_timing": timing, "gate_mode": mode, "dead": dead}
    return Policy(PolicyFile(spec, flat, 1, trained))


@pytest.mark.parametrize("timing", ["causal", "paper"])
@pytest.mark.parametrize("mode", ["learned", "open", "closed"])
def test_a_team_plays_the_episodes_that_a_run_plays(timing: str, mode: str) -> None:
    policy = make_policy(timing, mode)
    assert timing in ("causal", "paper")
    assert mode in ("learned", "open", "closed")
    rules = agents_helpers.make_rules(
        num_agents=NUM_AGENTS, spec=policy.spec, timing=timing, mode=mode, ships="none"
    )
    world_rules = world_helpers.make_rules(timing=timing, train_steps=0, ships="none")
    run = SerialRun(Copies([Relay(NUM_AGENTS)], 0), rules, policy.file.flat, world_rules)
    run.evaluate(4)
    team, env = policy.team(NUM_AGENTS), Relay(NUM_AGENTS)
    for number, result in enumerate(run.results):
        key = {"life": 0, "copy": 0, "episode": number}
        now = env.reset(streams.number(0, Role.EPISODE, **key))
        episode_return, over = 0.0, False
        while not over:
            step = env.step(team.act(now.observations_ND, now.alive_N))
            episode_return += float(step.rewards_N.astype(np.float64).mean())
            now, over = step.after, step.terminated or step.truncated
        assert episode_return == result.episode_return
        team.reset()
    figures = run.world.kill.aftermath.figures()
    assert team.out_degree == figures["evaluated_edges_open"] / figures["evaluated_agent_steps"]


def test_what_one_agent_sees_reaches_the_others_a_step_later_and_not_before_reset_ends() -> None:
    policy = make_policy(mode="open")
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(12, NUM_AGENTS, policy.spec.observation_dim))
    other = scene.copy()
    other[0, 0] += 4.0

    def actions(scenes: np.ndarray) -> np.ndarray:
        team = policy.team(NUM_AGENTS)
        return np.array([team.act(row) for row in scenes])

    first, second = actions(scene), actions(other)
    assert_array_equal(first[0, 1:], second[0, 1:])
    assert (first[1:, 1:] != second[1:, 1:]).any()
    team = policy.team(NUM_AGENTS)
    team.act(other[0])
    team.reset()
    assert_array_equal(np.array([team.act(row) for row in scene]), first)


def test_an_agent_on_its_own_acts_like_one_that_nobody_speaks_to() -> None:
    policy = make_policy(mode="closed")
    scene = np.random.default_rng(1).normal(size=(8, NUM_AGENTS, policy.spec.observation_dim))
    team, agent = policy.team(NUM_AGENTS), policy.agent()
    together = [team.act(row)[3] for row in scene]
    assert [agent.act(row[3]) for row in scene] == together
    assert len(set(together)) > 1
    agent.reset()
    assert [agent.act(row[3]) for row in scene] == together


def test_the_dead_do_nothing_and_are_not_heard() -> None:
    policy = make_policy(mode="open")
    scene = np.random.default_rng(2).normal(size=(6, NUM_AGENTS, policy.spec.observation_dim))
    alive = np.ones(NUM_AGENTS, dtype=np.bool_)
    alive[2] = False
    changed = scene.copy()
    changed[:, 2] += 3.0
    first, second = policy.team(NUM_AGENTS), policy.team(NUM_AGENTS)
    for row, other in zip(scene, changed, strict=True):
        actions = first.act(row, alive)
        assert actions[2] == 0
        assert_array_equal(actions, second.act(other, alive))


def test_what_does_not_fit_is_refused_by_name() -> None:
    policy = make_policy()
    team, dim = policy.team(NUM_AGENTS), policy.spec.observation_dim
    with pytest.raises(ValueError, match=rf"sees \(6, {dim}\)"):
        team.act(np.zeros((5, dim)))
    with pytest.raises(ValueError, match="live or not"):
        team.act(np.zeros((6, dim)), [True])
    with pytest.raises(ValueError, match="not finite"):
        team.act(np.full((6, dim), np.nan))
    with pytest.raises(ValueError, match=f"an agent sees {dim} numbers"):
        policy.agent().act(np.zeros(dim + 1))
    assert np.iinfo(np.uint16).max == MOST_STEPS


def test_ten_lines_without_torch_play_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    save_policy(path, make_policy().file)
    program = f"""
import sys
import numpy as np
from runtime import load_policy
policy = load_policy({str(path)!r})
team = policy.team(6)
actions = team.act(np.zeros((6, policy.spec.observation_dim)))
assert actions.shape == (6,) and policy.agent().act(np.zeros(policy.spec.observation_dim)) >= 0
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_itself_imports_nothing_of_it() -> None:
    program = "import sys, runtime; assert not {'numpy', 'zmq', 'tyro'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_shipped_policy_is_found_by_its_environment() -> None:
    policy = load_policy("shipped", env="relay")
    assert policy.trained["env"] == "relay"
    with pytest.raises(ValueError, match="no policy is shipped"):
        load_policy("shipped", env="nowhere")
