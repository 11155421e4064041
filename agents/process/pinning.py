"""Agents kept on one core each, together with ZeroMQ's thread.

In lock-step an agent and its I/O thread take turns: on one core what one has written is still in
the cache when the other reads it, and neither wakes up on a core where it is a stranger. Neighbours
on the ring alternate, so that both halves have the same to do.
"""

import os
from collections.abc import Set


def core_of(identity: int, cores: Set[int]) -> int:
    """The core of an agent among those that its process may use."""
    ordered = sorted(cores)
    return ordered[identity % len(ordered)]


def is_worth_it(num_agents: int, num_cores: int) -> bool:
    """Whether agents are so many that every core is busy all the time anyway."""
    return num_cores > 1 and num_agents >= 2 * num_cores


def pin(identity: int) -> None:
    """Keep this process, and threads that it starts from now on, on its core."""
    os.sched_setaffinity(0, {core_of(identity, os.sched_getaffinity(0))})
