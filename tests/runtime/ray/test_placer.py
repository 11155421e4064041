"""What is asked for; tests/process/test_ray.py asks a cluster."""

import dataclasses
from pathlib import Path

import pytest

from configs.load import ConfigError, load_run_config
from configs.schema import RunConfig
from runtime.deployment.hosts import spread
from runtime.launch import make_plan
from runtime.net.errors import SetupError
from runtime.ray.placer import RayPlacer, gpus_wanted, ports_wanted
from tests.process.ray_cluster import needs_ray


def config_of(*words: str) -> RunConfig:
    return load_run_config(["--env", "relay", "--agents", "4", *words])


@pytest.mark.parametrize(
    ("words", "here", "wanted"),
    [
        (("--device", "cpu"), 8.0, 0),
        (("--device", "auto"), 0.0, 0),
        (("--device", "auto"), 1.0, 1),
        (("--device", "auto", "--learner.ranks", "2"), 1.0, 0),
        (("--device", "cuda", "--learner.ranks", "2"), 0.0, 2),
    ],
)
def test_gpus_are_asked_for_where_the_learner_can_use_them(
    words: tuple[str, ...], here: float, wanted: int
) -> None:
    assert gpus_wanted(config_of(*words), here) == wanted
    by_hand = config_of(*words, *BY_RAY, "--ray-gpus", "3")
    assert gpus_wanted(by_hand, here) == 3


BY_RAY = ("--placer", "ray", "--hosts-count", "2")


def test_a_host_keeps_ports_for_agents_that_may_move_to_it() -> None:
    hosts = spread({"head": ("10.0.0.1", 20_000), "host-1": ("10.0.0.2", 20_000)}, 4)
    assert ports_wanted(config_of(*BY_RAY), hosts, "host-1") == 8 + 2
    assert ports_wanted(config_of(*BY_RAY, "--rebalance"), hosts, "host-1") == 8 + 4


def test_a_hosts_file_and_ray_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="leave out --hosts"):
        config_of(*BY_RAY, "--hosts", "hosts.yaml")


@pytest.mark.parametrize("words", [("--placer", "ray"), ("--hosts-count", "2")])
def test_ray_wants_to_know_how_many_hosts(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--placer ray and --hosts-count N go together"):
        config_of(*words)


def test_there_is_an_agent_for_each_host(tmp_path: Path) -> None:
    config = config_of("--placer", "ray", "--hosts-count", "5")
    with pytest.raises(SetupError, match="--hosts-count 5: there are 4 agents"):
        RayPlacer.open(config, tmp_path)


def test_one_process_has_no_hosts(tmp_path: Path) -> None:
    config = config_of(*BY_RAY, "--serial", "--runtime.runs-dir", f"{tmp_path}")
    with pytest.raises(SetupError, match=r"--serial .* leave out --placer ray"):
        make_plan(config)


@needs_ray
def test_what_cannot_be_had_leaves_no_run_behind(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    config = config_of(*BY_RAY, "--ray-address", "nowhere", "--runtime.runs-dir", f"{runs}")
    config = dataclasses.replace(
        config, runtime=dataclasses.replace(config.runtime, metrics_port=0)
    )
    with pytest.raises(SetupError, match="--ray-address nowhere"):
        make_plan(config)
    assert list(runs.iterdir()) == []
