"""An agent whose messages somebody else carries: what pipes and Ray actors have in common.

    tick, (observation, messages heard, beacons heard) -> step -> (actions, message, beacon, edges)

numpy and the standard library only: Ray's interpreter imports this too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.plain_policy import FloatArray, PlainPolicy
from tests.benchmarks.workload import Workload

Heard = list[tuple[int, NDArray[Any]]]
"""Offset of the sender, and what it has sent."""
Observation = tuple[NDArray[Any], Heard, Heard]
Reply = tuple[NDArray[Any], NDArray[Any], tuple[int, ...], NDArray[Any], tuple[int, ...]]
"""Actions, message, offsets that it goes to, beacon, offsets that it goes back to."""


class RelayedAgent:
    """One agent of a workload."""

    def __init__(self, work: Workload, agent: int) -> None:
        self._work, self._agent = work, agent
        self._policy = PlainPolicy(work, agent)
        shape = work.offsets, work.copies
        self._messages: FloatArray = np.zeros((*shape, work.message), np.float32)
        self._beacons: FloatArray = np.zeros((*shape, work.beacon), np.float32)

    def step(self, tick: int, observation: Observation) -> Reply:
        seen, messages, beacons = observation
        for k, message in messages:
            self._messages[k] = message
        for k, beacon in beacons:
            self._beacons[k] = beacon
        actions, message, beacon = self._policy.step(
            seen.astype(np.float32), self._messages, self._beacons
        )
        return (
            actions.astype(np.uint8),
            message.astype(np.float16),
            self._work.message_edges(self._agent, tick),
            (127.0 * beacon).astype(np.int8),
            self._work.beacon_edges(self._agent, tick),
        )
