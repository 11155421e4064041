"""A run whose log files cannot be opened any more: it loses lines, and nothing else."""

import os
import signal
import threading
from pathlib import Path

import pytest

from runtime.evaluate import play
from tests.process.runs import (
    SilentView,
    processes_of,
    run_config,
    undecided_policy,
    wait_for,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def take_logs_away_and_kill(folder: Path) -> None:
    """Nobody can open a log any more; then an agent dies, which its node is to say and to mend."""
    logs = folder / "logs"

    def all_ready() -> bool:
        found = [path.read_text() for path in logs.glob("agent-*.log")]
        return len(found) == 4 and all("ready" in text for text in found)

    wait_for("the agents", all_ready)
    logs.rename(folder / "away")
    logs.write_text("in the way")
    os.kill(processes_of(os.getpgrp())["agent 1"], signal.SIGKILL)


def test_an_agent_is_started_again_though_nobody_can_open_a_log(tmp_path: Path) -> None:
    config = run_config("relay", 4, copies=4)
    saboteur = threading.Thread(target=take_logs_away_and_kill, args=(tmp_path,))
    saboteur.start()
    policy = undecided_policy(config)
    outcome, _ = play(config, policy, 1500, tmp_path, SilentView())
    saboteur.join()
    assert outcome.exit_code == 0, outcome.reason
    assert outcome.summary["agent_restarts"] == 1
    assert outcome.summary["log_lines_lost"] >= 1
