"""A guide in the learner's process: real sockets against one process, and what is refused."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from agents.policy import load_policy
from runtime.launch import main
from runtime.record.json_lines import read_records
from tests.process.runs import Launched, scratch_folder, wait_for
from tests.process.test_serial import episodes, summary

pytestmark = pytest.mark.process

OPTIONS = (
    "--env", "coord-sum", "--agents", "3", "--env.options", "actions=4,targets=6",
    "--env-copies", "4", "--seed", "3", "--device", "cpu", "--learner.threads", "1",
    "--metrics-port", "0", "--steps", "1200", "--evaluation.episodes", "4",
    "--evaluation.interval-steps", "600",
    "--algorithm.options", "episodes=4,epochs=2,minibatches=2,size=16",
)  # fmt: skip
GIVEN = {"magpo": ("--comm", "sops"), "sable": ("--comm", "none"), "mat": ("--comm", "none")}


def trained(folder: Path, algorithm: str, *options: str) -> Path:
    """Folder of a finished run."""
    given = (*OPTIONS, "--algorithm", algorithm, *GIVEN[algorithm], *options)
    assert main([*given, "--runtime.runs-dir", str(folder)]) == 0
    (run,) = folder.iterdir()
    return run


@pytest.mark.parametrize(
    "algorithm",
    ["magpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sable", "mat"))],
)
def test_one_process_and_many_play_the_same_episodes_and_learn_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Not at the end alone: nothing is played while a rollout is worked off, so every version
    begins with the same episode in both.
    """
    monkeypatch.setenv("TMPDIR", str(scratch_folder(monkeypatch)))
    serial = trained(tmp_path / "serial", algorithm, "--serial")
    processes = trained(tmp_path / "processes", algorithm)
    assert episodes(serial) == episodes(processes)
    assert any(record["evaluation"] for record in episodes(serial))
    last = [read_records(run / "metrics.jsonl")[-1] for run in (serial, processes)]
    names = [name for name in last[0] if name.startswith("learner/") and "loss" in name]
    assert last[0]["learner/updates"] == last[1]["learner/updates"] == 12
    assert [last[0][name] for name in names] == [last[1][name] for name in names]
    for record in last:
        assert 0.0 < record["learner/guide_s_mean"] < 1.0
        # Of each tick at least what 3 agents see in 4 copies, once 1200 steps and their ends.
        assert record["learner/guide_bytes"] > 1200 * 3 * 7
    one, many = (load_policy(run / "policy.safetensors") for run in (serial, processes))
    assert_array_equal(one.flat, many.flat)
    for name in ("return_mean", "message_payload_bytes"):  # ticks of rest cost others a few
        assert summary(serial)[name] == summary(processes)[name], name


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("algorithm", ["magpo", "sable"])
def test_a_run_goes_on_when_its_learner_dies_and_the_guide_with_it(
    tmp_path: Path, algorithm: str
) -> None:
    options = ("--steps", "16000", "--evaluation.interval-steps", "4000",
               "--learner.checkpoint-period-s", "0.5",
               "--algorithm.options", "episodes=4,epochs=1,minibatches=1,size=16")  # fmt: skip
    given = (*OPTIONS, "--algorithm", algorithm, *GIVEN[algorithm], *options)
    with Launched(tmp_path, *given) as run:
        for _ in range(2):
            enough = run.updates() + 5
            wait_for("updates", lambda enough=enough: run.updates() >= enough, 120.0)
            os.kill(run.processes["learner"], signal.SIGKILL)
        assert run.finish(200.0) == 0, run.output.read_text()
    told = run.summary()
    assert told["env_steps"] >= 16000
    # Of 40 rollouts a few are lost with the learners that died.
    assert 30 <= told["learner_updates"] <= 40


def test_no_agent_acts_by_what_a_guide_alone_has_learnt(tmp_path: Path) -> None:
    run = trained(tmp_path, "sable", "--serial")
    policy = str(run / "policy.safetensors")
    for command in (
        ("runtime.evaluate", "--policy", policy, "--env", "coord-sum", "--agents", "3"),
        ("runtime.deploy", "--policy", policy, "--env", "coord-sum", "--agents", "3",
         "--hosts", "hosts.yaml", "--out", str(tmp_path / "bundles")),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert "algorithm sable chooses all agents' actions in the learner's process" in line


def test_messages_of_agents_that_a_guide_leads_everywhere_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (*OPTIONS, "--algorithm", "sable", "--comm", "sops")
    with pytest.raises(SystemExit, match="2"):
        main([*given, "--runtime.runs-dir", str(tmp_path)])
    assert "add --comm none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
