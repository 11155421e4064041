"""Studies with real trainings: interrupted, killed, gone on with, failing, shared and exported."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

TINY = {
    "env-copies": 2,
    "learner.batch-size": 2,
    "learner.learning-starts": 2,
    "evaluation.episodes": 2,
    "evaluation.interval-steps": 8,
    "network.hidden": 8,
    "network.message": 8,
}
STUDY: dict[str, Any] = {
    "title": "Messages on relay",
    "reproduces": "nothing",
    "options": TINY,
    "tasks": {"relay-2": {"env": "relay", "agents": 2, "transfer": [4]}},
    "arms": {"sops": None, "none": {"options": {"comm": "none"}}},
    "report": ["headline", "auc", "out_degree"],
    "paper": {"auc": {"relay-2": {"sops": [0.5, 0.1]}}},
    "scales": {
        "smoke": {"seeds": [0], "steps": 32, "episodes": 2, "serial": True, "simulate": True}
    },
}


@contextmanager
def study(
    tmp_path: Path, *words: str, content: dict[str, Any] | None = None
) -> Generator["subprocess.Popen[str]"]:
    file = tmp_path / "relay-tiny.yaml"
    file.write_text(yaml.safe_dump(STUDY if content is None else content))
    command = [sys.executable, "-m", "learner.studies.run", str(file), "--out", str(tmp_path)]
    with (
        # The names of Unix sockets have room for 107 bytes, and pytest's folders take most of them.
        tempfile.TemporaryDirectory(prefix="run-") as sockets,
        subprocess.Popen(
            [*command, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": sockets},
        ) as process,
    ):
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()


def output_of(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=400.0)
    return output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_study_is_trained_evaluated_and_exported_and_one_failure_does_not_stop_it(
    tmp_path: Path,
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    # The file exists when the study is planned, and is no policy when its cell begins.
    (tmp_path / "broken.safetensors").write_bytes(b"no policy")
    arms = {
        "broken": {"options": {"policy": str(tmp_path / "broken.safetensors")}},
        "odd": {"options": {"comm": "nosuch"}},
        "sops": None,
    }
    with study(tmp_path, content={**STUDY, "arms": arms}) as process:
        output = output_of(process)
    assert process.returncode == 1, output
    lines = output.splitlines()
    assert "relay-2, odd: cannot run: unknown communication scheme 'nosuch'" in lines[0]
    (failed,) = [line for line in lines if line[0:1] == "[" and "failed" in line]
    assert "relay-2, broken, seed 0: training failed with exit code 2" in failed
    assert "broken.safetensors" in failed
    assert lines[-1] == "relay-tiny: 1 missing, 1 done, 1 cannot run"

    folder = tmp_path / "relay-tiny-smoke"
    table = rows(folder / "table.csv")
    assert [(row["task"], row["arm"]) for row in table] == [
        ("relay-2", "sops"),
        ("relay-2@4", "sops"),
    ]
    assert (table[0]["auc_paper"], table[0]["auc_paper_spread"]) == ("0.5", "0.1")
    assert 0.0 <= float(table[0]["auc"]) <= 1.0
    assert table[0]["return_low"] == "", "one seed has no interval"
    (cell, moved) = rows(folder / "cells.csv")
    assert (cell["agents"], moved["agents"], cell["serial"], cell["simulated"]) == (
        *("2", "4", "True", "True"),
    )
    kept = parquet.read_table(folder / "table.parquet").to_pylist()
    assert [float(row["return"]) for row in table] == [row["return"] for row in kept]
    for name in ("curves.png", "points.png", "transfer.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    text = (folder / "table.md").read_text()
    assert "| 0.5 ± 0.1 |" in text
    assert "- relay-2, odd: cannot run: unknown communication scheme" in text
    assert "- relay-2, broken: missing (training failed" in text


@pytest.mark.slow
def test_a_sweep_is_compared_with_intervals_and_tracked(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    tiny = [word for name, value in TINY.items() for word in (f"--{name}", f"{value}")]
    command = [sys.executable, "-m", "learner.studies.sweep", "--vary", "comm=sops,none"]
    command += ["--seeds", "3", "4", "--out", str(tmp_path), "--episodes", "2", "--simulate"]
    command += ["--track", "trackio", "--", "--env", "relay", "--agents", "2", "--steps", "32"]
    with tempfile.TemporaryDirectory(prefix="run-") as sockets:
        done = subprocess.run(
            [*command, "--serial", *tiny],
            capture_output=True,
            text=True,
            env={**os.environ, "TMPDIR": sockets, "TRACKIO_DIR": str(tmp_path / "kept")},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    table = rows(tmp_path / "table.csv")
    assert [(row["arm"], row["seeds"]) for row in table] == [
        ("comm=sops", "3 4"),
        ("comm=none", "3 4"),
    ]
    for row in table:
        low, mean, high = (float(row[f"return{end}"]) for end in ("_low", "", "_high"))
        assert low <= mean <= high
    assert len(list((tmp_path / "kept").glob("*.db"))) == 1
    with sqlite3.connect(next((tmp_path / "kept").glob("*.db"))) as kept:
        tracked = kept.execute("SELECT DISTINCT run_name FROM metrics").fetchall()
    kept.close()
    assert len(tracked) == 4, "each training"


@pytest.mark.slow
def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path) -> None:
    with study(tmp_path, "--steps", "2000", "--jobs", "2") as first:
        checkpoint = "cells/*/seed-0/runs/*/checkpoint.safetensors"
        wait_for("both trainings", lambda: len(list(tmp_path.glob(checkpoint))) == 2, 120.0)
        first.send_signal(signal.SIGINT)
        output = output_of(first)
    assert first.returncode == 130, output
    runs = sorted(tmp_path.glob("cells/*/seed-0/runs/*"))
    assert {json.loads((run / "summary.json").read_text())["exit_reason"] for run in runs} == {
        "interrupted"
    }

    with study(tmp_path, "--steps", "2000", "--jobs", "2") as second:
        output = output_of(second)
    assert second.returncode == 0, output
    assert output.count("goes on after") == 2
    assert output.splitlines()[-1] == "relay-tiny: 2 done"
    assert sorted(tmp_path.glob("cells/*/seed-0/runs/*")) == runs, "the same runs"

    with study(tmp_path, "--steps", "2000") as third:
        output = output_of(third)
    assert third.returncode == 0
    assert "begins" not in output
    assert "goes on" not in output


@pytest.mark.slow
def test_a_study_that_is_killed_leaves_a_cell_that_another_call_takes_up(tmp_path: Path) -> None:
    with study(tmp_path, "--steps", "4000", "--arms", "sops") as first:
        checkpoint = "cells/*/seed-0/runs/*/checkpoint.safetensors"
        wait_for("the training", lambda: list(tmp_path.glob(checkpoint)), 120.0)
        first.kill()
        # Its child has the cell until it has written its checkpoint; both can be seen.
        (run,) = tmp_path.glob("cells/*/seed-0/runs/*")
        wait_for("the child's end", lambda: (run / "summary.json").exists(), 120.0)
    wait_for("the lock", lambda: not _is_locked(run.parents[1] / "lock"), 60.0)
    with study(tmp_path, "--steps", "4000", "--arms", "sops") as second:
        output = output_of(second)
    assert second.returncode == 0, output
    assert "goes on after" in output


def _is_locked(path: Path) -> bool:
    from runtime.record.run_folder import take_lock

    descriptor = take_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@pytest.mark.slow
def test_the_sparse_study_compares_methods_with_the_dense_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "learner.studies.run", "mast", "--out", str(tmp_path)]
    with tempfile.TemporaryDirectory(prefix="run-") as sockets:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "TMPDIR": sockets}
        )
    assert done.returncode == 0, done.stdout + done.stderr
    dense, mast = rows(tmp_path / "mast-smoke" / "relay.csv")
    assert (dense["method"], float(dense["size"]), float(dense["sparsity"])) == ("dense", 1.0, 0.0)
    assert float(mast["sparsity"]) == pytest.approx(0.9, abs=1e-3)
    assert float(mast["size"]) == pytest.approx(0.11, abs=0.01), "biases are dense"
    assert float(mast["training_flops"]) == pytest.approx(0.1, abs=0.01)
    assert float(mast["version_bytes"]) < 0.2 * float(dense["version_bytes"])
    assert 0.0 <= float(mast["reached"]) <= 1.0
    for name in ("table.md", "relay-sizes.png", "relay-curves.png"):
        assert (tmp_path / "mast-smoke" / name).stat().st_size > 0
