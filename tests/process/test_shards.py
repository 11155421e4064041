"""Runs whose copies are shared out among processes: the same episodes, and a clean end."""

import dataclasses
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from configs.schema import EnvName, RunConfig
from runtime.evaluate import play
from runtime.run.plan import RunEnd
from runtime.run.view import RunSnapshot
from tests.process.runs import (
    SilentView,
    murmuration_processes,
    processes_of,
    run_config,
    undecided_policy,
    wait_for,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

ENDLESS = 1_000_000
"""Episodes."""


def sharded(env: EnvName, num_shards: int, **options: object) -> RunConfig:
    return run_config(env, 8, copies=5, env_options={"shards": num_shards, **options})


class Meddler(SilentView):
    """Does something to the run's processes as soon as episodes are being played."""

    def __init__(self, meddle: Callable[[Mapping[str, int]], None]) -> None:
        self._meddle: Callable[[Mapping[str, int]], None] | None = meddle

    def update(self, snapshot: RunSnapshot) -> None:
        if self._meddle is not None and snapshot.episodes:
            meddle, self._meddle = self._meddle, None
            meddle(processes_of(os.getpgrp()))


def meddle(config: RunConfig, folder: Path, action: Callable[[Mapping[str, int]], None]) -> RunEnd:
    """Play until somebody meddles; nothing may be left then."""
    policy = undecided_policy(config)
    outcome, _ = play(config, policy, ENDLESS, folder, Meddler(action))
    wait_for("all processes to be gone", lambda: not murmuration_processes(), 5.0)
    return outcome


@pytest.mark.slow
def test_a_run_in_shards_plays_what_a_run_without_them_plays(tmp_path: Path) -> None:
    results: list[list[tuple[float, int, int]]] = []
    for num_shards in (1, 3):
        config = sharded("battle", num_shards, max_cycles=30, opponent="scripted+random")
        folder = tmp_path / str(num_shards)
        outcome, run = play(config, undecided_policy(config), 8, folder, SilentView())
        assert outcome.exit_code == 0
        results.append([(r.episode_return, r.length, r.won) for r in run.board.evaluated])
    assert results[0] == results[1]
    assert len({result[0] for result in results[0]}) > 1, "equal episodes prove nothing"
    assert murmuration_processes() == []


def test_a_shard_that_dies_ends_the_run_and_is_named(tmp_path: Path) -> None:
    def kill(processes: Mapping[str, int]) -> None:
        os.kill(processes["world shard 1"], signal.SIGKILL)

    outcome = meddle(sharded("relay", 2), tmp_path, kill)
    assert outcome.exit_code == 1
    assert outcome.reason == "the world's shard 1 died (signal 9)"


@pytest.mark.slow
def test_a_shard_that_hangs_ends_the_run_and_is_named(tmp_path: Path) -> None:
    config = sharded("relay", 2)
    runtime = dataclasses.replace(config.runtime, silent_timeout_s=4.0)
    config = dataclasses.replace(config, runtime=runtime)

    def stop(processes: Mapping[str, int]) -> None:
        os.kill(processes["world shard 0"], signal.SIGSTOP)

    outcome = meddle(config, tmp_path, stop)
    assert outcome.exit_code == 1
    assert outcome.reason == "the world's shard 0 has not answered for 2 s"


def test_a_world_that_dies_takes_its_shards_along(tmp_path: Path) -> None:
    def kill(processes: Mapping[str, int]) -> None:
        assert {"world shard 0", "world shard 1"} <= processes.keys()
        os.kill(processes["world shard 0"], signal.SIGSTOP)
        os.kill(processes["world"], signal.SIGKILL)

    outcome = meddle(sharded("relay", 2), tmp_path, kill)
    assert outcome.exit_code == 1
    assert "the world process died (signal 9)" in outcome.reason
