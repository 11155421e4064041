"""The same parity as on one machine, with the agents on three hosts: real addresses, keys, tcp."""

import dataclasses
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from configs.schema import GateTiming
from runtime.deployment.bundle import make_keys, read_bundle, write_bundles
from runtime.deployment.hosts import load_hosts
from tests.process.namespaces import Hosts, require_hosts
from tests.process.runs import run_config, undecided_policy
from tests.process.test_parity import hold_against_unroll, record

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.mark.parametrize("timing", ["causal", pytest.param("paper", marks=pytest.mark.slow)])
def test_agents_on_three_hosts_do_what_the_unroll_does(timing: GateTiming, tmp_path: Path) -> None:
    require_hosts()
    config = run_config(
        "battle", 8, timing=timing, transport="tcp", env_options={"opponent": "scripted"}
    )
    policy = undecided_policy(config)
    with Hosts.create("a", "b", "c") as hosts:
        file = tmp_path / "hosts.yaml"
        lines = [f"  {host.name}: {{address: {host.address}}}" for host in hosts]
        file.write_text("\n".join(["head: a", "hosts:", *lines]))
        plan = load_hosts(file, 8)
        bundles = tmp_path / "bundles"
        write_bundles(bundles, plan, make_keys(plan))
        outputs = {name: tmp_path / f"{name}.txt" for name in ("b", "c")}
        nodes = {
            name: hosts[name].popen(
                [
                    *(hosts[name].python, "-m", "runtime.node"),
                    *("--join", hosts["a"].address, "--bundle", bundles / name),
                    *("--runs-dir", tmp_path / f"runs-{name}", "--metrics-port", "0"),
                ],
                output=output,
            )
            for name, output in outputs.items()
        }
        # It serves every process that we ever start: it must not live, and die, in this host.
        resource_tracker.ensure_running()
        with hosts["a"].inside():
            episodes = record(config, policy, 4, tmp_path / "a", read_bundle(bundles / "a"))
        for name, node in nodes.items():
            assert node.wait(30.0) == 0, outputs[name].read_text()
    hold_against_unroll(config, policy, episodes)
    assert {len(host.agents) for host in plan.hosts} == {2, 3}, "every host has its share"
    assert dataclasses.asdict(config)["runtime"]["transport"] == "tcp"
