"""On policy, processes and `--serial` give the same numbers: the policy is pinned within rollouts,
whatever way and time a version takes."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from agents.policy import load_policy
from runtime import evaluate
from runtime.launch import main
from runtime.record.json_lines import read_records
from tests.process.runs import Launched, scratch_folder, wait_for

pytestmark = pytest.mark.process

OPTIONS = (
    "--env", "relay", "--agents", "6", "--env-copies", "4", "--seed", "3", "--device", "cpu",
    "--learner.threads", "1", "--metrics-port", "0", "--algorithm", "mappo",
    "--learner.learning-rate", "0.003",
    "--evaluation.episodes", "4", "--evaluation.interval-steps", "80",
)  # fmt: skip
ROLLOUTS = {
    "whole episodes": "episodes=4,epochs=2,minibatches=2",
    "fixed length": "rollout_steps=7,epochs=2,minibatches=2",
    "overlapping": "rollout_steps=7,epochs=2,minibatches=2,overlap=true",
}


def trained(folder: Path, *options: str) -> Path:
    """Folder of a finished run."""
    assert main([*OPTIONS, "--steps", "200", "--runtime.runs-dir", str(folder), *options]) == 0
    (run,) = folder.iterdir()
    return run


def episodes(run: Path) -> list[Mapping[str, Any]]:
    """By number, without what tells the time."""
    records = read_records(run / "episodes.jsonl")
    return sorted(
        ({k: v for k, v in record.items() if k != "t_s"} for record in records),
        key=lambda record: record["episode"],
    )


@pytest.mark.parametrize(
    "rollouts",
    ["whole episodes", "fixed length", pytest.param("overlapping", marks=pytest.mark.slow)],
)
def test_one_process_and_many_learn_the_same_over_several_rollouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rollouts: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch_folder(monkeypatch)))
    options = ("--algorithm.options", ROLLOUTS[rollouts])
    serial = trained(tmp_path / "serial", "--serial", *options)
    processes = trained(tmp_path / "processes", *options)
    evaluated = {e["env_steps"] for e in episodes(serial) if e["evaluation"]}
    assert len(evaluated) >= 3
    last = [read_records(run / "metrics.jsonl")[-1] for run in (serial, processes)]
    assert last[0]["learner/updates"] == last[1]["learner/updates"] >= 6 * 4
    lags = [record["learner/rollout_lag"] for record in last]
    if rollouts == "overlapping":  # schedules see what has been played meanwhile
        assert lags == [1.0, 1.0]
        return
    assert lags == [0.0, 0.0]
    assert episodes(serial) == episodes(processes)
    one, many = (load_policy(run / "policy.safetensors") for run in (serial, processes))
    assert one.version == many.version
    assert_array_equal(one.flat, many.flat)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("overlap", ["false", "true"])
def test_rollouts_of_fixed_length_survive_an_agent_and_a_learner(
    tmp_path: Path, overlap: str
) -> None:
    options = ("--steps", "12000", "--evaluation.interval-steps", "3000",
               "--learner.checkpoint-period-s", "0.5",
               "--algorithm.options",
               f"rollout_steps=25,epochs=1,minibatches=1,overlap={overlap}")  # fmt: skip
    with Launched(tmp_path, *OPTIONS, *options) as run:
        for victim in ("agent 2", "learner"):
            enough = run.updates() + 10
            wait_for("updates", lambda enough=enough: run.updates() >= enough, 120.0)
            os.kill(run.processes[victim], signal.SIGKILL)
        enough = run.updates() + 10
        wait_for("updates of another learner", lambda: run.updates() >= enough, 120.0)
        assert run.finish(200.0) == 0, run.output.read_text()
    summary = run.summary()
    assert summary["agent_restarts"] == 1
    assert summary["env_steps"] >= 12000
    # Of 120 rollouts a few are lost with those that died.
    assert 100 <= summary["learner_updates"] <= 120


@pytest.mark.slow
def test_agents_with_networks_of_their_own_are_trained_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch_folder(monkeypatch)))
    options = ("--algorithm", "happo", "--comm", "none", "--network.policies", "6",
               "--algorithm.options", "episodes=4,epochs=1,minibatches=1")  # fmt: skip
    serial = trained(tmp_path / "serial", "--serial", *options)
    processes = trained(tmp_path / "processes", *options)
    assert episodes(serial) == episodes(processes)
    one, many = (load_policy(run / "policy.safetensors") for run in (serial, processes))
    assert one.spec.policies == 6
    assert_array_equal(one.flat, many.flat)
    capsys.readouterr()
    found = list[dict[str, Any]]()
    for how in ((), ("--simulate",)):
        given = ("--policy", f"{serial / 'policy.safetensors'}", "--env", "relay", "--agents", "6")
        assert evaluate.main([*given, "--episodes", "8", "--json", *how]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["return_mean"] == found[1]["return_mean"]
