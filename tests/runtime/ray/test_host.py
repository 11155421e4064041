"""An actor's work without Ray: free ports, and the node's command from its start to its end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.deployment.bundle import bundle_files, make_keys
from runtime.deployment.hosts import spread
from runtime.ray.host import BUNDLE, RUNS, Host, free_ports
from tests.process.runs import wait_for


def test_free_ports_are_free_and_nobody_elses() -> None:
    first = free_ports("127.0.0.1", 20, [])
    assert 20_000 <= first < 32_000
    for port in range(first, first + 20):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    # All but the last hundred are spoken for.
    assert free_ports("127.0.0.1", 20, [range(20_000, 31_900)]) >= 31_900


def test_where_no_ports_are_free_that_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1: no 20 free ports"):
        free_ports("127.0.0.1", 20, [range(20_000, 32_000)])


@pytest.mark.process
def test_a_node_that_cannot_begin_ends_with_its_reason_and_leaves_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    hosts = spread({"head": ("127.0.0.1", 20_000), "host-1": ("192.0.2.77", 20_100)}, 4)
    files = bundle_files(hosts, "host-1", make_keys(hosts), "feed")
    words = ("--bundle", BUNDLE, "--join", "127.0.0.1", "--runs-dir", RUNS)
    ended = Host("run/host-1").serve(files, words)
    assert ended.exit_code == 2
    assert "is for host host-1 with address 192.0.2.77, which this machine" in ended.last_line
    assert not list(tmp_path.glob("murmuration-*")), "its folder is gone, and the keys with it"


@pytest.mark.process
def test_a_node_does_not_outlive_its_actor(tmp_path: Path) -> None:
    hosts = spread({"head": ("127.0.0.1", 20_000), "host-1": ("127.0.0.1", 20_100)}, 4)
    script = tmp_path / "actor.py"
    script.write_text(
        "from runtime.deployment.bundle import bundle_files, make_keys\n"
        "from runtime.deployment.hosts import spread\n"
        "from runtime.ray.host import BUNDLE, RUNS, Host, free_ports\n"
        'first = free_ports("127.0.0.1", 40, [])\n'
        'places = {"head": ("127.0.0.1", first), "host-1": ("127.0.0.1", first + 20)}\n'
        "hosts = spread(places, 4)\n"
        'files = bundle_files(hosts, "host-1", make_keys(hosts), "feed")\n'
        'words = ["--bundle", BUNDLE, "--join", "127.0.0.1", "--runs-dir", RUNS]\n'
        'Host("run/host-1").serve(files, words)\n'
    )
    assert hosts.num_agents == 4
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.getcwd()},
    ) as actor:
        assert actor.stdout is not None
        assert actor.stdout.readline().startswith("host host-1: joining the run at")
        (node,) = map(int, Path(f"/proc/{actor.pid}/task/{actor.pid}/children").read_text().split())
        os.kill(actor.pid, signal.SIGKILL)
        wait_for("the end of the node", lambda: not Path(f"/proc/{node}/cmdline").exists(), 20.0)
