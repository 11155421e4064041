"""A run's folder after a crash: real processes go on in it, and only one of them at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from configs.load import load_run_config
from configs.run_files import CHECKPOINT, EPISODES, METRICS
from learner.checkpoint_file import read_checkpoint
from runtime.launch import make_plan
from runtime.record.json_lines import Record, current_lives, last_record, lives, read_records
from runtime.record.run_log import RunLog
from runtime.run.run import Run
from tests.process.runs import Launched, SilentView, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

SMALL = ("--agents", "4", "--env", "relay", "--env-copies", "4", "--evaluation.episodes", "4",
         "--runtime.start-timeout-s", "200")  # fmt: skip
HASTY = ("--learner.checkpoint-period-s", "0.5", "--evaluation.interval-steps", "0")


def second_resume(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runtime.launch", "--resume", str(folder)]
    command += ["--steps", "200000000", "--metrics-port", "0"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def life(folder: Path) -> int:
    return int((last_record(folder / METRICS) or {}).get("life", 0))


def beginnings(records: list[Record]) -> list[bool]:
    return [each[0]["env_steps"] >= each[0]["resumed_at"] for each in lives(records)]


@pytest.mark.slow
def test_a_torn_folder_is_gone_on_in_by_one_launcher_at_a_time(tmp_path: Path) -> None:
    with Launched(tmp_path, *SMALL, *HASTY, "--steps", "100000000") as run:
        folder = run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 5)
        # The last of them is torn below, and the first life is to be told from the second.
        wait_for("rows", lambda: len(read_records(folder / METRICS)) > 2)
        run.process.kill()  # the learner saves once more, and the resume waits for it
        run.process.wait()
        with (folder / EPISODES).open("ab") as log:
            log.write(b'{"t_s": 99.0, "epis' + b"\0" * 200)
        with (folder / METRICS).open("r+b") as log:
            log.truncate((folder / METRICS).stat().st_size - 25)
        (folder / "journal" / "stray.episode").write_text("not ours")

        with Launched(tmp_path, "--resume", str(folder)) as resumed:
            wait_for("the second life", lambda: life(folder) == 1)
            before = (folder / "config.yaml").read_bytes()
            second = second_resume(folder)
            assert (second.returncode, second.stdout) == (2, "")
            assert second.stderr.startswith(
                f"error: {folder} is in use by another run, process {resumed.process.pid}:"
            )
            assert second.stderr.count("\n") == 1
            assert (folder / "config.yaml").read_bytes() == before
            resumed.process.send_signal(signal.SIGINT)
            assert resumed.finish(60.0) == 130, resumed.output.read_text()
    assert "Traceback" not in resumed.output.read_text()
    assert read_checkpoint(folder / CHECKPOINT).is_verified

    episodes, rows = read_records(folder / EPISODES), read_records(folder / METRICS)
    numbers = [record["episode"] for record in episodes]
    assert len(numbers) == len(set(numbers)), "a resumed run plays new episodes"
    assert {record["life"] for record in (*episodes, *rows)} == {0, 1}
    assert all("env/steps" in row for row in rows), "no row before the world has reported"
    assert beginnings(rows) == [True, True]
    steps = [row["env_steps"] for each in current_lives(rows) for row in each]
    assert steps == sorted(steps), "one curve, without the steps that were played again"


def test_a_run_that_could_never_save_ends_with_the_reason(tmp_path: Path) -> None:
    arguments = (*SMALL, "--steps", "300", "--evaluation.episodes", "0", "--metrics-port", "0")
    plan = make_plan(load_run_config([*arguments, "--runtime.runs-dir", str(tmp_path / "runs")]))
    # Every attempt to write a checkpoint fails, without a disk that is full.
    (plan.directory / f"{CHECKPOINT}.tmp").mkdir()
    log = RunLog(plan.directory)
    outcome = Run(plan, SilentView(), log).execute()
    log.close()
    assert outcome.exit_code == 1
    assert outcome.reason.startswith("finished, but the last checkpoint could not be written")
    assert "Is a directory" in outcome.reason
    assert outcome.summary["exit_reason"] == outcome.reason
    assert outcome.summary["learner_updates"] > 0
    assert not (plan.directory / "policy.safetensors").exists()
