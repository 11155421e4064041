"""Who gets which message with the next observation: the driver's part where agents have no edges.

numpy and the standard library only: Ray's interpreter imports this too.
"""

from collections import defaultdict

import numpy as np

from runtime.net import topology
from tests.benchmarks.relayed_agent import Heard, Observation, Reply
from tests.benchmarks.workload import Workload


class RelayDriver:
    """Sorts what agents say by who is to hear it."""

    def __init__(self, work: Workload) -> None:
        self._seen = np.zeros((work.copies, work.observation_dim), np.float16)
        self._outs = [topology.out_neighbours(i, work.agents) for i in range(work.agents)]
        self._ins = [topology.in_neighbours(i, work.agents) for i in range(work.agents)]
        self._messages: dict[int, Heard] = defaultdict(list)
        self._beacons: dict[int, Heard] = defaultdict(list)

    def observation(self, agent: int) -> Observation:
        """For an agent, once in a tick."""
        return self._seen, self._messages.pop(agent, []), self._beacons.pop(agent, [])

    def take(self, replies: list[Reply]) -> None:
        """Everybody's, in the order of the agents."""
        for sender, (_, message, message_edges, beacon, beacon_edges) in enumerate(replies):
            for k in message_edges:
                self._messages[self._outs[sender][k]].append((k, message))
            for k in beacon_edges:
                self._beacons[self._ins[sender][k]].append((k, beacon))
