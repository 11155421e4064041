"""Runs from Python: start, watch, stop and read them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.load import ConfigError, load_run_config
from runtime import Experiment, evaluate_policy
from runtime.experiment import ExperimentError, Table, words_of
from tests.process.runs import processes_of, scratch_folder, wait_for

OPTIONS = {"env": "relay", "agents": 4, "env_copies": 2, "device": "cpu", "metrics_port": 0}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setenv("TMPDIR", str(scratch_folder(monkeypatch)))
    return {**OPTIONS, "runtime": {"runs_dir": str(tmp_path / "runs")}}


def test_keywords_are_the_words_of_the_command_line() -> None:
    words = words_of({"env_copies": 2, "serial": True, "learner": {"batch_size": 4, "x_y": False}})
    assert words == [
        "--env-copies",
        "2",
        "--serial",
        "--learner.batch-size",
        "4",
        "--learner.no-x-y",
    ]


def test_a_table_has_a_column_for_every_name() -> None:
    table = Table([{"a": 1, "b": True, "c": "x"}, {"a": 2, "b": False, "d": 0.5}])
    assert table.num_rows == 2
    assert table["a"].tolist() == [1, 2]
    assert table["b"].dtype == np.bool_
    assert table["c"].tolist() == ["x", None]
    assert np.isnan(table["d"][0])
    assert table["d"][1] == 0.5
    assert list(Table([])) == []


def test_a_wrong_option_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="agents"):
        Experiment(env="relay", agents=1, runtime={"runs_dir": str(tmp_path)})
    with pytest.raises(ConfigError, match="nothing-of-the-kind"):
        Experiment(env="relay", nothing_of_the_kind=1, runtime={"runs_dir": str(tmp_path)})
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_run_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="missing"):
        Experiment(**OPTIONS, policy=str(tmp_path / "missing.safetensors"))


@pytest.mark.process
@pytest.mark.parametrize("serial", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_is_started_watched_and_read(options: dict[str, object], serial: bool) -> None:
    run = Experiment(
        **options,
        serial=serial,
        steps=400,
        evaluation={"episodes": 2, "interval_steps": 100},
        learner={"learning_starts": 4, "batch_size": 4, "threads": 1},
    )
    assert run.config.num_agents == 4
    evaluations = list(run.evaluations())
    summary = run.wait()
    assert summary["exit_reason"] == "finished"
    assert summary["env_steps"] == 400
    assert evaluations
    assert evaluations[-1].env_steps == summary["evaluated_at"]
    assert evaluations[-1].return_mean == summary["return_mean"]
    assert run.episodes.num_rows == summary["episodes"]
    assert run.episodes["evaluation"].sum() == summary["evaluation_episodes"]
    assert run.metrics["env_steps"][-1] == 400
    assert list(run)[-1]["learner/updates"] == summary["learner_updates"] > 0
    observation_dim = run.policy.spec.observation_dim
    assert run.best_policy.spec == run.policy.spec
    assert run.policy.team(4).act(np.zeros((4, observation_dim))).shape == (4,)
    if not serial:
        return
    figures = evaluate_policy(run, env="relay", agents=4, episodes=3, simulate=True)
    assert figures.episodes == 3
    assert figures.return_error is not None
    assert set(figures) >= {"return_mean", "win_rate", "out_degree_mean"}


@pytest.mark.process
def test_a_run_is_stopped_in_good_order(options: dict[str, object]) -> None:
    arguments = words_of(options)
    config = load_run_config([*arguments, "--steps", "100000000"])
    with Experiment(config) as run:
        assert run.config == config
        next(iter(run))
        assert run.is_running
        with pytest.raises(TimeoutError):
            run.wait(0.01)
    assert not run.is_running
    assert run.wait()["exit_reason"] == "interrupted"
    assert (run.folder / "checkpoint.safetensors").exists()


@pytest.mark.process
def test_a_run_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    program = f"""
import sys, time
from runtime import Experiment
run = Experiment(env="relay", agents=4, steps=10**8, device="cpu", metrics_port=0,
                 runtime={{"runs_dir": {str(tmp_path)!r}}})
print(run._child._process.pid, flush=True)
time.sleep(600)
"""
    script = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert script.stdout is not None
    group = int(script.stdout.readline())
    os.kill(script.pid, signal.SIGKILL)
    script.wait()
    script.stdout.close()
    wait_for("the run to be gone", lambda: not processes_of(group))
