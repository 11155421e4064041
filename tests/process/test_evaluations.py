"""Evaluations of a run, on disk: whole ones, each at the training step when it fell due."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from agents.policy import load_policy
from configs.run_files import BEST_POLICY, POLICY
from tests.process.runs import Launched

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

EPISODES = 6


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_figures_of_evaluations_are_of_whole_ones_and_say_when_they_were_taken(
    tmp_path: Path,
) -> None:
    # Two copies need a while for six episodes: the first evaluations overlap.
    options = ("--agents", "4", "--env", "relay", "--env-copies", "2", "--steps", "240")
    evaluation = ("--evaluation.episodes", str(EPISODES), "--evaluation.interval-steps", "40")
    with Launched(tmp_path, *options, *evaluation, "--learner.learning-starts", "1000") as run:
        assert run.finish(120.0) == 0, run.output.read_text()
        summary = run.summary()
    (folder,) = tmp_path.glob("runs/*")
    played: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for episode in read(folder / "episodes.jsonl"):
        if episode["evaluation"]:
            played[episode["evaluated_at"]].append(episode)
    means = {
        at: sum(episode["episode_return"] for episode in episodes) / EPISODES
        for at, episodes in played.items()
        if len(episodes) == EPISODES
    }
    assert len(means) >= 2
    assert max(means) == summary["env_steps"] >= 240, "the last evaluation comes after training"
    rows = [row for row in read(folder / "metrics.jsonl") if "eval/return_mean" in row]
    told = {row["eval/env_steps"]: row["eval/return_mean"] for row in rows}
    assert told == pytest.approx(means)
    assert summary["evaluated_at"] == max(means)
    assert summary["return_mean"] == pytest.approx(means[max(means)])

    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    (events,) = (folder / "tensorboard").iterdir()
    points = {
        event.step: value.tensor.float_val[0]
        for event in loader.EventFileLoader(str(events)).Load()
        for value in event.summary.value
        if value.tag == "eval/return_mean"
    }
    assert points == pytest.approx(means)


@pytest.mark.parametrize("serial", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_ends_when_an_evaluation_is_good_enough(tmp_path: Path, serial: bool) -> None:
    options = ("--agents", "4", "--env", "relay", "--env-copies", "2", "--steps", "1000000")
    evaluation = ("--evaluation.episodes", str(EPISODES), "--evaluation.stop-at", "0")
    one_process = ("--serial",) if serial else ()
    with Launched(tmp_path, *options, *evaluation, *one_process) as run:
        assert run.finish(120.0) == 0, run.output.read_text()
        summary, output = run.summary(), run.output.read_text()
    (folder,) = tmp_path.glob("runs/*")
    best, last = (load_policy(folder / name) for name in (BEST_POLICY, POLICY))
    reached = float(best.trained["evaluation_reached"])
    assert reached >= summary["return_mean"], "no evaluation was better, nor was the last"
    is_last = reached == summary["return_mean"]
    assert best.trained["evaluated_at"] == str(summary["evaluated_at"] if is_last else 0)
    assert best.version <= last.version
    assert summary["exit_reason"] == "finished"
    assert summary["good_enough_at"] == 0, "the first evaluation falls due before the first step"
    assert summary["env_steps"] < 1_000_000
    assert summary["evaluated_at"] == summary["env_steps"], "the policy that is kept is evaluated"
    assert summary["evaluation_episodes"] == 2 * EPISODES
    assert "good enough at 0 steps" in output
    stages = summary["stage_s"]
    assert sum(stages.values()) == pytest.approx(summary["wall_s"], abs=0.01)
    assert stages["evaluating"] > 0.0
