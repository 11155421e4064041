"""A real training run, from `python -m runtime.launch` to its summary.

TrainingCase -> launch -> summary.json, metrics.jsonl -> steps and updates a second, latency
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from configs.run_files import METRICS
from configs.schema import EnvName
from runtime.record.json_lines import read_records
from tests.benchmarks.case import Figures, serve


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCase:
    agents: int
    steps: int
    """Environment steps to train for."""
    env: EnvName = "battle"
    copies: int = 16
    device: str = "cpu"
    options: tuple[str, ...] = ()
    """More of the command line."""


def measure(case: TrainingCase) -> Figures:
    """Figures of the run; evaluations are switched off, they are rollouts only."""
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        summary, rows = train(case, Path(folder))
    busy = [row for row in rows if row.get("learner/updates", 0) > 0]
    return {
        "steps_per_s": float(summary["env_steps_per_s"]),
        "updates": float(summary["learner_updates"]),
        "updates_per_s": rate(busy, "learner/updates"),
        "steps_per_s_beside_updates": rate(busy, "env/steps"),
        "wall_s": float(summary["wall_s"]),
        "out_degree": _number(summary["out_degree_mean"]),
        "edge_bytes_per_agent_step": _number(summary["edge_bytes_per_agent_step"]),
        "latency_p50_us": float(summary["edge_latency_p50_us"]),
        "latency_p99_us": float(summary["edge_latency_p99_us"]),
        "policy_lag_mean": _number(summary["policy_lag_mean"]),
        "pss_mb": _number(summary["agent_pss_mb_mean"]),
        "versions_on_sockets": versions_on_sockets(summary),
        "episodes_dropped": float(summary["episodes_dropped"]),
    }


def train(case: TrainingCase, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and metrics of a run.

    Raises:
        RuntimeError: it ended with another exit code than 0; with the end of its output.
    """
    command = [sys.executable, "-m", "runtime.launch"]
    options = {
        "--agents": case.agents,
        "--env": case.env,
        "--steps": case.steps,
        "--env-copies": case.copies,
        "--device": case.device,
        "--evaluation.episodes": 0,
        "--metrics-port": 0,
        "--runtime.runs-dir": folder / "runs",
    }
    for name, value in options.items():
        command += [name, str(value)]
    finished = subprocess.run(
        [*command, *case.options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"exit code {finished.returncode}: {finished.stdout[-1500:]}")
    (run,) = (folder / "runs").iterdir()
    return json.loads((run / "summary.json").read_text()), read_records(run / METRICS)


def rate(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """Growth of a counter while it grew, by the first and last line of the log in which it did."""
    changes = [row for before, row in pairwise(rows) if row[name] > before[name]]
    if len(changes) < 2:
        return None
    first, last = changes[0], changes[-1]
    return (last[name] - first[name]) / (last["t_s"] - first["t_s"])


def versions_on_sockets(summary: dict[str, Any]) -> float | None:
    """How often a policy version crosses sockets of a host: once, or once for every agent."""
    versions, size_bytes = summary["policy_versions"], summary["version_bytes_mean"]
    return summary["policy_bytes"] / (versions * size_bytes) if versions and size_bytes else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


if __name__ == "__main__":
    serve(TrainingCase, measure)
