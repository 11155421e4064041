"""The commands as a user types them: what they refuse, show and leave behind."""

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import zmq

from agents.policy import save_policy
from tests.process.runs import Launched, run_config, undecided_policy, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

RELAY = ("--agents", "8", "--env", "relay", "--env-copies", "4")
ENDLESS = (*RELAY, "--steps", "100000000", "--evaluation.interval-steps", "0")


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    runs_dir = ("--runtime.runs-dir", str(folder / "runs"))
    return subprocess.run(
        [sys.executable, "-m", "runtime.launch", *arguments, *runs_dir],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--env", "chess"), "chess"),
        (("--agents", "3", "--env", "battle"), "3"),
        (("--agents", "1025", "--env", "battle"), "1025"),
        (("--agents", "1", "--env", "relay"), "agents must be between 2 and 4096, got 1"),
        (("--policy", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--resume", "nowhere"), "nowhere"),
        (("--opponent", "nobody"), "nobody"),
        (("--learner.gamma", "2"), "learner.gamma"),
        (("--no-such-option", "1"), "no-such-option"),
    ],
)
def test_bad_options_are_one_clear_line_and_start_nothing(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = launch(tmp_path, "--metrics-port", "0", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not list(tmp_path.glob("runs/*"))


def test_a_misspelt_key_in_a_file_is_named(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("learner:\n  bacth_size: 3\n")
    done = launch(tmp_path, "--config", str(preset))
    assert done.returncode == 2
    assert "bacth_size" in done.stderr
    assert "batch_size" in done.stderr, "the nearest key is suggested"


def test_a_policy_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "relay.safetensors"
    save_policy(path, undecided_policy(run_config("relay", 8)))
    done = launch(tmp_path, "--env", "battle", "--policy", str(path), "--metrics-port", "0")
    assert done.returncode == 2
    assert "observation_dim is 6, this run has 98" in done.stderr


def test_a_taken_metrics_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = launch(tmp_path, "--metrics-port", str(port))
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "--metrics-port" in done.stderr


def test_too_low_a_file_limit_is_refused(tmp_path: Path) -> None:
    command = f"ulimit -n 256 && exec {sys.executable} -m runtime.launch --metrics-port 0"
    command += f" --runtime.runs-dir {tmp_path / 'runs'}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "256" in done.stderr
    assert "ulimit -n" in done.stderr


def test_help_explains_the_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runtime.launch", "--help-all"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for option in (
        *("--agents", "--env", "--steps", "--env-copies", "--seed", "--algorithm", "--comm"),
        *("--gate.timing", "--gate.mode", "--opponent", "--policy", "--transport", "--device"),
        *("--metrics-port", "--metrics-per-edge", "--resume", "--config", "--agents.dead"),
    ):
        assert option in done.stdout, option


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return response.read().decode()


def sent_bytes(metrics: str) -> float:
    pattern = r'^murmuration_payload_bytes_total{.*direction="sent".*} (\S+)$'
    return sum(float(value) for value in re.findall(pattern, metrics, re.MULTILINE))


def test_a_run_shows_its_processes_and_its_bytes(tmp_path: Path) -> None:
    port = free_port()
    with Launched(tmp_path, *ENDLESS, metrics_port=port) as run:
        run.wait_until_training()
        processes = run.processes
        agents = [title for title in processes if re.fullmatch(r"agent \d", title)]
        assert len(agents) == 8
        assert {"node", "world", "learner"} <= processes.keys()
        for agent in agents:
            maps = Path(f"/proc/{processes[agent]}/maps").read_text()
            assert "numpy" in maps
            assert "torch" not in maps
        first = wait_for("reports", lambda: sent_bytes(scrape(port)))
        wait_for("bytes to grow", lambda: sent_bytes(scrape(port)) > first)


def test_garbage_to_every_socket_is_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with Launched(tmp_path, *ENDLESS) as run, zmq.Context() as context:
        folder = run.wait_until_training()
        found = sorted(run.sockets.glob("murmuration-*/*"))
        endpoints = [path for path in found if path.is_socket()]
        assert {"a0", "node", "world", "learner", "launcher"} <= {path.name for path in endpoints}
        for path in endpoints:
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 1000)
                dealer.connect(f"ipc://{path}")
                for size in (0, 1, 7, 200, 5000):
                    dealer.send(rng.bytes(size))
                dealer.send_multipart([b"two", b"parts"])
                dealer.send(b"\x91" * 900 + b"\xc0")  # nested deeper than anything of ours
        before = run.updates()
        wait_for("the learner to go on", lambda: run.updates() > before + 5)
        run.process.send_signal(2)
        assert run.finish(30.0) == 130
        summary = json.loads((folder / "summary.json").read_text())
    assert summary["messages_dropped"] >= 7 * (len(endpoints) - 1), "the launcher counts apart"
    assert summary["agent_restarts"] == 0


@pytest.mark.parametrize("env", [pytest.param("relay", marks=pytest.mark.slow), "battle"])
def test_evaluation_by_processes_and_by_simulation_agree(env: str, tmp_path: Path) -> None:
    config = run_config("relay" if env == "relay" else "battle", 8)
    path = tmp_path / "policy.safetensors"
    save_policy(path, undecided_policy(config))
    command = [sys.executable, "-m", "runtime.evaluate", "--policy", str(path), "--env", env]
    command += ["--agents", "8", "--episodes", "4", "--json"]
    if env == "battle":
        command += ["--opponent", "scripted"]
    figures = [
        json.loads(
            subprocess.run(
                command + extra, capture_output=True, text=True, timeout=120, check=True
            ).stdout
        )
        for extra in ([], ["--simulate"])
    ]
    real, simulated = figures
    assert real["evaluation_episodes"] == simulated["evaluation_episodes"] == 4
    for figure in ("return_mean", "win_rate"):
        assert real[figure] == pytest.approx(simulated[figure], abs=1e-6), figure
    # Copies whose episode is over play on until the last one is, and their edges count.
    assert real["out_degree_mean"] == pytest.approx(simulated["out_degree_mean"], rel=0.05)
    assert real["message_payload_bytes"] > 0


def test_a_teacher_in_relay_is_left_out_with_a_warning(tmp_path: Path) -> None:
    short = (*RELAY, "--steps", "200", "--evaluation.episodes", "0", "--metrics-port", "0")
    done = launch(tmp_path, *short, "--learner.learning-starts", "2", "--learner.teacher", "idqn")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "no effect" in line]
    assert [line.partition("WARNING: ")[2] for line in lines] == [
        "learner.teacher has no effect: nobody has advice for relay"
    ]
    (directory,) = (tmp_path / "runs").iterdir()
    assert json.loads((directory / "summary.json").read_text())["learner_updates"] > 0
