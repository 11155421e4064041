import builtins
import json
import logging
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runtime.net.logs import setup_logging
from runtime.net.wire import EpisodeResult
from runtime.record.run_log import RunLog, new_run_directory

NOW = datetime(2026, 1, 2, 13, 14, 15)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[RunLog]:
    log = RunLog(tmp_path, clock)
    yield log
    log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_run_directories_of_one_second_do_not_collide(tmp_path: Path) -> None:
    names = [new_run_directory(tmp_path / "runs", "relay", NOW).name for _ in range(3)]
    stem = "20260102-131415-relay"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_metrics_are_on_disk_when_the_call_returns(
    log: RunLog, clock: Clock, tmp_path: Path
) -> None:
    log.metrics(10, {"comm/sent_bytes": 5.0, "learner/td_error": None})
    clock.now_s += 2.5
    log.metrics(20, {"comm/sent_bytes": float("nan"), "learner/td_error": 0.5})
    assert lines(tmp_path / "metrics.jsonl") == [
        {
            "t_s": 0.0,
            "life": 0,
            "resumed_at": 0,
            "env_steps": 10,
            "comm/sent_bytes": 5.0,
            "learner/td_error": None,
        },
        {
            "t_s": 2.5,
            "life": 0,
            "resumed_at": 0,
            "env_steps": 20,
            "comm/sent_bytes": None,
            "learner/td_error": 0.5,
        },
    ]


def test_episodes_get_a_line_each(log: RunLog, tmp_path: Path) -> None:
    log.episode(EpisodeResult(3, 1, 600, 200, -1.5, 0))
    assert lines(tmp_path / "episodes.jsonl") == [
        {
            "t_s": 0.0,
            "life": 0,
            "resumed_at": 0,
            "episode": 3,
            "evaluation": True,
            "env_steps": 600,
            "length": 200,
            "episode_return": -1.5,
            "won": False,
            "opponent": 0,
            "evaluated_at": 0,
        }
    ]


def test_summary_is_replaced_as_a_whole(log: RunLog, tmp_path: Path) -> None:
    log.summary({"env_steps": 1, "gone": True})
    log.summary({"env_steps": 2, "loss": float("inf"), "each": [1.0, float("nan")]})
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "env_steps": 2, "loss": None, "each": [1.0, None], "log_lines_lost": 0
    }  # fmt: skip
    assert list(tmp_path.glob("*.tmp")) == []


def test_reopened_log_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        log = RunLog(tmp_path)
        log.metrics(step, {})
        log.close()
    assert [line["env_steps"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    log = RunLog(tmp_path)
    log.metrics(10, {"comm/sent_bytes": 5.0, "learner/td_error": None})
    # Every row repeats the last evaluation; its point is one, at the step when it was taken.
    log.evaluation(8, {"eval/return_mean": 2.0})
    log.metrics(12, {"eval/return_mean": 2.0})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    scalars = [
        (event.step, value.tag, value.tensor.float_val[0])
        for event in loader.EventFileLoader(str(file)).Load()
        for value in event.summary.value
    ]
    assert scalars == [(10, "comm/sent_bytes", 5.0), (8, "eval/return_mean", 2.0)]


def test_every_line_says_which_life_of_the_run_it_is_of(tmp_path: Path) -> None:
    for life, resumed_at in enumerate((0, 70, 150)):
        log = RunLog(tmp_path, life=life, resumed_at=resumed_at)
        log.metrics(resumed_at + 10, {})
        log.close()
    rows = [(line["life"], line["resumed_at"]) for line in lines(tmp_path / "metrics.jsonl")]
    assert rows == [(0, 0), (1, 70), (2, 150)]


def test_tensorboard_forgets_the_steps_that_are_played_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for resumed_at, steps in ((0, (100, 200, 300)), (200, (250, 350))):
        log = RunLog(tmp_path, life=int(resumed_at > 0), resumed_at=resumed_at)
        for step in steps:
            log.metrics(step, {"learner/loss": float(resumed_at)})
        log.close()
        (file,) = (tmp_path / "tensorboard").glob(f"*.{os.getpid()}")
        # Files are read in the order of the seconds in their names.
        file.rename(file.with_name(f"events.out.tfevents.{1_700_000_000 + resumed_at}.host.1"))
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    values = [(event.step, event.value) for event in found.Scalars("learner/loss")]
    assert values == [(100, 0.0), (200, 0.0), (250, 200.0), (350, 200.0)]


def test_lines_that_the_disk_does_not_take_are_left_out_whole_and_counted(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path, clock)
    log.metrics(1, {})
    size = (tmp_path / "metrics.jsonl").stat().st_size
    # A limit on the size of files takes half of a line, like a disk that is almost full.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        for step in (2, 3, 4):
            log.metrics(step, {})
        log.summary({"env_steps": 4, "note": "x" * size})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "summary.json").exists()
    assert list(tmp_path.glob("*.tmp")) == []
    log.metrics(5, {})
    assert [line["env_steps"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 5]
    lost = log.lines_lost
    assert lost >= 3
    log.summary({"env_steps": 5})
    log.close()
    assert json.loads((tmp_path / "summary.json").read_text())["log_lines_lost"] == lost
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


def test_lines_of_a_folder_that_was_deleted_are_lost_and_counted(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    log = RunLog(directory)
    for step in range(3):
        log.metrics(step, {"env/steps": step})
    assert log.lines_lost == 0
    shutil.rmtree(directory)
    log.metrics(4, {"env/steps": 4})
    log.close()
    metrics, scalars = 4, 1 + 4
    assert log.lines_lost == metrics + scalars, "those before it went with the folder"


def test_missing_tensorboard_costs_one_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_import = builtins.__import__

    def without_tensorboard(name: str, *rest: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_tensorboard)
    with caplog.at_level(logging.INFO):
        log = RunLog(tmp_path)
    log.metrics(10, {"comm/sent_bytes": 5.0})
    log.close()
    assert [record.message for record in caplog.records] == [
        "tensorboard is not installed: metrics go to metrics.jsonl only"
    ]
    assert not (tmp_path / "tensorboard").exists()


def test_every_process_logs_to_a_file_of_its_own(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    setup_logging("world", 3, directory)
    assert list(directory.iterdir()) == []  # nothing is written before there is something to say
    logging.getLogger("runtime.world").info("ready with %d copies", 8)
    (file,) = directory.iterdir()
    assert file.name == "world-3.log"
    assert "INFO    runtime.world: ready with 8 copies" in file.read_text()


def test_console_shows_warnings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("learner", 0, tmp_path)
    logging.getLogger("learner").info("checkpoint")
    logging.getLogger("learner").warning("loss is not finite")
    assert capsys.readouterr().err == "learner-0: WARNING: loss is not finite\n"


def test_agents_leave_the_console_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("agent", 17, tmp_path)
    logging.getLogger("agents.process").warning("packets under way did not arrive")
    assert capsys.readouterr().err == ""
    assert "did not arrive" in (tmp_path / "agent-17.log").read_text()


def test_a_folder_is_named_after_an_environment_without_signs_of_the_shell(tmp_path: Path) -> None:
    now = datetime(2026, 11, 28, 3, 24, 8)
    name = "pettingzoo:mpe2.simple_spread_v3"
    folder = new_run_directory(tmp_path, name, now)
    assert folder.name == "20261128-032408-pettingzoo-mpe2.simple_spread_v3"
    assert new_run_directory(tmp_path, "../a b$", now).parent == tmp_path
