"""Deployed hosts with bundles of different deployments: nobody is let in, and both say why."""

import signal
import subprocess
from pathlib import Path

import pytest

from runtime.deployment.bundle import DeployOptions, make_keys, write_bundles
from runtime.deployment.hosts import load_hosts
from tests.process.base_environment import PROJECT
from tests.process.namespaces import Hosts, require_hosts
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

POLICY = PROJECT / "configs" / "policies" / "relay.safetensors"
STRANGE = "do not know each other's keys"
KNOWN = "know each other now"


def test_a_stale_bundle_is_named_until_it_is_replaced(tmp_path: Path) -> None:
    require_hosts()
    with Hosts.create("a", "b") as hosts:
        file = tmp_path / "hosts.yaml"
        lines = [f"  {host.name}: {{address: {host.address}}}" for host in hosts]
        file.write_text("\n".join(["hosts:", *lines]))
        plan = load_hosts(file, 4)
        options = DeployOptions(comm="sops", gate_mode="learned")
        for deployment in ("old", "new"):
            write_bundles(
                tmp_path / deployment,
                plan,
                make_keys(plan),
                policy=POLICY.read_bytes(),
                options=options,
            )

        nodes: dict[str, subprocess.Popen[str]] = {}

        def start(name: str, deployment: str) -> Path:
            output = tmp_path / f"{name}-{deployment}.txt"
            bundle = tmp_path / deployment / name
            command = (hosts[name].python, "-m", "runtime.node", "--bundle", bundle)
            runs = ("--metrics-port", "0", "--runs-dir", tmp_path / f"runs-{output.stem}")
            nodes[name] = hosts[name].popen([*command, *runs], output=output, cwd=PROJECT)
            return output

        first, second = start("a", "new"), start("b", "old")
        wait_for("host a to say so", lambda: f"host b and this one {STRANGE}" in first.read_text())
        wait_for("host b to say so", lambda: f"host a and this one {STRANGE}" in second.read_text())
        nodes["b"].send_signal(signal.SIGINT)
        assert nodes["b"].wait(20.0) == 0
        start("b", "new")
        wait_for("host a to know b", lambda: f"host b and this one {KNOWN}" in first.read_text())
        for node in nodes.values():
            node.send_signal(signal.SIGINT)
        assert [node.wait(20.0) for node in nodes.values()] == [0, 0]
