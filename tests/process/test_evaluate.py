"""What an evaluation says: figures of the episodes that count, the same with `--simulate`."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.policy import save_policy
from runtime.evaluate import play
from runtime.net.topology import diameter, offsets
from tests.process.runs import SilentView, run_config, undecided_policy

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

AGENTS, COPIES = 4, 3
LENGTH = diameter(AGENTS) + 2
"""Of an episode of relay."""


def evaluate(policy: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "runtime.evaluate", "--policy", str(policy), "--env", "relay"]
    command += ["--agents", str(AGENTS), "--env-copies", str(COPIES), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("dead", [pytest.param("silent", marks=pytest.mark.slow), "relay"])
def test_bytes_edges_and_latency_are_of_the_episodes_that_count(dead: str, tmp_path: Path) -> None:
    config = run_config("relay", AGENTS, copies=COPIES, mode="open")
    agents = dataclasses.replace(config.agents, dead=dead)  # type: ignore[arg-type]  # of the above
    config = dataclasses.replace(config, agents=agents)
    policy = undecided_policy(config)
    figures: list[dict[str, Any]] = []
    for episodes in (COPIES, COPIES + 1):
        outcome, run = play(config, policy, episodes, tmp_path / str(episodes), SilentView())
        assert outcome.exit_code == 0, outcome.reason
        steps = episodes * LENGTH * AGENTS
        assert outcome.summary["agent_steps"] == run.board.world["evaluated_agent_steps"] == steps
        # Every message carries the copies that are played, and no other.
        vectors = run.board.world["evaluated_edges_open"]
        assert outcome.summary["out_degree_mean"] == vectors / steps == len(offsets(AGENTS))
        figures.append(outcome.summary)
    few, more = (figure["message_payload_bytes"] for figure in figures)
    assert few < more < few * (COPIES + 1) / COPIES * 1.5


def test_a_simulation_plays_the_same_episodes_as_the_processes(tmp_path: Path) -> None:
    """Seven episodes in three copies: the first copy plays three, and so it must in both."""
    policy = tmp_path / "policy.safetensors"
    save_policy(policy, undecided_policy(run_config("relay", AGENTS), loud=True))
    played = evaluate(policy, "--episodes", "7")
    simulated = evaluate(policy, "--episodes", "7", "--simulate")
    assert played["return_mean"] == pytest.approx(simulated["return_mean"], rel=1e-12)
    assert played["return_error"] > 0, "episodes that are all alike prove nothing"
    assert played["agent_steps"] == simulated["agent_steps"] == 7 * LENGTH * AGENTS
    assert played["out_degree_mean"] == pytest.approx(simulated["out_degree_mean"], rel=0.05)
