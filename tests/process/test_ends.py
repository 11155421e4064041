"""How a run ends: by signals from a terminal or a batch system, by output that nobody takes, by
processes that die before they have begun.
"""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, save_policy
from runtime.deployment.bundle import DeployOptions, make_keys, write_bundles
from runtime.deployment.hosts import Host, Hosts
from tests.agents_helpers import make_spec
from tests.process.runs import Launched, processes_of, scratch_folder, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

RELAY = ("--agents", "4", "--env", "relay", "--env-copies", "4", "--evaluation.episodes", "4")
ENDLESS = (*RELAY, "--steps", "100000000", "--evaluation.interval-steps", "0")
SHORT = (*RELAY, "--steps", "200", "--evaluation.interval-steps", "0")


def children(pid: int) -> list[int]:
    """Spawned ones, from the moment that they run Python."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            with contextlib.suppress(OSError):  # it has ended while we looked
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


def newborn(run: Launched) -> int:
    """The first child of a launcher, still in its imports."""
    (child,) = wait_for("a first child", lambda: children(run.process.pid))[:1]
    return child


def leftovers(run: Launched) -> list[str]:
    """Of the folders of sockets, ours and Python's."""
    ours = ("murmuration-", "pymp-")
    return [path.name for path in run.sockets.iterdir() if path.name.startswith(ours)]


def test_ctrl_c_while_the_first_child_starts_ends_the_run(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        newborn(run)
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.finish(60.0) == 130
        assert leftovers(run) == []
        assert run.summary()["exit_reason"] == "interrupted"
    assert "Traceback" not in run.output.read_text()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_a_learner_that_is_lost_while_it_starts_ends_the_run(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Nothing has begun: there is no sense in trying again."""
    with Launched(tmp_path, *ENDLESS, "--runtime.start-timeout-s", "15") as run:
        os.kill(newborn(run), number)
        assert run.finish(90.0) == 1
        assert leftovers(run) == []
        assert "learner" in run.summary()["exit_reason"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_learner_that_is_lost_while_it_starts_again_gets_a_successor(
    number: signal.Signals, tmp_path: Path
) -> None:
    with Launched(tmp_path, *ENDLESS, "--runtime.start-timeout-s", "15") as run:
        run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 0)
        before = set(children(run.process.pid))
        os.kill(run.processes["learner"], signal.SIGKILL)
        successor = wait_for("its successor", lambda: set(children(run.process.pid)) - before)
        os.kill(successor.pop(), number)
        updates = run.updates()
        wait_for("updates of the one after it", lambda: run.updates() > updates + 5, 120.0)
        run.process.send_signal(signal.SIGINT)
        assert run.finish(60.0) == 130


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGHUP,
        *(
            pytest.param(number, marks=pytest.mark.slow)
            for number in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGTERM)
        ),
    ],
)
def test_a_signal_to_the_whole_run_ends_it_in_good_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    """A terminal that goes tells everybody; the learner still writes its last checkpoint."""
    with Launched(tmp_path, *ENDLESS) as run:
        folder = run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 0)
        checkpoint = folder / "checkpoint.safetensors"
        first = checkpoint.stat().st_mtime_ns
        os.killpg(run.process.pid, number)
        while run.process.poll() is None:  # somebody insists until the very end
            run.process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert run.finish(60.0) == 130
        assert leftovers(run) == []
        assert run.summary()["exit_reason"] == "interrupted"
        assert checkpoint.stat().st_mtime_ns > first
        assert not (folder / "summary.json.tmp").exists()
    assert "Traceback" not in run.output.read_text()


@pytest.mark.slow
def test_without_a_terminal_a_hangup_is_ignored(tmp_path: Path) -> None:
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Launched(tmp_path, *SHORT) as run:
            newborn(run)
            os.killpg(run.process.pid, signal.SIGHUP)
            assert run.finish(120.0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def start(folder: Path, *arguments: str, **how: object) -> subprocess.Popen[bytes]:
    """The launcher, with stdout and stderr as the test will have them."""
    command = [sys.executable, "-m", "runtime.launch", "--metrics-port", "0", *arguments]
    command += ["--runtime.runs-dir", str(folder / "runs")]
    return subprocess.Popen(command, **how)  # type: ignore[call-overload]  # options of a test


@pytest.mark.slow
def test_output_that_nobody_can_write_costs_no_run(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(tmp_path, *SHORT, stdout=full, stderr=full)
        assert process.wait(120) == 0
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["exit_reason"] == "finished"


@pytest.mark.slow
def test_a_reader_that_goes_ends_the_run_as_ctrl_c_does(tmp_path: Path) -> None:
    """As with `python -m runtime.launch | head -3`."""
    with (tmp_path / "stderr").open("wb") as stderr:
        process = start(tmp_path, *ENDLESS, stdout=subprocess.PIPE, stderr=stderr)
        assert process.stdout is not None
        while not list(tmp_path.glob("runs/*/checkpoint.safetensors")):
            assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(120) == 130
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["exit_reason"] == "interrupted"
    assert list(tmp_path.glob("runs/*/checkpoint.safetensors"))
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_a_last_scrape(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = ("--metrics-port", str(server.getsockname()[1]))
    linger = ("--runtime.metrics-linger-s", "150")
    process = start(tmp_path, *SHORT, *linger, *port, stdout=subprocess.DEVNULL)
    try:
        wait_for(
            "the agents to leave",
            lambda: "stopping: finished" in _logs(tmp_path, "node"),
            90.0,
        )
        time.sleep(6.0)  # into the linger: there is nothing to be seen of it
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def _logs(folder: Path, role: str) -> str:
    return "".join(path.read_text() for path in folder.glob(f"runs/*/logs/{role}-0.log"))


@pytest.mark.slow
def test_a_node_short_of_descriptors_starts_the_agent_again_later(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 0)
        node, agent = run.processes["node"], run.processes["agent 2"]
        limits = resource.prlimit(node, resource.RLIMIT_NOFILE)
        resource.prlimit(node, resource.RLIMIT_NOFILE, (1, limits[1]))
        os.kill(agent, signal.SIGKILL)
        wait_for("its death to be known", lambda: run.newest_metrics().get("agent/up") == 3)
        time.sleep(2.0)  # restarts are tried, and fail
        resource.prlimit(node, resource.RLIMIT_NOFILE, limits)
        wait_for("everybody", lambda: run.newest_metrics().get("agent/up") == 4)
        updates = run.updates()
        wait_for("more updates", lambda: run.updates() > updates + 3)
        run.process.send_signal(signal.SIGINT)
        assert run.finish(60.0) == 130
    assert "agent 2 could not be started, it is tried again" in run.output.read_text()


def refused(folder: Path, *arguments: str, before: Callable[[], None] | None = None) -> str:
    """What the launcher says when it starts nothing; it leaves no folder."""
    process = start(
        folder,
        *RELAY,
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=before,
    )
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert out == b""
    assert list(folder.glob("runs/*")) == []
    (line,) = error.decode().splitlines()
    return line


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_tmpdir_too_long_for_sockets_is_refused(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("d" * 90)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    line = refused(tmp_path, "--transport", transport)
    assert "set TMPDIR to a shorter one" in line
    assert "--transport" not in line


def test_a_hosts_file_that_is_bad_leaves_no_folder(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text("hosts: nonsense\n")
    assert str(hosts) in refused(tmp_path, "--hosts", str(hosts))


def test_no_room_for_the_configuration_leaves_no_folder(tmp_path: Path) -> None:
    """A limit of 1000 bytes for each file stands for a disk with as many left."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    line = refused(tmp_path, before=limit)
    assert "config.yaml cannot be written (File too large)" in line


@pytest.mark.slow
def test_when_the_forkserver_dies_agents_get_successors_and_no_twins(tmp_path: Path) -> None:
    with Launched(tmp_path, *ENDLESS) as run:
        run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 0)
        agents = [run.processes[f"agent {agent}"] for agent in range(4)]
        status = Path(f"/proc/{agents[0]}/status").read_text()
        (forkserver,) = re.findall(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
        os.kill(int(forkserver), signal.SIGKILL)
        wait_for("the agents to end", lambda: not any(Path(f"/proc/{a}").exists() for a in agents))
        wait_for("everybody", lambda: run.newest_metrics().get("agent/up") == 4)
        updates = run.updates()
        wait_for("more updates", lambda: run.updates() > updates + 3)
        run.process.send_signal(signal.SIGINT)
        assert run.finish(60.0) == 130
    assert run.summary()["agent_restarts"] == 4


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_deployed_host_ends_at_a_signal_and_does_not_linger(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait ten minutes for a last scrape, and then write its summary."""
    folder = scratch_folder(monkeypatch)
    monkeypatch.setenv("TMPDIR", str(folder))
    spec, policy = make_spec(), folder / "policy.safetensors"
    save_policy(policy, PolicyFile(spec, np.zeros(spec.size, np.float32), 3, {}))
    hosts = Hosts((Host("a", "127.0.0.1", 27400, (0, 1)),), "a")
    options = DeployOptions(comm="sops", gate_mode="learned")
    keys, content = make_keys(hosts), policy.read_bytes()
    (bundle,) = write_bundles(folder / "out", hosts, keys, policy=content, options=options)
    command = [sys.executable, "-m", "runtime.node", "--bundle", str(bundle)]
    command += ["--runs-dir", str(folder / "runs"), "--metrics-linger-s", "600"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        command += ["--metrics-port", str(server.getsockname()[1])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        wait_for("its agents", lambda: len(processes_of(process.pid)) >= 3)
        assert process.stdout is not None
        while b"2/2 agents up" not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, number)
        assert process.wait(60) == 0
        (summary,) = folder.glob("runs/*/summary.json")
        assert json.loads(summary.read_text())["host"] == "a"
        assert list(folder.glob("murmuration-*")) == []
        wait_for("its agents to be gone", lambda: not processes_of(process.pid), 10.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
