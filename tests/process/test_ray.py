"""Runs whose hosts Ray gives: several raylets on this machine, one of them killed and replaced."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agents.policy import PolicyFile, load_policy
from configs.schema import GateTiming, RunConfig
from learner.experience.episode import Episode
from runtime.ray.placer import RayPlacer
from tests.process.ray_cluster import RayCluster, needs_ray, wait_until_dead
from tests.process.runs import Launched, run_config, undecided_policy, wait_for
from tests.process.test_parity import hold_against_unroll, record
from tests.process.test_studies import STUDY, study

pytestmark = [needs_ray, pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(400)]

RAYLETS = 3
NUM_AGENTS = 6
TASK = ("--env", "relay", "--agents", f"{NUM_AGENTS}", "--env-copies", "4")
ENDLESS = ("--steps", "100000000", "--evaluation.interval-steps", "0")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster.start(RAYLETS) as cluster:
        yield cluster


def by_ray(cluster: RayCluster, hosts: int) -> tuple[str, ...]:
    place = ("--placer", "ray", "--ray-address", cluster.address, "--hosts-count", f"{hosts}")
    return (*place, "--ray-timeout-s", "120")


@contextlib.contextmanager
def placed(cluster: RayCluster, config: RunConfig, folder: Path) -> Generator[RayPlacer]:
    """Hosts for an evaluation with this configuration."""
    runtime = dataclasses.replace(
        config.runtime,
        placer="ray",
        hosts_count=RAYLETS,
        ray_address=cluster.address,
        ray_timeout_s=120.0,
    )
    placer = RayPlacer.open(dataclasses.replace(config, runtime=runtime), folder)
    try:
        placer.begin()
        yield placer
    finally:
        placer.close()


def recorded(
    cluster: RayCluster, config: RunConfig, policy: PolicyFile, folder: Path
) -> list[Episode]:
    folder.mkdir()
    with placed(cluster, config, folder) as placer:
        assert {len(host.agents) for host in placer.head.book.hosts.hosts} <= {2, 3}
        return record(config, policy, 4, folder, placer.head, placer)


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_agents_on_three_raylets_do_what_the_unroll_does(
    cluster: RayCluster, timing: GateTiming, tmp_path: Path
) -> None:
    config = run_config(
        "battle", 8, timing=timing, transport="tcp", env_options={"opponent": "scripted"}
    )
    policy = undecided_policy(config)
    hold_against_unroll(config, policy, recorded(cluster, config, policy, tmp_path / "run"))


def test_training_goes_on_when_a_raylet_is_killed_and_replaced(
    cluster: RayCluster, tmp_path: Path
) -> None:
    hasty = ("--agents.peer-timeout-s", "1", "--runtime.host-timeout-s", "3")
    with Launched(tmp_path, *TASK, *ENDLESS, *hasty, *by_ray(cluster, RAYLETS)) as run:

        def figure(name: str) -> float:
            assert run.process.poll() is None, run.output.read_text()
            return float(run.newest_metrics().get(name, 0.0))

        def learns() -> bool:
            return figure("agent/up") == NUM_AGENTS and figure("learner/updates") > 3

        wait_for("all agents to play", learns, 120.0)
        assert len(cluster.hosts()) == 2, "the head's agents are the launcher's to start"
        raylet, node = sorted(cluster.hosts().items())[0]
        os.kill(raylet, signal.SIGKILL)
        wait_until_dead(node)
        wait_for("the host to be given up", lambda: figure("agent/up") < NUM_AGENTS, 60.0)
        steps = figure("env/steps")
        wait_for("more steps without it", lambda: figure("env/steps") > steps + 40, 60.0)
        assert figure("agent/up") < NUM_AGENTS, "there is no other place yet"

        cluster.add()
        wait_for("its agents elsewhere", lambda: figure("agent/up") == NUM_AGENTS, 120.0)
        episodes, updates = figure("learner/episodes"), figure("learner/updates")
        wait_for(
            "more whole episodes: of agents of all hosts",
            lambda: (
                figure("learner/episodes") > episodes + 8 and figure("learner/updates") > updates
            ),
            60.0,
        )
        (folder,) = tmp_path.glob("runs/*")
        os.kill(run.process.pid, signal.SIGINT)
        assert run.finish(60.0) == 130, run.output.read_text()
        output = run.output.read_text()
    assert "Traceback" not in output
    assert output.count("Ray is asked for another place") == 1
    assert run.summary()["exit_reason"] == "interrupted"
    names = {path.name for path in (folder / "hosts").iterdir()}
    assert len(names) == 2
    assert any(name.endswith(".2") for name in names), "what was lost has left no logs"
    logs = "".join(path.read_text() for path in folder.glob("hosts/*/logs/*.log"))
    assert "ready, incarnation 1" in logs, "above what was seen of its earlier life"
    assert "Traceback" not in logs
    wait_for("no node to be left", lambda: not cluster.hosts(), 30.0)

    # What has been learnt acts on three raylets as in the learner.
    config = run_config("relay", NUM_AGENTS, transport="tcp")
    policy = load_policy(folder / "policy.safetensors")
    played = recorded(cluster, config, policy, tmp_path / "evaluation")
    with pytest.raises(AssertionError, match="somebody must die"):  # the last thing that it asks
        hold_against_unroll(config, policy, played, varied=False)


def test_agents_of_a_lost_raylet_move_and_the_host_that_is_placed_anew_stands_by(
    cluster: RayCluster, tmp_path: Path
) -> None:
    hasty = ("--agents.peer-timeout-s", "1", "--runtime.host-timeout-s", "3")
    moves = ("--rebalance", "--runtime.rebalance-after-s", "4")
    with Launched(tmp_path, *TASK, *ENDLESS, *hasty, *moves, *by_ray(cluster, RAYLETS)) as run:

        def figure(name: str) -> float:
            assert run.process.poll() is None, run.output.read_text()
            return float(run.newest_metrics().get(name, 0.0))

        def learns() -> bool:
            return figure("agent/up") == NUM_AGENTS and figure("learner/updates") > 3

        def wait_for_episodes() -> None:
            episodes = figure("learner/episodes")
            wait_for("episodes", lambda: figure("learner/episodes") > episodes + 8, 60.0)

        wait_for("all agents to play", learns, 120.0)
        raylet, node = sorted(cluster.hosts().items())[0]
        os.kill(raylet, signal.SIGKILL)
        wait_until_dead(node)
        wait_for("moves", lambda: figure("agent/moved") == 2, 60.0)
        wait_for("all to be up again", lambda: figure("agent/up") == NUM_AGENTS, 60.0)
        wait_for_episodes()

        cluster.add()
        (folder,) = tmp_path.glob("runs/*")
        log = folder / "logs" / "launcher-0.log"
        wait_for("the host", lambda: log.read_text().count("has joined") == RAYLETS, 120.0)
        wait_for_episodes()
        assert len(cluster.hosts()) == 2
        assert (figure("agent/up"), figure("agent/moved")) == (NUM_AGENTS, 2), "nobody lives twice"
        os.kill(run.process.pid, signal.SIGINT)
        assert run.finish(60.0) == 130, run.output.read_text()
    assert "Traceback" not in run.output.read_text() + log.read_text()
    wait_for("no node to be left", lambda: not cluster.hosts(), 30.0)


def test_a_run_has_the_names_of_its_hosts_in_ray_and_the_learner_a_gpu(
    cluster: RayCluster, tmp_path: Path
) -> None:
    config = run_config("relay", NUM_AGENTS, transport="tcp")
    folder = tmp_path / "20260101-000000-relay"
    folder.mkdir()
    with placed(cluster, config, folder) as placer:
        assert placer.learner_environment == {"CUDA_VISIBLE_DEVICES": "0"}, "of the head's bundle"
        util: Any = import_module("ray.util")
        names = {actor["name"] for actor in util.list_named_actors(all_namespaces=True)}
        groups = [group["name"] for group in util.placement_group_table().values()]
    assert names == {f"{folder.name}/{host}" for host in ("head", "host-1", "host-2")}
    assert folder.name in groups


def test_a_run_on_ray_ends_as_it_should_and_brings_its_logs_home(
    cluster: RayCluster, tmp_path: Path
) -> None:
    few = ("--steps", "400", "--evaluation.episodes", "4", "--evaluation.interval-steps", "0")
    with Launched(tmp_path, *TASK, *few, *by_ray(cluster, 2)) as run:
        assert run.finish(200.0) == 0, run.output.read_text()
    assert run.summary()["exit_reason"] == "finished"
    (folder,) = tmp_path.glob("runs/*")
    assert {path.name for path in folder.glob("hosts/host-1/logs/*")} == {
        "node-0.log",
        *(f"agent-{agent}.log" for agent in range(3, 6)),
    }
    assert (folder / "hosts" / "host-1" / "summary.json").exists()
    wait_for("no node to be left", lambda: not cluster.hosts(), 30.0)


def test_resources_that_ray_does_not_have_are_one_line(cluster: RayCluster, tmp_path: Path) -> None:
    place = ("--placer", "ray", "--ray-address", cluster.address, "--hosts-count", "6")
    with Launched(tmp_path, *TASK, *place, "--ray-timeout-s", "2", "--ray-cpus", "2") as run:
        assert run.finish(60.0) == 2
        output = run.output.read_text()
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    wanted = "6 hosts with 2 CPUs each and 1 GPU here"
    assert f"{wanted} could not be had in 2 s from 3 Ray nodes with 3 of 3 CPU free" in line
    assert "--ray-timeout-s" in line
    assert list((tmp_path / "runs").iterdir()) == [], "nothing was begun"


# --- studies --------------------------------------------------------------------------------------


def test_trainings_of_a_study_are_tasks_and_their_results_lie_in_its_cells(
    cluster: RayCluster, tmp_path: Path
) -> None:
    by_ray = ("--pool", "ray", "--ray-address", cluster.address)
    with study(tmp_path, *by_ray) as process:
        output, _ = process.communicate(timeout=300.0)
        assert process.returncode == 0, output
    cells = list(tmp_path.glob("cells/*/seed-0"))
    assert len(cells) == 2
    for cell in cells:
        assert list(cell.glob("runs/*/policy.safetensors"))
        assert list(cell.glob("evaluation*.json"))
    assert (tmp_path / "relay-tiny-smoke" / "table.md").exists()


def test_a_study_that_is_interrupted_cancels_its_tasks_and_goes_on_from_checkpoints(
    cluster: RayCluster, tmp_path: Path
) -> None:
    long = {**STUDY, "arms": {"sops": None}}
    long["scales"] = {"smoke": {**STUDY["scales"]["smoke"], "steps": 100_000}}
    by_ray = ("--pool", "ray", "--ray-address", cluster.address)

    def played() -> bool:
        return any(path.stat().st_size for path in tmp_path.glob("cells/*/*/runs/*/episodes.jsonl"))

    with study(tmp_path, *by_ray, content=long) as process:
        wait_for("the first episodes", played, 120.0)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120.0)
        assert process.returncode == 130, output
    (run,) = tmp_path.glob("cells/*/*/runs/*")
    assert (run / "checkpoint.safetensors").exists(), "it was let write one"
    assert "interrupted" in (run / "summary.json").read_text()
    with study(tmp_path, *by_ray, "--steps", "100000", content=long) as process:
        wait_for("a second life", lambda: "life: 1" in (run / "config.yaml").read_text(), 120.0)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120.0)
    assert "goes on after" in output


def test_resources_that_no_ray_node_has_are_one_line(cluster: RayCluster, tmp_path: Path) -> None:
    by_ray = ("--pool", "ray", "--ray-address", cluster.address, "--ray-resources", "a100=1")
    with study(tmp_path, *by_ray) as process:
        output, _ = process.communicate(timeout=120.0)
        assert process.returncode == 2, output
    (line,) = output.splitlines()
    assert line.startswith("error: --pool ray: no Ray node has 1 a100 for a training")
