"""A program with the live view and a child that speaks up: see test_live_view.py."""

import logging
import os
import sys
from pathlib import Path

from runtime.net.logs import setup_logging
from runtime.run.view import RunSnapshot, make_view
from runtime.terminal.processes import spawn

SNAPSHOT = RunSnapshot(
    elapsed_s=0.0,
    phase="training",
    env_steps=10,
    episodes=1,
    agents_up=4,
    num_agents=4,
    restarts=0,
)


def speak_up(logs: str) -> None:
    """The child: a warning, a traceback's way, and what would move the cursor."""
    setup_logging("learner", 0, Path(logs))
    logging.getLogger("child").warning("a warning of the child")
    os.write(2, b"native words\n")
    os.write(1, b"\x1b[2J\x1b[Hon stdout\n")


def main() -> None:
    logs = sys.argv[1]
    setup_logging("launcher", 0, Path(logs))
    view = make_view(100)
    view.start()
    for _ in range(3):
        view.update(SNAPSHOT)
    child = spawn(speak_up, logs, "child")
    child.join()
    for _ in range(3):
        view.update(SNAPSHOT)
    logging.getLogger("launcher").warning("a warning of the launcher")
    second = spawn(speak_up, logs, "child")
    second.join()
    view.finish(SNAPSHOT, {"logs": Path(logs)})


if __name__ == "__main__":
    from tests.process import live_program  # children know this module by its name

    live_program.main()
