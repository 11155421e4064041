"""The graphs that a policy realises: greedy episodes in one process, edge by edge.

    policy, population -> learner/simulate.py -> for every episode, who lived and which edges opened

Dimension key: E = copies, T = steps of an episode, N = agents, K = out-edges.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.comm.graphs import graph_of
from agents.policy import PolicyFile
from configs.arrays import BoolArray
from configs.schema import RunConfig
from envs import registry
from learner.simulate import SimulatedEpisode, SimulatedStep, simulate


@dataclass(frozen=True, slots=True, eq=False)
class RealisedEpisode:
    """The graphs of one episode."""

    alive_TN: BoolArray
    takes_part_TN: BoolArray
    """Sends and is heard: the living, and the dead as well where they keep relaying."""
    allowed_TNK: BoolArray
    """Out-edges that could be used."""
    open_TNK: BoolArray
    """Out-edges that were used. Agent i reaches agent i + offset k modulo N."""


class Realised(NamedTuple):
    """What an evaluation showed."""

    offsets: tuple[int, ...]
    episodes: list[RealisedEpisode]
    """In the order in which they began."""
    results: list[SimulatedEpisode]
    """In the order in which they ended."""


def realise(config: RunConfig, policy: PolicyFile, episodes: int) -> Realised:
    """Play greedy episodes and keep their graphs.

    Args:
        config: of an evaluation, as `runtime.evaluate.resolve` makes it.
        policy: what all agents play.
        episodes: number of episodes.
    """
    seen: dict[int, list[tuple[BoolArray, ...]]] = {}

    def watch(step: SimulatedStep) -> None:
        rows = (step.alive_EN, step.takes_part_EN, step.allowed_ENK, step.open_ENK)
        for copy, number in enumerate(step.episodes_E.tolist()):
            if number >= 0:
                seen.setdefault(number, []).append(tuple(row[copy].copy() for row in rows))

    copies = registry.make_copies(config.env, config.num_agents, config.seed)
    try:
        results = simulate(
            config,
            policy,
            copies,
            episodes,
            opponents=registry.opponents_of(config.env),
            watch=watch,
        )
    finally:
        copies.close()
    found = [
        RealisedEpisode(*(np.array(part) for part in zip(*steps, strict=True)))
        for _, steps in sorted(seen.items())
    ]
    graph = graph_of(config.comm, config.comm_options, config.num_agents)
    return Realised(graph.offsets, found, results)
