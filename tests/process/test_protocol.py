"""The protocol's command with real trainings: interrupted, gone on with, and complete."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from learner.sparse.snapshots import read_snapshots
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

TINY = (
    *("agents=4", "env-copies=4", "device=cpu", "learner.batch-size=4", "learner.threads=1"),
    *("learner.learning-starts=4", "learner.online-episodes=4", "sparse.period=2"),
    *("evaluation.episodes=4", "evaluation.interval-steps=0"),
)


@contextmanager
def protocol(out: Path) -> Generator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "runtime.protocol", "--task", "relay", "--seeds", "5"]
    command += ["--methods", "dense", "mast", "--steps", "240", "--episodes", "4"]
    command += ["--out", str(out), "--options", *TINY]
    with (
        # The names of Unix sockets have room for 107 bytes, and pytest's folders take most of them.
        tempfile.TemporaryDirectory(prefix="run-") as sockets,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": sockets},
        ) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


@pytest.mark.slow
def test_an_interrupted_protocol_goes_on_where_it_was(tmp_path: Path) -> None:
    with protocol(tmp_path) as first:
        checkpoint = "relay/dense/seed-5/runs/*/checkpoint.safetensors"
        wait_for("the training", lambda: list(tmp_path.glob(checkpoint)), 120.0)
        first.send_signal(signal.SIGINT)
        output, _ = first.communicate(timeout=120.0)
    assert first.returncode == 130, output
    (run,) = tmp_path.glob("relay/*/seed-5/runs/*")
    assert json.loads((run / "summary.json").read_text())["exit_reason"] == "interrupted"

    with protocol(tmp_path) as second:
        output, _ = second.communicate(timeout=400.0)
    assert second.returncode == 0, output
    assert "dense, seed 5: goes on after" in output
    assert "mast, seed 5: begins, 240 steps" in output
    assert output.splitlines()[-1] == "relay: 2 done"
    assert list(tmp_path.glob("relay/dense/seed-5/runs/*")) == [run], "the same run"
    (sparse,) = tmp_path.glob("relay/mast/seed-5/runs/*")
    assert read_snapshots(sparse)[0].env_steps == 0

    with (tmp_path / "relay" / "table.csv").open() as file:
        dense, mast = csv.DictReader(file)
    assert (dense["method"], float(dense["size"]), float(dense["sparsity"])) == ("dense", 1.0, 0.0)
    assert float(mast["sparsity"]) == pytest.approx(0.9, abs=1e-3)
    assert float(mast["size"]) == pytest.approx(0.11, abs=0.01), "biases are dense"
    assert float(mast["training_flops"]) == pytest.approx(0.1, abs=0.01)
    assert float(mast["version_bytes"]) < 0.2 * float(dense["version_bytes"])
    assert 0.0 <= float(mast["reached"]) <= 1.0
    for name in ("table.md", "sizes.png", "curves.png"):
        assert (tmp_path / "relay" / name).stat().st_size > 0
