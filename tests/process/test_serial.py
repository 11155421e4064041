"""`--serial` against processes: the same episodes and the same losses, to the bit.

The learner begins when all episodes of the run are there, and publishes at the end: so the moment
at which an update reaches agents, which is the processes' own affair, has no part in the numbers.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from agents.policy import load_policy
from runtime.launch import main
from runtime.record.json_lines import read_records
from tests.process.runs import scratch_folder

pytestmark = pytest.mark.process

EPISODES = 10
"""Of four steps each, Relay's length with six agents; five in each copy."""
OPTIONS = (
    "--env", "relay", "--agents", "6", "--env-copies", "2", "--seed", "3", "--device", "cpu",
    "--learner.threads", "1", "--learner.batch-size", "4", "--metrics-port", "0",
    "--learner.publish-period", "1000", "--learner.updates-per-episode", "6",
    "--agents.epsilon-steps", "20",
    "--evaluation.episodes", "4", "--evaluation.interval-steps", "0",
)  # fmt: skip


def trained(folder: Path, *options: str) -> Path:
    """Folder of a finished run."""
    assert main([*OPTIONS, "--runtime.runs-dir", str(folder), *options]) == 0
    (run,) = folder.iterdir()
    return run


def episodes(run: Path) -> list[Mapping[str, Any]]:
    """By number, without what tells the time."""
    records = read_records(run / "episodes.jsonl")
    return sorted(
        ({k: v for k, v in record.items() if k != "t_s"} for record in records),
        key=lambda record: record["episode"],
    )


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize(
    "given",
    [
        ("--gate.timing", "causal"),
        ("--gate.timing", "paper"),
        pytest.param(("--also-agents", "3", "9"), marks=pytest.mark.slow),
    ],
    ids=["causal", "paper", "several sizes"],
)
def test_one_process_and_many_play_the_same_episodes_and_learn_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch_folder(monkeypatch)))
    options = (*given, "--steps", str(4 * EPISODES),
               "--learner.learning-starts", str(EPISODES))  # fmt: skip
    serial = trained(tmp_path / "serial", "--serial", *options)
    processes = trained(tmp_path / "processes", *options)
    assert episodes(serial) == episodes(processes)
    assert any(record["evaluation"] for record in episodes(serial))
    last = [read_records(run / "metrics.jsonl")[-1] for run in (serial, processes)]
    names = [name for name in last[0] if name.startswith("learner/") and "loss" in name]
    assert names
    assert last[0]["learner/updates"] == last[1]["learner/updates"] > 0
    assert [last[0][name] for name in names] == [last[1][name] for name in names]
    one, many = (load_policy(run / "policy.safetensors") for run in (serial, processes))
    assert_array_equal(one.flat, many.flat)
    assert set(summary(serial)) == set(summary(processes))
    same = ("return_mean", "win_rate", "env_steps", "out_degree_mean", "learner_updates",
            "agent_steps", "message_payload_bytes", "observation_bytes", "action_bytes",
            "trajectory_bytes")  # fmt: skip
    for name in same:
        assert summary(serial)[name] == summary(processes)[name], name
    assert {path.name for path in serial.iterdir()} == {path.name for path in processes.iterdir()}


# --- for a debugger -------------------------------------------------------------------------------


class Debugged:
    """`python -m runtime.launch --serial` with a terminal as stdin, stdout and stderr."""

    def __init__(self, folder: Path, *options: str, before: str = "") -> None:
        self.folder = folder
        program = (
            f"{before}\n"
            "from runtime.launch import main; from runtime.terminal.command import run_command\n"
            "run_command(main)"
        )
        self._terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *OPTIONS, "--serial", "--runtime.runs-dir",
             str(folder), *options],
            stdin=end, stdout=end, stderr=end, start_new_session=True,
        )  # fmt: skip
        os.close(end)
        self.output = ""

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + 60.0
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self._terminal, 1 << 16).decode()
                except OSError:  # its other end is closed
                    raise AssertionError(self.output) from None

    def type(self, line: str) -> None:
        os.write(self._terminal, line.encode() + b"\n")

    def finish(self) -> int:
        try:
            while self.process.poll() is None:
                if select.select([self._terminal], [], [], 0.1)[0]:
                    self.output += os.read(self._terminal, 1 << 16).decode()
        except OSError:
            pass
        return self.process.wait(60.0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


def test_ctrl_c_ends_a_serial_run_with_summary_and_checkpoint(tmp_path: Path) -> None:
    run = Debugged(tmp_path, "--steps", "100000000")
    try:
        run.read_until("steps/s")
        os.kill(run.process.pid, signal.SIGINT)
        assert run.finish() == 130
    finally:
        run.close()
    (folder,) = tmp_path.iterdir()
    assert summary(folder)["exit_reason"] == "interrupted"
    assert (folder / "checkpoint.safetensors").exists()
    assert load_policy(folder / "policy.safetensors").version > 0


BREAK = """
from agents.core import AgentCore
handle = AgentCore.handle
def stop_once(core, event):
    AgentCore.handle = handle
    breakpoint()
    return handle(core, event)
AgentCore.handle = stop_once
"""


def test_a_breakpoint_within_an_agent_has_the_terminal_and_its_answer(tmp_path: Path) -> None:
    run = Debugged(tmp_path, "--steps", "40", before=BREAK)
    try:
        run.read_until("(Pdb) ")
        run.type("p 'agent', core.identity, type(event).__name__")
        run.read_until("('agent', 0, 'Observation')")
        run.type("c")
        assert run.finish() == 0, run.output
    finally:
        run.close()
    (folder,) = tmp_path.iterdir()
    assert summary(folder)["exit_reason"] == "finished"


@pytest.mark.parametrize("option", [("--hosts", "hosts.yaml"), ("--learner.ranks", "2")])
def test_what_needs_other_processes_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*OPTIONS, "--serial", "--runtime.runs-dir", str(tmp_path), *option])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
