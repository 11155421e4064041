"""The benchmark of the time until a policy is good: what it reads from a run, never how long."""

import dataclasses
import json
from pathlib import Path

import pytest

from configs.load import load_run_config
from envs import registry
from tests.benchmarks.time_to_result import TASKS, Evaluated, Result, main, table_of

SMALL = (
    *("--agents", "4", "--env-copies", "2", "--evaluation.interval-steps", "100"),
    *("--evaluation.episodes", "4", "--learner.learning-starts", "4", "--learner.threads", "1"),
    *("--learner.max-backlog", "1", "--learner.updates-per-episode", "6"),
)


def result(seed: int, reached_s: float | None) -> Result:
    return Result(
        seed=seed,
        reached_s=reached_s,
        reached_steps=None if reached_s is None else 100,
        wall_s=9.0,
        last_figure=0.5,
        env_steps=200,
        updates=3,
        update_s=0.01,
        spent_s={"start": 1.0},
        learner_s={"updates": 0.03},
        cpu_s={"agent": 2.0},
        evaluations=(Evaluated(100, 5.0, 0.5),),
        exit_reason="finished",
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_the_preset_against_one_opponent(name: str) -> None:
    config = load_run_config([*TASKS[name].options], population=registry.population_of)
    assert config.evaluation.episodes == 50
    opponents = registry.opponents_of(config.env)
    if opponents is not None:
        evaluated_against = {opponents.names[opponents.in_turn(i)] for i in range(50)}
        assert evaluated_against == {"scripted"}


@pytest.mark.process
def test_a_run_ends_with_the_evaluation_that_reaches_the_threshold(tmp_path: Path) -> None:
    # Nobody is worse than 0, so the first evaluation after the start is good enough.
    out = tmp_path / "result.json"
    words = ["relay-16", "--seeds", "3", "--threshold", "0", "--out", str(out), "--", *SMALL]
    assert main(words) == 0
    report = json.loads(out.read_text())
    (row,) = report["results"]
    assert (row["seed"], row["exit_reason"], report["threshold"]) == (3, "finished", 0)
    assert row["evaluations"][0]["env_steps"] == row["reached_steps"] == 0
    assert 0.0 < row["reached_s"] < row["wall_s"]
    assert sum(row["spent_s"].values()) == pytest.approx(row["wall_s"])
    # Agents live so short a time here that a busy machine may never see them.
    assert {"launcher", "learner"} <= set(row["cpu_s"])


@pytest.mark.slow
@pytest.mark.process
def test_a_run_that_never_gets_there_says_what_it_did(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    words = ["--seeds", "0", "--threshold", "1.5", "--out", str(out), "--", *SMALL]
    assert main(["relay-16", *words, "--steps", "200"]) == 1
    (row,) = json.loads(out.read_text())["results"]
    assert row["reached_s"] is None
    assert (row["exit_reason"], row["env_steps"]) == ("finished", 200)
    assert row["updates"] > 0
    assert row["spent_s"]["waiting for the learner"] > 0.0, "six updates for each episode"
    assert row["spent_s"]["acting in evaluations"] > 0.0
    assert {"agent", "launcher", "learner", "node", "world"} <= set(row["cpu_s"])
    assert [each["env_steps"] for each in row["evaluations"]][:2] == [0, 100]


def test_a_seed_that_did_not_get_there_is_slower_than_all_that_did() -> None:
    def medians(*reached: float | None) -> list[str]:
        table = table_of([result(seed, at_s) for seed, at_s in enumerate(reached)])
        (*_, median) = table.columns
        return [str(cell) for cell in median.cells]

    assert medians(10.0, 30.0, None)[0] == "30"
    assert medians(10.0, None, None)[0] == "—"
    assert dataclasses.asdict(result(0, None))["reached_s"] is None
