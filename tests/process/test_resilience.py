"""Agents killed for good and links that lose, with real processes.

What is played in one process (learner/simulate.py) draws the same victims and the same losses, so
that both must come to the same returns and use the same edges.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.policy import load_policy, save_policy
from configs.schema import GateMode, GateTiming, RunConfig
from envs.registry import make_copies
from learner.simulate import simulate
from runtime.evaluate import main, play
from runtime.net.failures import NO_FAILURES, Failures
from runtime.run.run import Run
from tests.process.runs import (
    SilentView,
    murmuration_processes,
    processes_of,
    run_config,
    undecided_policy,
    wait_for,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TRAINED = Path(__file__).parents[2] / "configs" / "policies" / "relay-16.safetensors"
"""A policy that has learnt to pass the colour on (docs/results/relay.md)."""
AGENTS = 8
EPISODES = 24


def evaluate(config: RunConfig, failures: Failures, directory: Path) -> tuple[Run, dict[str, Any]]:
    """An evaluation that ends well and leaves nobody behind."""
    directory.mkdir()
    outcome, run = play(
        config, load_policy(TRAINED), config.env.copies, directory, SilentView(), failures=failures
    )
    assert outcome.exit_code == 0, outcome.reason
    assert outcome.reason == "finished"
    assert outcome.summary["agent_restarts"] == 0
    assert outcome.summary["messages_late"] == 0
    assert len(run.board.evaluated) == config.env.copies
    assert murmuration_processes() == []
    return run, outcome.summary


def relay(timing: GateTiming = "causal", mode: GateMode = "learned") -> RunConfig:
    return run_config("relay", AGENTS, copies=EPISODES, timing=timing, mode=mode)


def returns(run: Run) -> list[float]:
    """By episode."""
    results = sorted(run.board.evaluated, key=lambda result: result.episode)
    return [result.episode_return for result in results]


@pytest.mark.parametrize(
    ("timing", "failures"),
    [
        ("causal", Failures(kill_fraction=0.25, kill_at=1)),
        ("causal", Failures(kill_fraction=0.5, kill_at=0)),
        ("paper", Failures(kill_fraction=0.25, kill_at=2)),
        ("causal", Failures(drop_edges=0.3)),
        ("causal", Failures(kill_fraction=0.25, kill_at=2, drop_edges=0.2)),
    ],
    ids=str,
)
def test_processes_fail_as_the_simulation_does(
    timing: GateTiming, failures: Failures, tmp_path: Path
) -> None:
    config = relay(timing)
    run, _ = evaluate(config, failures, tmp_path / "run")
    policy = load_policy(TRAINED)
    copies = make_copies(config.env, AGENTS, config.seed)
    simulated = simulate(config, policy, copies, EPISODES, failures=failures)
    assert sorted(returns(run)) == pytest.approx(sorted(r.episode_return for r in simulated))
    world = run.board.world
    assert world["evaluated_agent_steps"] == sum(r.agent_steps for r in simulated)
    assert world["evaluated_edges_open"] == sum(r.edges_open for r in simulated)
    assert world["spared_return_sum"] == pytest.approx(sum(r.spared_return for r in simulated))
    assert world["killed"] == len(failures.victims(AGENTS, config.seed))
    assert (run.board.node["lost_messages"] > 0) == (failures.drop_edges > 0.0)


def test_to_lose_everything_is_to_have_closed_gates_but_the_bytes_are_sent(tmp_path: Path) -> None:
    lost, summary = evaluate(relay(mode="open"), Failures(drop_edges=1.0), tmp_path / "lost")
    closed, _ = evaluate(relay(mode="closed"), NO_FAILURES, tmp_path / "closed")
    whole, whole_summary = evaluate(relay(mode="open"), NO_FAILURES, tmp_path / "whole")
    assert returns(lost) == returns(closed)
    # Over 256 episodes it is 0.795 with 8 agents (docs/results/relay.md); chance is 0.25.
    assert sum(returns(whole)) / EPISODES > 0.6, "with messages most agents know the colour"
    assert sum(returns(lost)) / EPISODES < 0.6, "without them they guess: a quarter is right"
    assert summary["message_payload_bytes"] == whole_summary["message_payload_bytes"] > 0
    assert summary["messages_dropped"] == 0, "lost is a counter of its own"


def test_the_killed_are_gone_for_good_and_the_others_play_on(tmp_path: Path) -> None:
    config = run_config("battle", AGENTS)
    policy = tmp_path / "policy.safetensors"
    # It cannot win, so that the episodes last their 200 steps and there is time to look.
    save_policy(policy, undecided_policy(config))
    command = [sys.executable, "-m", "runtime.evaluate", "--policy", str(policy), "--env", "battle"]
    command += ["--agents", str(AGENTS), "--episodes", "40", "--json"]
    command += ["--kill-fraction", "0.25", "--kill-at", "5"]
    evaluation = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:

        def agents() -> dict[str, int]:
            found = processes_of(evaluation.pid)
            return {title: pid for title, pid in found.items() if title.startswith("agent")}

        all_pids = wait_for("all agents", lambda: seen if len(seen := agents()) == AGENTS else None)
        fewer = wait_for("a death", lambda: seen if 0 < len(seen := agents()) < AGENTS else None)
        seen_later = [fewer]
        while evaluation.poll() is None:
            seen_later.append(agents())
        output, errors = evaluation.communicate()
    finally:
        evaluation.kill()
        evaluation.wait()
    assert evaluation.returncode == 0, errors
    assert errors == ""
    figures = json.loads(output)
    killed = {f"agent {agent}" for agent in figures["killed_agents"]}
    assert len(killed) == 2
    assert all_pids.keys() - killed in [later.keys() for later in seen_later]
    for later in seen_later:
        assert later.items() <= all_pids.items(), "nobody is started again under a new pid"
    assert figures["episodes_reached_kill"] > 0
    assert figures["evaluation_episodes"] == 40
    assert figures["agent_restarts"] == 0
    assert figures["return_error"] > 0.0
    assert figures["spared_return_mean"] is not None
    assert processes_of(evaluation.pid) == {}


def test_an_evaluation_whose_episodes_end_earlier_kills_nobody_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.safetensors"
    save_policy(policy, undecided_policy(relay()))
    command = ["--policy", str(policy), "--env", "relay", "--agents", str(AGENTS), "--json"]
    command += ["--episodes", "4", "--kill-fraction", "0.5", "--kill-at", "50"]
    for extra in ([], ["--simulate"]):
        assert main([*command, *extra]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert figures["episodes_reached_kill"] == 0
        assert figures["killed_agents"] == []
        assert figures["evaluation_episodes"] == 4


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--kill-fraction", "1.0"), "kill-fraction must be in [0, 1), got 1.0"),
        (("--drop-edges", "1.5"), "drop-edges must be in [0, 1], got 1.5"),
        (("--kill-at", "5"), "give kill-fraction as well"),
        (
            ("--kill-fraction", "0.1", "--episodes", "20", "--env-copies", "16"),
            "leave out env-copies or make it 20, got 16",
        ),
        (("--kill-fraction", "0.1", "--episodes", "1025"), "episodes must be at most 1024"),
        (("--kill-fraction", "0.1", "--record", "somewhere"), "leave out record or kill-fraction"),
        (
            ("--simulate", "--drop-edges", "0.2", "--gate.timing", "paper"),
            "simulate loses packets with gate.timing causal only",
        ),
        (
            ("--hosts", "hosts.yaml", "--drop-edges", "0.2"),
            "drop-edges needs all agents on this machine",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_in_one_line(
    options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--policy", "untrained", "--env", "relay", "--agents", "4", *options])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert murmuration_processes() == []


def test_untouched_figures_stay_as_they_were(tmp_path: Path) -> None:
    """Nothing of the above happens by itself."""
    run, summary = evaluate(relay(), NO_FAILURES, tmp_path / "run")
    assert run.board.world["killed"] == 0
    assert run.board.node["lost_messages"] == run.board.node["lost_beacons"] == 0
    assert summary["messages_dropped"] == 0
    assert dataclasses.astuple(NO_FAILURES) == (0.0, 0, 0.0)
