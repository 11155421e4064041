"""A run that goes on until somebody has done what they came for."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from runtime.evaluate import play
from tests.process.runs import SilentView, processes_of, undecided_policy, wait_for

VICTIM = "agent 1"


def summary_of_a_run_that_loses_an_agent(
    config: RunConfig, folder: Path, sabotage: Callable[[], None]
) -> dict[str, Any]:
    """Play until all agents are ready, sabotage, kill one of them, and see it started again.

    Returns the summary of a run that was interrupted after that, or after a while without that.
    """
    saboteur = threading.Thread(target=_come_and_go, args=(config, folder, sabotage))
    saboteur.start()
    outcome, _ = play(config, undecided_policy(config), 10**6, folder, SilentView())
    saboteur.join()
    assert outcome.exit_code == 130, outcome.reason
    return outcome.summary


def _come_and_go(config: RunConfig, folder: Path, sabotage: Callable[[], None]) -> None:
    def all_ready() -> bool:
        found = [path.read_text() for path in (folder / "logs").glob("agent-*.log")]
        return len(found) == config.num_agents and all("ready" in text for text in found)

    def victim() -> int | None:
        return processes_of(os.getpgrp()).get(VICTIM)

    try:
        wait_for("the agents", all_ready)
        killed = wait_for("the victim", victim)
        sabotage()
        os.kill(killed, signal.SIGKILL)
        wait_for("the agent to be back", lambda: victim() not in (None, killed), 30.0)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
