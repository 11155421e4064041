import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from agents.parameters import ParameterStore
from agents.process import pinning
from configs.cpus import usable_cpus
from configs.schema import EnvConfig, RunConfig
from runtime.host.setup import training_setup
from tests.agents_helpers import SPEC, make_flat


def test_neighbours_take_turns_on_the_cores_that_there_are() -> None:
    assert [pinning.core_of(agent, {0, 1}) for agent in range(4)] == [0, 1, 0, 1]
    assert [pinning.core_of(agent, {7, 2, 5}) for agent in range(4)] == [2, 5, 7, 2]


def test_pinning_pays_where_agents_keep_every_core_busy() -> None:
    assert pinning.is_worth_it(4, 2)
    assert not pinning.is_worth_it(3, 2)
    assert not pinning.is_worth_it(100, 1)


@pytest.mark.process
def test_threads_that_start_later_stay_on_the_core_as_well() -> None:
    script = (
        "import os, threading\n"
        "from agents.process.pinning import pin\n"
        "pin(1)\n"
        "cores = []\n"
        "thread = threading.Thread(target=lambda: cores.append(os.sched_getaffinity(0)))\n"
        "thread.start(); thread.join()\n"
        "print(*sorted(os.sched_getaffinity(0) | cores[0]))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(pinning.core_of(1, os.sched_getaffinity(0)))]


def pins(pin: Literal["auto", "on", "off"], *, agents: int = 100, learns: bool = False) -> bool:
    config = RunConfig(num_agents=agents, env=EnvConfig(name="relay"))
    runtime = dataclasses.replace(config.runtime, pin=pin)
    setup = training_setup(
        dataclasses.replace(config, runtime=runtime),
        SPEC,
        ParameterStore(make_flat(), 1),
        ships="none",
        learns=learns,
        place=None,
        launcher_endpoint="",
        world_endpoint="",
        learner_endpoint="",
        ipc_dir="",
        logs=Path(),
    )
    return setup.pin


@pytest.mark.skipif(usable_cpus() < 2, reason="there is one core to be pinned to")
def test_agents_are_pinned_where_nobody_else_needs_the_cores() -> None:
    assert pins("auto")
    assert not pins("auto", learns=True)
    assert not pins("auto", agents=usable_cpus())
    assert pins("on", learns=True)
    assert not pins("off")
