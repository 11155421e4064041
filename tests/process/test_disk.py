"""The disk that a run writes to is full, and has room again: a real one, a small tmpfs."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.policy import load_policy
from configs.run_files import JOURNAL
from learner.checkpoint_file import read_progress
from learner.experience.episode import Dimensions
from learner.experience.journal import Journal
from runtime.launch import CHECKPOINT
from tests.learner_helpers import DIMENSIONS, make_episode
from tests.process.runs import Launched, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SIZE_MIB = 8
RELAY = ("--agents", "8", "--env", "relay", "--env-copies", "4", "--evaluation.episodes", "4")
HASTY = ("--learner.checkpoint-period-s", "0.5", "--learner.journal-episodes", "64")
ENDLESS = (*RELAY, *HASTY, "--steps", "100000000", "--evaluation.interval-steps", "0")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of SIZE_MIB, mounted where `Launched` puts its runs."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk to fill")
    folder = tmp_path / "runs"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take every free byte; deleting the file that is returned gives them back."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    return ballast


@pytest.mark.slow
def test_a_run_goes_on_while_its_disk_is_full_and_saves_when_it_has_room(
    tmp_path: Path, disk: Path
) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        folder = run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 3)
        wait_for("a checkpoint", lambda: read_progress(folder / CHECKPOINT).updates > 3)
        ballast = fill(disk)

        def output() -> str:
            fill(disk)  # what the run itself frees
            return run.output.read_text()

        wait_for("a failed checkpoint", lambda: "no checkpoint could be written" in output())
        wait_for("an unsaved episode", lambda: "are not in the journal" in output())
        wait_for("a lost line", lambda: "lines of the run's log could not be written" in output())
        # What was written before is whole, and nothing half done lies beside it.
        saved = read_progress(folder / CHECKPOINT).updates
        assert saved > 3
        load_policy(folder / "policy.safetensors")
        assert run.process.poll() is None, run.output.read_text()
        everybody = set(run.processes)

        ballast.unlink()
        wait_for("the next checkpoint", lambda: read_progress(folder / CHECKPOINT).updates > saved)

        def is_safe_again() -> bool:
            """By a line that was written after the disk was full, not the last one before."""
            newest = run.newest_metrics()
            failed = newest.get("learner/checkpoint_failures", 0) >= 1
            return bool(failed and newest["learner/episodes_unsaved"] == 0)

        wait_for("all episodes to be safe again", is_safe_again)
        assert run.newest_metrics()["learner/journal_failures"] >= 1
        assert set(run.processes) == everybody, "nobody had to be started again"
        run.process.terminate()
        assert run.finish(30.0) == 130
        summary = run.summary()
    assert summary["checkpoint_failures"] >= 1
    assert summary["journal_failures"] >= 1
    assert summary["log_lines_lost"] >= 1
    assert summary["agent_restarts"] == 0
    assert list(folder.glob("*.tmp")) == []
    assert "Traceback" not in run.output.read_text()


@pytest.mark.slow
def test_a_run_that_ends_on_a_full_disk_says_what_is_missing(tmp_path: Path, disk: Path) -> None:
    with Launched(tmp_path, *RELAY, *HASTY, "--steps", "6000") as run:
        folder = run.wait_until_training()
        wait_for("a checkpoint", lambda: read_progress(folder / CHECKPOINT).updates > 3)
        fill(disk)

        def has_ended() -> bool:
            fill(disk)
            return run.process.poll() is not None

        wait_for("the end", has_ended, 120.0)
        assert run.finish(10.0) == 1, run.output.read_text()
        output = run.output.read_text()
    assert "the run ends without its last checkpoint" in output
    last = output.rstrip().splitlines()[-1]
    assert last.startswith("error: finished, but the last checkpoint could not be written")
    assert "No space left on device" in last
    assert "summary.json could not be written" in output
    assert '"exit_reason": "finished, but' in output, "what was to be in the file"
    assert "Traceback" not in output
    assert read_progress(folder / CHECKPOINT).updates > 3, "the last one that fitted is whole"
    load_policy(folder / "policy.safetensors")


def numbers(journal: Journal, dimensions: Dimensions = DIMENSIONS) -> list[int]:
    return [episode.number for _, episode in journal.load(dimensions)]


def test_a_journal_survives_a_full_disk(disk: Path) -> None:
    journal = Journal(disk / JOURNAL, 1000)
    for number in range(5):
        journal.append(number, make_episode(number))
    ballast = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        journal.append(5, make_episode(5, length=500))
    assert len(list((disk / JOURNAL).iterdir())) == 5, "the half that fitted is gone"
    assert numbers(Journal(disk / JOURNAL, 1000)) == [0, 1, 2, 3, 4]
    ballast.unlink()
    journal.append(5, make_episode(5, length=500))
    assert numbers(Journal(disk / JOURNAL, 1000)) == [0, 1, 2, 3, 4, 5]
