"""Policy versions in a host's memory: what real runs read there, and what a killed node leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.policy import load_policy
from tests.process.runs import Launched, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

AGENTS = 6
RELAY = ("--env", "relay", "--env-copies", "4", "--evaluation.episodes", "0")
LEARNER = ("--learner.publish-period", "1", "--learner.learning-starts", "8")
RUN = ("--agents", str(AGENTS), *RELAY, *LEARNER)
ENDLESS = (*RUN, "--steps", "100000000", "--evaluation.interval-steps", "0")
NAME = "memfd:murmuration parameters"


def holders(inode: int) -> list[int]:
    """Processes that have the segment open or mapped."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            maps = (process / "maps").read_text()
            files = [os.stat(file).st_ino for file in (process / "fd").iterdir()]
        except OSError:  # it ends while we look
            continue
        is_mapped = any(NAME in line and f" {inode} " in line for line in maps.splitlines())
        if is_mapped or inode in files:
            found.append(int(process.name))
    return found


def segment_of(pid: int) -> int | None:
    """Inode of the segment that a process has open."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        if NAME in os.readlink(file):
            return file.stat().st_ino
    return None


def test_a_version_crosses_one_socket_per_host_and_its_agents_read_it_in_place(
    tmp_path: Path,
) -> None:
    with Launched(tmp_path, *RUN, "--steps", "1000") as run:
        run.wait_until_training()
        assert run.finish(150.0) == 0, run.output.read_text()
        summary = run.summary()
        (path,) = tmp_path.glob("runs/*/policy.safetensors")
        (log,) = tmp_path.glob("runs/*/logs/node-0.log")
    size, versions = load_policy(path).flat.nbytes, summary["policy_versions"]
    assert versions >= 3
    assert 0.5 * versions * size < summary["policy_bytes"] < 1.2 * (versions + 1) * size
    shared = summary["policy_shared_bytes"] / (AGENTS * size)
    assert 0.5 * versions < shared < 2.0 * (versions + 1)
    assert summary["version_bytes_by_form"]["shared"] < 50
    assert "WARNING" not in log.read_text()


@pytest.mark.slow
def test_an_agent_that_is_started_again_finds_the_newest_version_there(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        wait_for("a few versions", lambda: run.updates() > 3)
        inode = segment_of(run.processes["node"])
        assert inode is not None
        pid = run.processes["agent 2"]
        os.kill(pid, signal.SIGKILL)
        wait_for("a new agent 2", lambda: run.processes.get("agent 2", pid) != pid)
        wait_for(
            "everybody to read the same segment",
            lambda: (
                {*run.processes.values()} & {*holders(inode)}
                == {
                    pid for name, pid in run.processes.items() if name.startswith(("agent", "node"))
                }
            ),
        )
        before = run.updates()
        wait_for("the learner to go on", lambda: run.updates() > before + 3)


def test_a_killed_node_leaves_nothing_in_memory(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        inode = segment_of(run.processes["node"])
        assert inode is not None
        assert len(holders(inode)) == AGENTS + 1
        os.kill(run.processes["node"], signal.SIGKILL)
        assert run.finish(60.0) != 0
        assert holders(inode) == []
        assert not list(Path("/dev/shm").glob("murmuration*"))


@pytest.mark.slow
def test_a_run_without_shared_memory_goes_on_over_sockets(tmp_path: Path) -> None:
    """The kernel gives no file as long as the segment, and room enough for everything else."""
    command = [sys.executable, "-m", "runtime.launch", *RUN, "--steps", "3000"]
    command += ["--runtime.runs-dir", str(tmp_path / "runs"), "--metrics-port", "0"]
    limited = ["bash", "-c", 'ulimit -f 1500; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = tmp_path.glob("runs/*/logs/node-0.log")
    (warning,) = [line for line in log.read_text().splitlines() if "WARNING" in line]
    assert "policy versions go over sockets to every agent" in warning
