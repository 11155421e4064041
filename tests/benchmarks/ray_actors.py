"""Ray actors that do the same work: one actor an agent, messages through the driver.

Ray is no dependency of the project: where it cannot be imported, another interpreter that can may
run this file (`--ray-python`); it needs ray and numpy.
"""

import logging
import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from configs.cpus import usable_cpus
from tests.benchmarks.case import Figures, serve
from tests.benchmarks.relay_driver import RelayDriver
from tests.benchmarks.relayed_agent import RelayedAgent
from tests.benchmarks.turns import turns_of
from tests.benchmarks.workload import Workload


def is_installed() -> bool:
    """Whether this interpreter has Ray."""
    return find_spec("ray") is not None


def measure(work: Workload) -> Figures:
    """Steps a second; Ray's processes are its own matter."""
    ray: Any = import_module("ray")  # only who measures it needs it
    began_s = time.monotonic()
    ray.init(
        num_cpus=usable_cpus(),
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        # An actor claims no core: there are more of them than cores, and they wait most of the
        # time.
        actor = ray.remote(num_cpus=0)(RelayedAgent)
        agents = [actor.remote(work, agent) for agent in range(work.agents)]
        driver = RelayDriver(work)
        ray.get([agent.step.remote(0, driver.observation(i)) for i, agent in enumerate(agents)])
        start_s = time.monotonic() - began_s
        turns, tick = turns_of(work.seconds, work.turns), 0
        while turns.may_tick():
            steps = [
                agent.step.remote(tick, driver.observation(i)) for i, agent in enumerate(agents)
            ]
            driver.take(ray.get(steps))
            tick += 1
    finally:
        ray.shutdown()
    return {
        "start_s": start_s,
        "ticks": float(tick),
        "steps_per_s": tick * work.copies / turns.total.wall_s,
    }


if __name__ == "__main__":
    serve(Workload, measure)
