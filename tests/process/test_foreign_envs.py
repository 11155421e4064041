"""Environments of others from the command line: trained in, evaluated, and failing in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def launched(module: str, *words: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that is started in a folder of the user's."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}"},
        timeout=280,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_environment_in_the_current_folder_is_trained_in_and_evaluated(tmp_path: Path) -> None:
    (tmp_path / "my_env.py").write_text((ROOT / "docs/examples/my_env.py").read_text())
    asked = ("--env", "my_env:make", "--env.options", "agents=3,size=5")
    code, out, err = launched(
        "runtime.launch",
        *(*asked, "--steps", "120", "--env-copies", "2", "--metrics-port", "0"),
        *("--learner.learning-starts", "2", "--learner.batch-size", "2"),
        *("--evaluation.episodes", "2"),
        folder=tmp_path,
    )
    assert code == 0, err
    (run,) = (tmp_path / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["env"], summary["agents"]) == ("my_env:make", 3)
    assert (summary["headline"], summary["win_rate"]) == ("return", None)
    assert summary["learner_updates"] > 0
    assert "win rate" not in out

    code, out, err = launched(
        "runtime.evaluate",
        *("--policy", f"{run / 'policy.safetensors'}", *asked, "--episodes", "3", "--json"),
        folder=tmp_path,
    )
    assert code == 0, err
    figures = json.loads(out)
    assert (figures["agents"], figures["evaluation_episodes"]) == (3, 3)
    assert figures["return_mean"] is not None


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_an_environment_that_raises_ends_the_run_with_one_line(tmp_path: Path, shards: int) -> None:
    name = "tests.foreign_envs:make"
    code, _, err = launched(
        "runtime.launch",
        *("--env", name, "--env-copies", "2", "--env.shards", f"{shards}", "--metrics-port", "0"),
        folder=tmp_path,
    )
    assert code not in (0, 2)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    failed = f"the environment {name} failed in its step: RuntimeError: the table has fallen over"
    assert failed in line
    (log,) = tmp_path.glob("runs/*/logs/world-0.log")
    assert "Traceback" in log.read_text()
    assert 'raise RuntimeError("the table' in log.read_text()


def test_what_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for words, says in (
        (("--env", "my_env:make"), "--env my_env:make: my_env cannot be imported"),
        (("--env", "nosuch"), "unknown environment 'nosuch', choose from adversarial-pursuit, "),
        (
            ("--env", "pettingzoo:mpe2.simple_spread_v3", "--agents", "4"),
            "pettingzoo:mpe2.simple_spread_v3 has 3 agents, not 4: leave out --agents, or have it "
            "made with --env.options N=4",
        ),
    ):
        code, _, err = launched("runtime.launch", *words, folder=tmp_path)
        assert code == 2
        assert err.startswith(f"error: {says}"), err
    assert list(tmp_path.iterdir()) == []
