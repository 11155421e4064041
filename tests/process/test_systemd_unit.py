"""docs/clusters/systemd: what systemd says of the unit, and a node that runs as it says."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.manifests import PROJECT, commands, environment
from tests.process.namespaces import Hosts, require_hosts
from tests.process.runs import wait_for

UNIT = PROJECT / "docs" / "clusters" / "systemd" / "murmuration-node@.service"
INSTALLED = "/opt/murmuration/bin/"
OURS = f"{Path(sys.executable).parent}/"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze (package systemd)"
)


def verified(folder: Path, unit: str) -> str:
    """What systemd-analyze says of host b's unit, with our command in place of the installed."""
    path = folder / "murmuration-node@b.service"
    path.write_text(unit.replace(INSTALLED, OURS))
    # Whether the manual is installed here says nothing about the unit.
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    assert verified(tmp_path, UNIT.read_text()) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("RestartSec=10", "RestartSecs=10", "Unknown key"),
        ("KillMode=mixed", "KillMode=mild", "kill mode"),
        ("bin/murmuration node", "bin/no-such-command node", "not executable"),
    ],
)
def test_a_mistake_in_the_unit_would_be_noticed(
    tmp_path: Path, right: str, wrong: str, says: str
) -> None:
    unit = UNIT.read_text()
    assert unit.count(right) == 1
    assert says in verified(tmp_path, unit.replace(right, wrong))


def test_the_page_installs_what_the_unit_starts() -> None:
    """Names of the user, the folders and the environment file, which nothing else would compare."""
    unit = UNIT.read_text()
    (user,) = re.findall(r"^User=(.+)$", unit, re.MULTILINE)
    (home,) = re.findall(r"^WorkingDirectory=(.+)$", unit, re.MULTILINE)
    (file,) = re.findall(r"^EnvironmentFile=-(.+)$", unit, re.MULTILINE)
    assert f"useradd --system --home-dir {home} " in commands("install")
    assert commands("install").splitlines()[0].endswith(f" {user}")
    assert f"python3 -m venv {INSTALLED.removesuffix('/bin/')}\n" in commands("install")
    assert f"chown -R {user}:{user} {home}/bundles/b" in commands("bundle")
    assert f"> {file.replace('%i', 'b')}\n" in commands("options")
    assert "MURMURATION_OPTIONS=" in commands("options")


@cache
def allowed() -> frozenset[str]:
    """System calls of the set that the unit lets through."""
    (name,) = re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE)
    return frozenset(calls_of(name))


@cache
def calls_of(name: str) -> frozenset[str]:
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    found: set[str] = set()
    for line in listed.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= calls_of(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return frozenset(found)


def command_of(host: str, options: str) -> list[str]:
    """ExecStart as systemd makes it: instance and variable put in, in words."""
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)
    line = line.replace("%i", host).replace("$MURMURATION_OPTIONS", options)
    return shlex.split(line.replace(INSTALLED, OURS))


@needs_systemd
@pytest.mark.process
@pytest.mark.timeout(180)
def test_a_deployed_host_serves_until_sigterm_and_needs_no_call_that_is_refused(
    tmp_path: Path,
) -> None:
    require_hosts()
    strace = shutil.which("strace")
    trace = tmp_path / "calls.txt"
    with Hosts.create("b") as hosts:
        host = hosts["b"]
        (tmp_path / "hosts.yaml").write_text(f"hosts: {{b: {{address: {host.address}}}}}")
        deploy = [
            "-m",
            "runtime.deploy",
            "--policy",
            PROJECT / "configs/policies/relay.safetensors",
        ]
        deploy += ["--agents", "2", "--hosts", "hosts.yaml", "--out", "bundles", "--rate-hz", "10"]
        host.run([host.python, *deploy], cwd=tmp_path)
        tracing = [strace, "-f", "-qq", "-o", trace] if strace else []
        service = host.popen(
            [*tracing, *command_of("b", f"--metrics-address {host.address}")],
            cwd=tmp_path,
            env=environment(),
            output=tmp_path / "journal.txt",
        )
        node = wait_for("the node to start", lambda: only_node(host.pids()), 60.0)

        def is_ready() -> bool:
            try:
                with host.inside(), urlopen(f"http://{host.address}:9464/readyz", timeout=10) as it:
                    return it.status == 200
            except OSError:
                assert service.poll() is None, (tmp_path / "journal.txt").read_text()
                return False

        wait_for("all agents to be up", is_ready, 90.0)
        os.kill(node, signal.SIGTERM)
        assert service.wait(60.0) == 0, (tmp_path / "journal.txt").read_text()
        wait_for("the host to be empty", lambda: not host.pids(), 10.0)
    (summary,) = tmp_path.glob("runs/b/*/summary.json")
    assert json.loads(summary.read_text())["exit_reason"] == "SIGTERM"
    if not strace:
        pytest.skip("it serves; there is no strace to tell its system calls")
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert {"memfd_create", "epoll_ctl", "execve"} <= used
    assert used <= allowed()


def only_node(pids: list[int]) -> int | None:
    """The node; a child that it is just starting still has its title, and then we look again."""
    found = [pid for pid in pids if title(pid) == "murmuration: node"]
    return found[0] if len(found) == 1 else None


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
