"""A thousand agents on one machine, and what stands in the way of many."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from configs.schema import RunConfig
from runtime.evaluate import play
from runtime.net import topology
from runtime.run.plan import RunEnd
from runtime.run.run import Run
from runtime.run.view import RunSnapshot
from tests.process.runs import (
    SilentView,
    murmuration_processes,
    processes_of,
    run_config,
    undecided_policy,
    wait_for,
)

pytestmark = pytest.mark.process

THOUSAND = 1000


def patient(config: RunConfig) -> RunConfig:
    """A machine that is busy with other things must not fail us: nothing here is about time."""
    runtime = dataclasses.replace(
        config.runtime, start_timeout_s=500.0, step_timeout_s=120.0, silent_timeout_s=200.0
    )
    agents = dataclasses.replace(config.agents, peer_timeout_s=60.0)
    return dataclasses.replace(config, runtime=runtime, agents=agents)


def evaluate(config: RunConfig, episodes: int, folder: Path) -> tuple[RunEnd, Run]:
    outcome, run = play(config, undecided_policy(config), episodes, folder, SilentView())
    wait_for("all processes to be gone", lambda: not murmuration_processes(), 30.0)
    return outcome, run


@pytest.mark.timeout(120)
def test_a_soft_limit_of_open_files_is_raised_for_all_processes(tmp_path: Path) -> None:
    """Forty agents need more than 120 files in their node: its limit must be ours, raised."""
    command = "ulimit -S -n 120 && exec " + " ".join(
        (sys.executable, "-m", "runtime.evaluate", "--policy", "untrained", "--env", "relay")
    )
    command += " --agents 40 --episodes 2 --json"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert '"evaluation_episodes": 2' in done.stdout
    assert '"agent_restarts": 0' in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_agents_play_and_every_packet_is_accounted_for(tmp_path: Path) -> None:
    config = patient(run_config("relay", THOUSAND, copies=4, mode="open"))
    outcome, run = evaluate(config, 4, tmp_path)
    assert outcome.exit_code == 0, outcome.reason
    summary, node, world = outcome.summary, run.board.node, run.board.world
    assert summary["evaluation_episodes"] == 4
    assert (summary["agent_restarts"], summary["messages_dropped"]) == (0, 0)
    assert world["missed_deadlines"] == 0
    # Every agent has used every edge in every step; what was sent has arrived or was late.
    offsets = len(topology.offsets(THOUSAND))
    ticks = int(world["tick"]) - 1  # the farewell is the last
    assert node["edges_open"] == node["edge_slots"] == THOUSAND * 4 * ticks * offsets
    assert node["sent_packets_message"] == THOUSAND * ticks * offsets
    # After the last step there is a farewell, which the end of the run may overtake, and nobody
    # waits for the last step's messages any more.
    arrived = node["received_packets_message"] + node["late"]
    assert THOUSAND * (ticks - 1) * offsets <= arrived <= node["sent_packets_message"]
    for packets in ("received_packets_observation", "sent_packets_action"):
        assert THOUSAND * ticks <= node[packets] <= THOUSAND * (ticks + 1)
    assert summary["agent_pss_mb_mean"] < 12.0


class _Interrupter(SilentView):
    """Ctrl-C once a thousand agents are up and have played a step."""

    def __init__(self) -> None:
        self.interrupted_s: float | None = None

    def update(self, snapshot: RunSnapshot) -> None:
        if self.interrupted_s is None and snapshot.steps_per_s:
            self.interrupted_s = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_agents_can_be_interrupted_and_leave_nothing(tmp_path: Path) -> None:
    config = patient(run_config("relay", THOUSAND, copies=2))
    view = _Interrupter()
    outcome, _ = play(config, undecided_policy(config), 1_000_000, tmp_path, view)
    assert view.interrupted_s is not None
    assert (outcome.exit_code, outcome.reason) == (130, "interrupted")
    wait_for("all processes to be gone", lambda: not murmuration_processes(), 30.0)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_start_in_which_an_agent_hangs_says_how_many_came_and_what_to_do(tmp_path: Path) -> None:
    config = run_config("relay", 4)
    runtime = dataclasses.replace(config.runtime, start_timeout_s=12.0)

    def stop_the_first() -> None:
        """Before it can be ready: nobody is before all have said where they listen."""
        deadline_s = time.monotonic() + 60.0
        while time.monotonic() < deadline_s:
            found = processes_of(os.getpgrp())
            agents = [pid for title, pid in found.items() if title.startswith("agent")]
            if agents:
                os.kill(agents[0], signal.SIGSTOP)
                return

    saboteur = threading.Thread(target=stop_the_first)
    saboteur.start()
    outcome, _ = evaluate(dataclasses.replace(config, runtime=runtime), 2, tmp_path)
    saboteur.join()

    assert outcome.exit_code == 1
    came = r"\d a second started in the first \d+ s, and none has moved on for \d+ s"
    assert re.match(
        rf"not ready in time: host local: [0-3] of 4 agents are up, .*; .*{came} "
        r"\(--runtime.start-timeout-s gives more time, fewer agents need less\)$",
        outcome.reason,
    )
