"""Policy gradients, from the command line to the summary, on games whose optimum is known."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.launch import main
from tests.tiny_games import BEST

COMMON = (
    "--serial", "--comm", "none", "--seed", "1", "--device", "cpu", "--metrics-port", "0",
    "--network.hidden", "16", "--network.message", "4", "--env-copies", "32",
    "--evaluation.interval-steps", "0", "--evaluation.episodes", "32",
)  # fmt: skip


def summary_of(folder: Path, *options: str) -> dict[str, Any]:
    assert main([*COMMON, "--runtime.runs-dir", str(folder), *options]) == 0
    (run,) = folder.iterdir()
    return json.loads((run / "summary.json").read_text())


ROLLOUTS = "episodes=64,epochs=4,minibatches=1,entropy=0.01"
GUIDED = f"{ROLLOUTS},size=16"


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("mappo", ROLLOUTS),
        ("happo", ROLLOUTS),
        ("sable", GUIDED),
        ("magpo", GUIDED),
        pytest.param("ippo", ROLLOUTS, marks=pytest.mark.slow),
        pytest.param("mat", GUIDED, marks=pytest.mark.slow),
        pytest.param("magpo", f"{GUIDED},guide=mat", marks=pytest.mark.slow),
        pytest.param("ctds", GUIDED, marks=pytest.mark.slow),
    ],
)
def test_two_agents_find_the_best_way_through_two_steps(
    tmp_path: Path, algorithm: str, options: str
) -> None:
    found = summary_of(
        tmp_path,
        *("--env", "tests.tiny_games:TwoStep", "--agents", "2", "--steps", "3200"),
        *("--algorithm", algorithm, "--algorithm.options", options),
        *("--learner.learning-rate", "4e-3"),
    )
    assert found["return_mean"] == pytest.approx(BEST)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "happo"])
def test_agents_learn_to_name_real_numbers(tmp_path: Path, algorithm: str) -> None:
    found = summary_of(
        tmp_path,
        *("--env", "tests.tiny_games:Aim", "--agents", "2", "--steps", "9600"),
        # At a constant rate rounding decides whether so narrow a policy falls back in the end.
        *("--algorithm", algorithm, "--learner.learning-rate", "1e-2"),
        *("--learner.learning-rate-end", "1e-6"),
        *("--algorithm.options", "episodes=64,epochs=4,minibatches=1,entropy=0,reward=own"),
    )
    assert found["return_mean"] > 0.97
