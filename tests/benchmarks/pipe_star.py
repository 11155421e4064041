"""A star of pipes: the driver hands every agent its observation and the messages of the others.

    driver ⇄ multiprocessing pipe ⇄ agent i       messages and beacons travel through the driver

What one writes first: forked processes, pickled tuples of arrays, a loop over all pipes.
"""

import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from tests.benchmarks.case import Figures, serve
from tests.benchmarks.forked import forked, raise_open_files
from tests.benchmarks.process_cost import cpu_time, mean_pss_mb
from tests.benchmarks.relay_driver import RelayDriver
from tests.benchmarks.relayed_agent import RelayedAgent, Reply
from tests.benchmarks.turns import Played, turns_of
from tests.benchmarks.workload import Workload


def measure(work: Workload) -> Figures:
    """Steps a second and cpu per agent-step, the driver's included."""
    raise_open_files(8 * work.agents + 200)
    began_s = time.monotonic()
    pairs = [Pipe() for _ in range(work.agents)]
    pipes = [ours for ours, _ in pairs]
    with forked(_agent, [(work, agent, theirs) for agent, (_, theirs) in enumerate(pairs)]) as them:
        pids = [process.pid for process in them if process.pid]
        for pipe in pipes:
            pipe.recv()
        start_s = time.monotonic() - began_s
        before = [cpu_time(pid) for pid in pids]
        driver_before_s = time.process_time()
        played = _play(work, pipes)
        driver_s = time.process_time() - driver_before_s
        agents_s = sum(
            (cpu_time(pid) - earlier).total_s for pid, earlier in zip(pids, before, strict=True)
        )
        pss_mb = mean_pss_mb(pids)
        for pipe in pipes:
            pipe.send(None)
    agent_steps = played.ticks * work.agents * work.copies
    return {
        "start_s": start_s,
        "pss_mb": pss_mb,
        "ticks": float(played.ticks),
        "steps_per_s": played.ticks * work.copies / played.wall_s,
        "cpu_us_per_agent_step": 1e6 * (agents_s + driver_s) / agent_steps,
    }


def _play(work: Workload, pipes: "list[Connection[Any, Any]]") -> Played:
    turns = turns_of(work.seconds, work.turns)
    driver = RelayDriver(work)
    tick = 0
    while turns.may_tick():
        for agent, pipe in enumerate(pipes):
            pipe.send((tick, driver.observation(agent)))
        replies: list[Reply] = [pipe.recv() for pipe in pipes]
        driver.take(replies)
        tick += 1
    return turns.total


def _agent(work: Workload, agent: int, pipe: "Connection[Any, Any]") -> None:
    me = RelayedAgent(work, agent)
    pipe.send("ready")
    while (said := pipe.recv()) is not None:
        tick, observation = said
        pipe.send(me.step(tick, observation))


if __name__ == "__main__":
    serve(Workload, measure)
