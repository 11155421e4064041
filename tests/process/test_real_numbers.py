"""Actions that are real numbers, from training by processes to agents that are asked one by one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import load_policy
from runtime.launch import main
from tests.process.runs import scratch_folder

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

GAME = ("--env", "tests.tiny_games:Aim", "--agents", "3", "--env-copies", "4")


def evaluated(policy: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "runtime.evaluate", "--policy", str(policy), *GAME, "--json"]
    done = subprocess.run(
        [*command, "--episodes", "9", *options],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_policy_of_real_numbers_is_trained_evaluated_simulated_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch_folder(monkeypatch)))
    runs = tmp_path / "runs"
    trained = main(
        [*GAME, "--algorithm", "mappo", "--algorithm.options", "episodes=16,minibatches=1",
         "--steps", "48", "--metrics-port", "0", "--device", "cpu", "--learner.threads", "1",
         "--evaluation.interval-steps", "0", "--evaluation.episodes", "4",
         "--runtime.runs-dir", str(runs)]
    )  # fmt: skip
    assert trained == 0
    (run,) = runs.iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["learner_updates"] == 3 * 5
    path = run / "policy.safetensors"
    played = evaluated(path)
    assert played["return_mean"] == pytest.approx(evaluated(path, "--simulate")["return_mean"])
    assert evaluated(path, "--sampled")["return_mean"] < played["return_mean"]

    policy = load_policy(path)
    assert policy.spec.bounds == ((0.0, -1.0), (4.0, 1.0))
    actions = policy.team(3).act(np.zeros((3, 1)), [True, False, True])
    assert (actions.shape, actions.dtype) == ((3, 2), np.float32)
    assert (actions[1] == 0.0).all()
    np.testing.assert_array_equal(actions[0], actions[2])
    alone = policy.agent()
    assert alone.act_reals(np.zeros(1)).shape == (2,)
    with pytest.raises(ValueError, match="2 real numbers: act_reals"):
        alone.act(np.zeros(1))


def test_an_algorithm_that_chooses_from_a_list_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*GAME, "--algorithm", "qmix", "--runtime.runs-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert "are real numbers, which algorithm qmix cannot take: happo, ippo, mappo" in error
