"""Trackers beside a run's log: real ones, offline."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from configs.schema import RunConfig, TrackerName
from runtime.net.errors import SetupError
from runtime.record import trackers
from runtime.record.run_log import RunLog
from runtime.record.trackers import open_tracker, require_tracker, run_name

PROJECT = Path(__file__).resolve().parents[3]


def logged(name: TrackerName, directory: Path) -> None:
    """A run that says something."""
    directory.mkdir()
    log = RunLog(directory, tracker=open_tracker(name, directory, RunConfig(seed=7)))
    log.metrics(100, {"learner/td_error": 0.5, "eval/return_mean": 1.0, "gate/open": None})
    log.evaluation(200, {"eval/return_mean": 2.0})
    log.summary({"exit_reason": "finished"})
    log.close()


def logged_apart(name: TrackerName, directory: Path, **environment: str) -> str:
    """The same in a process of its own, for which the variables count; what it has printed."""
    program = (
        "from pathlib import Path; from tests.runtime.record.test_trackers import logged; "
        f"logged({name!r}, Path({str(directory)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_trackio_keeps_a_run_in_a_database_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    kept = tmp_path / "kept"
    printed = logged_apart(
        "trackio", tmp_path / "run-1", TRACKIO_DIR=f"{kept}", TRACKIO_PROJECT="flocks"
    )
    assert printed == "", "our output has a form of its own"
    with closing(sqlite3.connect(kept / "flocks.db")) as database:
        query = "SELECT run_name, step, metrics FROM metrics ORDER BY step"
        (first, second) = database.execute(query).fetchall()
    name = run_name(tmp_path / "run-1")
    assert name.startswith("run-1-")
    assert (first[:2], second[:2]) == ((name, 100), (name, 200))
    assert "learner/td_error" in str(first[2])
    assert "eval/return_mean" not in str(first[2]), "rows repeat those of the last evaluation"
    assert "eval/return_mean" in str(second[2])


def test_runs_of_one_second_in_different_places_are_kept_apart(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    for place in ("seed-3", "seed-4"):
        (tmp_path / place).mkdir()
        logged_apart("trackio", tmp_path / place / "run-1", TRACKIO_DIR=f"{tmp_path / 'kept'}")
    with closing(sqlite3.connect(tmp_path / "kept" / "murmuration.db")) as database:
        names = database.execute("SELECT DISTINCT run_name FROM metrics").fetchall()
    assert len(names) == 2


def test_wandb_offline_keeps_a_run_in_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "run-1"
    assert logged_apart("wandb", folder, WANDB_MODE="offline") == ""
    (kept,) = folder.rglob("*.wandb")
    content = kept.read_bytes()
    for said in (b"run-1", b"learner/td_error", b"eval/return_mean", b"exit_reason", b"finished"):
        assert said in content


def test_a_missing_package_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(name: str) -> None:
        del name

    monkeypatch.setattr(trackers.importlib.util, "find_spec", nothing)
    require_tracker("none")
    for name in ("wandb", "trackio"):
        with pytest.raises(SetupError) as error:
            require_tracker(name)
        assert str(error.value) == (
            f'--track {name} needs {name}: install it with pip install -e ".[track]"'
        )


def test_a_tracker_that_fails_costs_a_warning_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def __init__(self, *_: object) -> None:
            self.calls = 0

        def log(self, *_: object) -> None:
            raise RuntimeError("the server is gone")

        summary = close = log

    monkeypatch.setattr(trackers, "_Trackio", Failing)
    logged("trackio", tmp_path / "run")
    assert [record.message for record in caplog.records if "tracks" in record.message] == [
        "trackio tracks no longer: the server is gone"
    ], "said once"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_tracker_that_cannot_begin_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no\nAPI key")

    monkeypatch.setattr(trackers, "_Wandb", refuse)
    with pytest.raises(SetupError, match=r"--track wandb cannot begin \(no API key\): log in, or"):
        open_tracker("wandb", tmp_path, RunConfig())
