"""docs/deploy.md, as a reader would follow it: three hosts, base dependencies, a hundred episodes.

Code blocks say where they are run: `sh maker`, `sh a b c`; those that end in & go on until Ctrl-C.
Addresses are replaced by those of the test's hosts, and scp by cp.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.process import base_environment
from tests.process.namespaces import Host, Hosts, require_hosts

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

DOCUMENT = base_environment.PROJECT / "docs" / "deploy.md"
SCP = "#!/bin/sh\n# scp -r FOLDER HOST:NAME, between folders that stand for machines\n"


@dataclass(frozen=True)
class Block:
    places: tuple[str, ...]
    commands: tuple[str, ...]
    stays: bool


def blocks(text: str) -> Iterator[Block]:
    """Shell blocks of the document, in its order."""
    for where, body in re.findall(r"^```sh (.+)\n((?:.+\n)+?)```$", text, re.MULTILINE):
        *places, last = where.split()
        stays = last == "&"
        yield Block(tuple(places if stays else (*places, last)), tuple(body.splitlines()), stays)


def hosts_file(text: str) -> str:
    (content,) = re.findall(r"^```yaml hosts.yaml\n((?:.+\n)+?)```$", text, re.MULTILINE)
    return content


@pytest.mark.slow
def test_the_documented_deployment_plays_a_hundred_episodes_in_real_time(tmp_path: Path) -> None:
    require_hosts()
    text = DOCUMENT.read_text()
    python = base_environment.make(tmp_path / "environment")
    with Hosts.create("a", "b", "c") as hosts:
        for rank, host in enumerate(hosts, start=1):
            text = text.replace(f"192.0.2.{rank}", host.address)
        machines = {name: tmp_path / "machines" / name for name in ("maker", "a", "b", "c")}
        for folder in machines.values():
            folder.mkdir(parents=True)
            (folder / "docs").symlink_to(base_environment.PROJECT / "docs")
        (machines["maker"] / "configs").symlink_to(base_environment.PROJECT / "configs")
        (machines["maker"] / "hosts.yaml").write_text(hosts_file(text))
        results = Follower(hosts, machines, python, tmp_path / "bin").follow(list(blocks(text)))
    single = results["maker"]
    parts = [results[name] for name in ("a", "b", "c")]
    assert [part["agents"] for part in parts] == [6, 6, 4]
    assert all(part["episodes"] == 100 for part in parts)
    together = sum(p["return_sum"] for p in parts) / sum(p["return_count"] for p in parts)
    late = sum(part["actions_missing"] for part in parts)
    asked = sum(part["steps"] * part["agents"] for part in parts)
    print(
        f"100 episodes on three hosts in real time: return {together:.3f}; on one machine in "
        f"lock-step: {single['return_mean']:.3f}; actions that came too late: {late} of {asked}"
    )
    for name in ("a", "b", "c"):
        (summary,) = machines[name].glob("runs/*/summary.json")
        figures = json.loads(summary.read_text())
        print(
            f"host {name}: action latency p50 {figures['action_latency_p50_ms']:.2f} ms, p99 "
            f"{figures['action_latency_p99_ms']:.2f} ms, late {figures['late']:.0f}"
        )
        assert figures["action_latency_p50_ms"] > 0.0
        assert figures["exit_reason"] == "interrupted"
    assert single["return_mean"] > 0.95
    # Chance is a quarter, and so is everything without messages between the hosts.
    assert together > 0.6


class Follower:
    """Does what the document says, in the places where it says so."""

    def __init__(self, hosts: Hosts, machines: dict[str, Path], python: Path, tools: Path) -> None:
        self._hosts = hosts
        self._machines = machines
        self._path = f"{tools}:{os.environ['PATH']}"
        tools.mkdir()
        (tools / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        root = machines["maker"].parent
        copy = f'cp -r "$2" "{root}/${{3%%:*}}/${{3#*:}}"\n'
        (tools / "scp").write_text(SCP + copy)
        for tool in tools.iterdir():
            tool.chmod(0o755)

    def follow(self, document: list[Block]) -> dict[str, dict[str, float]]:
        """The last JSON object that each place printed."""
        results: dict[str, dict[str, float]] = {}
        staying: list[subprocess.Popen[str]] = []
        bodies: dict[str, subprocess.Popen[str]] = {}
        environment = {"PATH": self._path, "START_AT": str(int(time.time()) + 12)}
        for block in document:
            for place in block.places:
                folder = self._machines[place]
                for command in block.commands:
                    if place == "maker":
                        self._finish(bodies, results)
                        output = subprocess.run(
                            command, shell=True, cwd=folder, env={**os.environ, **environment},
                            check=True, capture_output=True, text=True, timeout=200.0,
                        ).stdout  # fmt: skip
                        if output.startswith("{"):
                            results[place] = json.loads(output)
                        continue
                    started = self._start(self._hosts[place], command, folder, environment)
                    if block.stays:
                        staying.append(started)
                    else:
                        bodies[place] = started
        for process in staying:
            os.killpg(process.pid, signal.SIGINT)
        for process in staying:
            assert process.wait(20.0) == 0
        return results

    def _start(
        self, host: Host, command: str, folder: Path, environment: dict[str, str]
    ) -> subprocess.Popen[str]:
        shell = ["sh", "-c", f"exec {command}"]
        return host.popen(shell, cwd=folder, env=environment, output=folder / "output.txt")

    def _finish(
        self, bodies: dict[str, subprocess.Popen[str]], results: dict[str, dict[str, float]]
    ) -> None:
        """Wait for the bodies, which print a line of JSON each."""
        for place, process in bodies.items():
            output = self._machines[place] / "output.txt"
            assert process.wait(180.0) == 0, output.read_text()
            lines = [line for line in output.read_text().splitlines() if line.startswith("{")]
            results[place] = json.loads(lines[-1])
        bodies.clear()
