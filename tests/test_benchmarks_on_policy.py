"""Benchmarks of training from rollouts, at sizes that take seconds."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import on_policy, rollout_cpu


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(180)
def test_every_way_to_learn_from_rollouts_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "on-policy.json"
    words = ("--agents", "4", "--copies", "4", "--steps", "64", "--turns", "1")
    assert on_policy.main([*words, "--out", f"{out}"]) == 0
    results = json.loads(out.read_text())["results"]
    assert [each["case"] for each in results] == [
        "mappo processes", "magpo processes", "mappo serial", "mappo torch", "iql processes",
    ]  # fmt: skip
    assert all(each["steps_per_s"] > 0.0 for each in results)
    on = {each["case"]: each["updates"] for each in results}
    assert on["mappo processes"] == on["mappo serial"] == on["mappo torch"] > 0


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(300)
def test_a_rollouts_processor_time_is_that_of_all_processes(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    words = ("--turns", "1", "--copies", "8", "--steps", "20", "--out", f"{out}")
    assert rollout_cpu.main(words) == 0
    results = json.loads(out.read_text())["results"]
    assert [(each["algorithm"], each["way"]) for each in results] == [
        (algorithm, way) for algorithm in ("mappo", "magpo") for way in ("processes", "serial")
    ]
    assert all(each["cpu_s"] > 0.0 for each in results)
