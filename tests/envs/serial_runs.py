"""A short training in one process, through the launcher, for tests of environments."""

import json
from pathlib import Path
from typing import Any

from runtime import launch


def run_serially(env: str, folder: Path, *more: str) -> dict[str, Any]:
    """The summary of a few hundred steps with MAPPO, four episodes a rollout."""
    given = ["--env", env, "--algorithm", "mappo", "--serial", "--steps", "300", *more]
    given += ["--algorithm.options", "episodes=4,epochs=1,minibatches=2", "--env-copies", "2"]
    given += ["--device", "cpu", "--learner.threads", "1", "--metrics-port", "0"]
    given += ["--evaluation.episodes", "2", "--evaluation.interval-steps", "0"]
    assert launch.main([*given, "--runtime.runs-dir", str(folder)]) == 0
    (run,) = folder.iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["env_steps"] >= 300
    assert summary["learner_updates"] > 0
    return summary
