"""A learner is killed in the middle of a run, and no episode is lost or counted twice."""

import os
import signal
from pathlib import Path

import pytest

from configs.run_files import EPISODES, JOURNAL
from learner.experience.journal import Journal
from runtime.launch import CHECKPOINT
from runtime.record.json_lines import read_records
from tests.process.runs import Launched, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

RELAY = ("--agents", "8", "--env", "relay", "--env-copies", "4", "--evaluation.episodes", "4")
UPDATES_PER_EPISODE, LEARNING_STARTS = 0.5, 64  # configs/relay.yaml


@pytest.mark.slow
def test_a_learner_that_is_killed_costs_the_run_not_one_episode(tmp_path: Path) -> None:
    options = ("--steps", "10000", "--learner.journal-episodes", "2000")
    with Launched(tmp_path, *RELAY, *options) as run:
        folder = run.wait_until_training()
        for updates in (3, 60):
            wait_for("updates", lambda n=updates: run.updates() > n)
            pid = run.processes["learner"]
            os.kill(pid, signal.SIGKILL)
            wait_for("a new learner", lambda p=pid: run.processes.get("learner", p) != p)
            # A checkpoint beside the journal: what the one has counted the other must not again.
            before = (folder / CHECKPOINT).stat().st_mtime
            wait_for("its checkpoint", lambda t=before: (folder / CHECKPOINT).stat().st_mtime > t)
        assert run.finish(180.0) == 0, run.output.read_text()
        summary = run.summary()
        newest = run.newest_metrics()
    results = read_records(folder / EPISODES)
    played = [result["episode"] for result in results if not result["evaluation"]]
    assert newest["learner/episodes"] == len(played) >= 2000
    assert newest["learner/replay_episodes"] == min(len(played), 2000)
    assert summary["learner_updates"] == int(
        UPDATES_PER_EPISODE * (len(played) - LEARNING_STARTS + 1)
    )
    journal = sorted((folder / JOURNAL).iterdir())
    numbers = [int(path.stem.split("-")[1]) for path in journal]
    assert len(set(numbers)) == len(numbers) == len(Journal(folder / JOURNAL, 2000)) == 2000
    assert set(numbers) <= set(played)
