"""Processes are killed, and the run goes on, or ends well."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from learner.checkpoint_file import read_progress
from runtime.launch import CHECKPOINT
from tests.process.runs import Launched, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

RELAY = ("--agents", "8", "--env", "relay", "--env-copies", "4", "--evaluation.episodes", "4")
ENDLESS = (*RELAY, "--steps", "100000000", "--evaluation.interval-steps", "0")


@pytest.mark.slow
def test_five_agents_killed_come_back_and_the_run_finishes(tmp_path: Path) -> None:
    with Launched(tmp_path, *RELAY, "--steps", "12000") as run:
        run.wait_until_training()
        for agent in (0, 1, 4, 6, 7):
            os.kill(run.processes[f"agent {agent}"], signal.SIGKILL)
        assert run.finish(150.0) == 0, run.output.read_text()
        summary = run.summary()
    assert summary["agent_restarts"] == 5
    assert summary["exit_reason"] == "finished"
    assert summary["env_steps"] >= 12000
    assert summary["evaluation_episodes"] >= 4


def test_restarted_agents_play_again(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        pid = run.processes["agent 3"]
        os.kill(pid, signal.SIGKILL)
        wait_for("a new agent 3", lambda: run.processes.get("agent 3", pid) != pid)

        def learns_again() -> bool:
            """Complete episodes exist only if all eight take part from beginning to end."""
            return run.updates() > before + 5

        before = run.updates()
        wait_for("the learner to go on", learns_again)


@pytest.mark.slow
def test_a_killed_learner_continues_from_its_checkpoint(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS, "--learner.checkpoint-period-s", "0.5") as run:
        folder = run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 10)
        wait_for("a checkpoint", lambda: read_progress(folder / CHECKPOINT).updates > 10)
        version = run.newest_metrics()["learner/version"]
        agents = {title: pid for title, pid in run.processes.items() if title.startswith("agent")}
        pid = run.processes["learner"]
        os.kill(pid, signal.SIGKILL)
        wait_for("a new learner", lambda: run.processes.get("learner", pid) != pid)
        # Far enough above it that only the new learner can have published it.
        wait_for("new versions", lambda: run.newest_metrics()["learner/version"] > version + 40)
        assert run.updates() > 10, "it must not begin anew"
        wait_for(
            "all agents to have a version of the new learner",
            lambda: run.newest_metrics()["agent/policy_version_min"] > version + 30,
            30.0,
        )
        after = {title: pid for title, pid in run.processes.items() if title.startswith("agent")}
        assert after == agents, "agents keep acting, they are not restarted"


def test_a_killed_world_ends_the_run_with_a_clear_message(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        os.kill(run.processes["world"], signal.SIGKILL)
        assert run.finish(10.0) == 1
        assert "the world process died (signal 9)" in run.output.read_text()
        assert run.summary()["exit_reason"].startswith("the world process died")


def test_ctrl_c_leaves_checkpoint_and_summary_and_nothing_else(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        folder = run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 3)
        began = time.monotonic()
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to everybody at once
        assert run.finish(30.0) == 130
        took_s = time.monotonic() - began
        assert run.summary()["exit_reason"] == "interrupted"
    assert took_s < 5.0, "the promise of the issue: everything is gone within 5 s"
    assert read_progress(folder / CHECKPOINT).updates > 3
    assert (folder / "policy.safetensors").exists()


def test_no_orphan_survives_a_killed_launcher(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        assert len(run.processes) >= 11  # eight agents, node, world, learner
        run.process.kill()
        run.process.wait()
        wait_for("everybody to notice", lambda: not run.processes, 15.0)


@pytest.mark.slow
def test_a_hung_agent_costs_one_deadline_and_not_the_run(tmp_path: Path) -> None:
    hasty = ("--runtime.step-timeout-s", "1.0", "--agents.peer-timeout-s", "0.5")
    with Launched(tmp_path, *ENDLESS, *hasty) as run:
        run.wait_until_training()
        pid = run.processes["agent 2"]
        os.kill(pid, signal.SIGSTOP)
        steps = run.newest_metrics().get("env/steps", 0)
        wait_for(
            "steps without it", lambda: run.newest_metrics().get("env/steps", 0) > steps + 2000
        )
        os.kill(pid, signal.SIGCONT)
        before = run.updates()
        wait_for("the learner to go on with it", lambda: run.updates() > before + 5)


@pytest.mark.slow
def test_a_run_can_be_resumed_and_counts_on(tmp_path: Path) -> None:
    with Launched(tmp_path, *RELAY, "--steps", "800") as run:
        assert run.finish(120.0) == 0, run.output.read_text()
        first = run.summary()
    (folder,) = tmp_path.glob("runs/*")
    with Launched(tmp_path, "--resume", str(folder), "--steps", "1600") as run:
        assert run.finish(120.0) == 0, run.output.read_text()
        second = run.summary()
    assert second["run_id"] == first["run_id"]
    assert second["env_steps"] >= 1600
    assert second["learner_updates"] > first["learner_updates"]
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    numbers = [json.loads(line)["episode"] for line in lines]
    assert len(numbers) == len(set(numbers)), "a resumed run plays new episodes"
