"""A run whose log files cannot be opened any more: it loses lines, and nothing else."""

from pathlib import Path

import pytest

from tests.process.runs import run_config
from tests.process.sabotage import summary_of_a_run_that_loses_an_agent

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def test_an_agent_is_started_again_though_nobody_can_open_a_log(tmp_path: Path) -> None:
    def take_logs_away() -> None:
        (tmp_path / "logs").rename(tmp_path / "away")
        (tmp_path / "logs").write_text("in the way")

    config = run_config("relay", 4, copies=4)
    summary = summary_of_a_run_that_loses_an_agent(config, tmp_path, take_logs_away)
    assert summary["agent_restarts"] == 1
    assert summary["log_lines_lost"] >= 1
