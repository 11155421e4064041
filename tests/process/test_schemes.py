"""Schemes beside SOPS: evaluated from a file, with losses, trained and deployed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.comm.graphs import moves
from agents.policy import load_policy, save_policy
from envs.registry import make_copies
from learner.simulate import simulate
from runtime.bodies import Bodies
from runtime.evaluate import play
from runtime.net.failures import Failures
from tests.process.deployed import Deployed, fresh_policy
from tests.process.runs import SilentView, murmuration_processes, run_config, undecided_policy
from tests.scheme_cases import Case, cases

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

AGENTS = 8
EPISODES = 8
ONE_PEER = Case("expocomm-one-peer", "", "causal")
OTHERS = [case for case in cases() if case.timing == "causal" and case.scheme != "sops"]


def rows(found: list[Case]) -> list[Any]:
    """One-peer is played each time, since it remembers and counts steps; others now and then."""
    return [c if c == ONE_PEER else pytest.param(c, marks=pytest.mark.slow) for c in found]


ROWS = rows([case for case in OTHERS if not case.env_options])
SPEAKING = rows(
    [case for case in OTHERS if case.scheme != "none" and not moves(case.scheme, case.options)]
)
"""Of those whose neighbours move nobody says in real time who they are."""


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_a_policy_from_a_file_loses_messages_as_in_the_simulation(
    case: Case, tmp_path: Path
) -> None:
    """Where nobody has a position: what takes the place of a neighbour whose beacon was lost, the
    simulation refuses to say.
    """
    config = run_config(
        "relay", AGENTS, copies=EPISODES, comm=case.scheme, comm_options=case.options
    )
    path = tmp_path / "policy.safetensors"
    save_policy(path, undecided_policy(config))
    policy = load_policy(path)
    assert policy.spec.scheme_options == case.options
    failures = Failures(drop_edges=0.3)
    folder = tmp_path / "run"
    folder.mkdir()
    end, run = play(config, policy, EPISODES, folder, SilentView(), failures=failures)
    assert end.exit_code == 0, end.reason
    assert murmuration_processes() == []
    copies = make_copies(config.env, AGENTS, config.seed)
    simulated = simulate(config, policy, copies, EPISODES, failures=failures)
    played = sorted(result.episode_return for result in run.board.evaluated)
    assert played == pytest.approx(sorted(r.episode_return for r in simulated))
    assert run.board.world["evaluated_edges_open"] == sum(r.edges_open for r in simulated)
    assert (run.board.node["lost_messages"] > 0) == (case.scheme != "none")
    assert end.summary["beacon_payload_bytes"] == 0, "only a learned gate reads beacons"


def test_a_run_from_the_command_line_trains_and_says_what_its_edges_carried(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "runtime.launch", "--agents", str(AGENTS), "--env", "relay"]
    command += ["--comm", "expocomm-one-peer", "--comm.options", "self_slot=false"]
    command += ["--env-copies", "4", "--steps", "200", "--evaluation.episodes", "4"]
    command += ["--learner.learning-starts", "2", "--metrics-port", "0"]
    done = subprocess.run(
        [*command, "--runtime.runs-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["comm"] == "expocomm-one-peer"
    assert summary["learner_updates"] > 0
    # One edge in every step, of the three that eight agents have.
    assert summary["out_degree_mean"] == pytest.approx(1.0)
    assert summary["open_share"] == pytest.approx(1 / 3)
    assert summary["beacon_payload_bytes"] == 0 < summary["message_payload_bytes"]
    assert summary["messages_dropped"] == 0
    spec = load_policy(folder / "policy.safetensors").spec
    assert (spec.scheme, spec.scheme_options) == ("expocomm-one-peer", "self_slot=false")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--comm", "expocomm-two-peer"), "choose from budget-k, dgn, expocomm-one-peer, "),
        (("--comm", "expocomm-static", "--comm.options", "own=1"), "known: own_state"),
        (("--comm", "expocomm-static", "--gate.timing", "paper"), "gate.timing causal, got paper"),
    ],
    ids=["unknown", "option", "timing"],
)
def test_what_a_scheme_does_not_take_is_refused_in_one_line(
    options: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "runtime.launch", "--agents", "8", "--env", "relay", *options]
    done = subprocess.run(
        [*command, "--metrics-port", "0", "--runtime.runs-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", SPEAKING, ids=str)
def test_deployed_agents_hear_each_other_in_real_time(case: Case, tmp_path: Path) -> None:
    """Bodies that begin one after the other: their agents count different steps."""
    policy = fresh_policy(6, 4, case.scheme, case.options)
    with Deployed(tmp_path, policy, 4) as deployed:
        deployed.wait_until_ready()
        with Bodies(deployed.body, range(4), 20.0) as bodies:
            row = np.ones(6, np.float32)
            for step in range(12):
                seen = {agent: row for agent in range(4) if step >= agent}
                bodies.act(seen, step=step, first=step == 0, patience_s=5.0)
        assert deployed.total("agent_steps") == 12 + 11 + 10 + 9
        assert deployed.total("received_packets_message") > 0
        for reason in ("range", "shape", "dtype", "decode"):
            assert deployed.total(f"dropped_{reason}") == 0
        deployed.stop()
    assert "ERROR" not in deployed.logs()
